"""The doctor: each broken thing is found, named and comes with a remedy, and hides nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from mpcify.cli.main import run
from mpcify.cluster.client import Connection
from mpcify.cluster.deployed import network_of, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor.doctor import examine
from mpcify.cluster.doctor.findings import Findings
from mpcify.network import dial
from tests.cluster.deployments import all_serving, deploy, edit
from tests.cluster.doctor.examined import ROLES, flip, of, weights, wrong
from tests.graph.bags import Bag, export


def test_a_cluster_that_works_has_nothing_wrong_at_any_party(out: Path) -> None:
    with all_serving(out):
        found = {role: examine(out / role) for role in ROLES}
    assert {role: each.ok for role, each in found.items()} == dict.fromkeys(ROLES, True)
    assert [each for role in ROLES for each in found[role].findings if each.problem] == []
    assert "same export" in of(found["client"], "session").value
    for peer in ("owner", "helper"):
        assert "ms" in of(found["client"], f"{peer}: line").value
    assert "rounds" in of(found["client"], "request of 4").value
    assert "this party's service" in of(found["owner"], "listen").value
    assert of(found["owner"], "health").value.endswith("says: ok")
    assert of(found["helper"], "owner: service").value == "it serves"
    assert "they dial this party" in of(found["owner"], "peers").value


def test_addresses_at_which_nobody_listens_yet_are_free(out: Path) -> None:
    found = examine(out / "owner")
    assert found.ok
    assert of(found, "listen").value.endswith("is free")
    assert of(found, "health").value.endswith("is free")


def test_parties_that_differ_are_found_and_what_differs_is_named(out: Path) -> None:
    edit(out / "owner", word="b")
    with all_serving(out):
        found = wrong(examine(out / "client"))
    assert [*found] == ["session"]
    assert "MPC-705 party owner: it has other graphs, settings or version" in found["session"].problem
    assert "party init" in found["session"].remedy


def test_folders_of_two_exports_are_found(out: Path, kits: Path, tmp_path: Path) -> None:
    other = deploy(export(Bag(), tmp_path / "parties"), kits, tmp_path / "other")
    shutil.rmtree(out / "client" / "exported")
    shutil.move(other / "client" / "exported", out / "client")
    with all_serving(out):
        found = wrong(examine(out / "client"))
    assert [*found] == ["session"]
    assert "it has other exported folders (of another run of `mpcify export`) than client" in found["session"].problem


def test_a_client_that_has_a_session_is_not_disturbed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "BUSY", 0.3)
    deployment = read_deployment(out / "client")
    programs = programs_of(deployment)
    with all_serving(out):
        connection = Connection(programs, network_of(deployment, programs), 10)
        try:
            connection.connect()
            found = examine(out / "client")
            assert connection.echo(10)["owner"] > 0
            assert connection.links is not None
            assert connection.number == 1
        finally:
            connection.close()
    assert found.ok
    assert of(found, "session").state == "warning"
    assert "session already" in of(found, "session").problem
    assert "gateway" in of(found, "session").remedy


def test_a_check_that_fails_itself_is_a_finding_without_its_text() -> None:
    findings = Findings()
    assert findings.check("it", lambda: {}["secret"]) is None
    assert findings.check("disk", Path("/nowhere").read_bytes) is None
    broken, disk = findings.all
    assert not broken.ok
    assert "KeyError" in broken.problem
    assert "secret" not in broken.problem
    assert "No such file" in disk.problem


def test_the_command_line_answers_with_a_table_or_json_and_2(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(out / "owner"), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["format"], answer["role"], answer["ok"]) == (1, "owner", True)
    assert {"check", "ok", "problem", "remedy", "value"} == answer["checks"][0].keys()
    flip(weights(out / "owner"))
    assert run(["doctor", str(out / "owner"), "--format", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert run(["doctor", str(out / "owner")]) == 2
    captured = capsys.readouterr()
    assert "exported" in captured.out
    assert "wrong" in captured.out
    assert "MPC-701" in captured.err


def test_nothing_that_it_says_is_of_a_key(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = out / "owner" / "kit" / "key.pem"
    lines = key.read_text().splitlines()
    for content in (key.read_bytes(), b"-----BEGIN PRIVATE KEY-----\n" + lines[1].encode() + b"\n"):
        key.write_bytes(content)
        run(["doctor", str(out / "owner"), "--format", "json"])
        captured = capsys.readouterr()
        assert not any(line in captured.out + captured.err for line in lines[1:-1])
