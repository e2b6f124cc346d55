"""The ring engine between a delegate, an owner and a dealer, over mutual TLS, and thin clients over HTTP."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mpcify
from mpcify.cli.main import run
from mpcify.cluster import party
from mpcify.cluster.deployed import connection_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import machine
from mpcify.cluster.doctor.doctor import examine
from mpcify.cluster.gateway.halves import Delegate, halves_application
from mpcify.cluster.gateway.token import NAME, token_in
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.thin import client as thin
from mpcify.cluster.thin.config import read_thin
from mpcify.engines.ring import sharing
from mpcify.engines.ring.config import RingConfig
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from tests.cluster.deployments import all_serving, deploy, quick
from tests.cluster.gateway.service import serving_at
from tests.graph.bags import answers

TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
CLOSE = 1e-3  # of a logit
FOLDERS = ("client", "owner", "dealer", "thin")


@pytest.fixture(scope="module", autouse=True)
def in_haste() -> Iterator[None]:
    with quick() as patch:
        patch.setattr(party, "LATE", 0.5)
        patch.setattr(machine, "processors", lambda: 4.0)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        yield


@contextmanager
def delegate(out: Path) -> Iterator[None]:
    """The delegate's gateway at work, where thin clients look for it."""
    deployment = read_deployment(out / "client")
    with closing(connection_of(deployment)) as connection:
        turns = Turns(deployment.queue)
        token = token_in(out / "client" / NAME)
        app = halves_application(Delegate(connection, turns), connection.programs, token, turns)
        with serving_at(app, read_thin(out / "thin").config.delegate.address.port):
            yield


@pytest.fixture(scope="module")
def out(calibrated: Path, made_kits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All folders, and all at work."""
    made = deploy(calibrated, made_kits, tmp_path_factory.mktemp("ring") / "out", RingConfig(inputs="delegated"))
    with all_serving(made), delegate(made):
        yield made


def test_a_thin_client_is_answered_as_a_simulation_and_costs_what_it_does(out: Path, calibrated: Path) -> None:
    with mpcify.compile(calibrated, engine="ring", inputs="delegated") as simulation:
        _, simulated = simulation(TEXTS)
    with mpcify.connect(out / "thin") as private:
        for _ in range(2):
            logits, cost = private(TEXTS)
            np.testing.assert_allclose(logits, answers(read_all(calibrated)), rtol=0, atol=CLOSE)
            for ours, theirs in ((cost.online, simulated.online), (cost.offline, simulated.offline)):
                assert ours is not None
                assert theirs is not None
                assert (ours.bytes_per_party, ours.rounds) == (theirs.bytes_per_party, theirs.rounds)


def test_infer_and_evaluate_ask_as_a_thin_client(
    out: Path, calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["infer", "--cluster", str(out / "thin"), "--format", "json", "a good film"]) == 0
    found = json.loads(capsys.readouterr().out)
    data = tmp_path / "data.tsv"
    data.write_text(f"sentence\tlabel\na good film\t{found['results'][0]['label']}\n")
    assert run(["evaluate", "--cluster", str(out / "thin"), "--format", "json", "--data", str(data)]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    assert run(["profile", "--cluster", str(out / "thin")]) == 2
    assert "MPC-501 profile" in capsys.readouterr().err


class RecordedError(Exception):
    """Both halves of a request were seen, and not sent."""


def recorded(monkeypatch: pytest.MonkeyPatch, out: Path, text: str) -> dict[str, bytes]:
    """What would go to each place for a text, if seeds were always the same."""
    found: dict[str, bytes] = {}

    def record(self: Any, line: Any, half: Any) -> None:
        found[line.place.name] = half.content
        if len(found) == 2:
            raise RecordedError

    with monkeypatch.context() as patch:
        patch.setattr(thin.ThinConnection, "post", record)
        patch.setattr(sharing, "secrets", SimpleNamespace(token_bytes=bytes))
        with mpcify.connect(out / "thin") as private, pytest.raises(RecordedError):
            private([text])
    return found


def test_what_the_delegate_gets_does_not_depend_on_the_text(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """With equal seeds its bytes are equal, and the owner's are not: they differ by what the texts do."""
    first, second = (recorded(monkeypatch, out, text) for text in ("good film", "bad"))
    assert first["delegate"] == second["delegate"]
    assert first["owner"] != second["owner"]
    assert (len(first["delegate"]), len(first["owner"])) == (32, len(second["owner"]))


def test_a_half_without_the_other_uses_no_set_and_ends_no_session(out: Path) -> None:
    with mpcify.connect(out / "thin") as private:
        before = private(TEXTS[:1])[1]
        connection = private.source
        assert isinstance(connection, thin.ThinConnection)
        with connection.line(connection.delegate) as line:
            connection.post(line, thin.Half("0" * 32, 4, b"s" * 32))
            with pytest.raises(MpcifyError, match="MPC-711 delegate: request: the owner has no half"):
                line.receive(1 << 10)
        after = private(TEXTS[:1])[1]
    assert after.bytes_per_party == before.bytes_per_party


def test_doctor_finds_nothing_wrong_at_any_folder(out: Path) -> None:
    found = {name: examine(out / name) for name in FOLDERS}
    problems = {name: [each for each in diagnosis.findings if not each.ok] for name, diagnosis in found.items()}
    assert problems == {name: [] for name in FOLDERS}
    values = {name: {each.check: each.value for each in diagnosis.findings} for name, diagnosis in found.items()}
    assert found["thin"].role == "thin"
    assert "same export" in values["thin"]["owner: programs"]
    assert values["thin"]["delegate: ready"] == "it is ready"
    assert values["owner"]["desk"].startswith("a desk is open at 127.0.0.1:")
    assert values["owner"]["desk-token"] == values["client"]["gateway-token"] == "for us alone"
    assert "desk" not in values["dealer"].keys() | values["client"].keys()
    assert "inputs delegated" in values["client"]["engine"]


def test_doctor_says_what_a_thin_client_lacks(calibrated: Path, made_kits: Path, tmp_path: Path) -> None:
    made = deploy(calibrated, made_kits, tmp_path / "out", RingConfig(inputs="delegated"))
    diagnosis = examine(made / "thin")
    wrong = {each.check: each.problem for each in diagnosis.findings if not each.ok}
    assert wrong.keys() == {"delegate: programs", "owner: programs"}
    assert all("MPC-703" in problem for problem in wrong.values())
    (made / "thin" / "token-owner").chmod(0o644)
    wrong = {each.check: each.problem for each in examine(made / "thin").findings if not each.ok}
    assert wrong.keys() == {"token-owner", "places"}
    (made / "owner" / "desk-token").write_text("x")
    assert [each.check for each in examine(made / "owner").findings if not each.ok] == ["desk-token"]
