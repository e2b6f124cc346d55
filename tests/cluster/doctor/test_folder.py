"""A folder: each thing in it that is broken is found by the checks that see it, and by no others."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpcify.cluster import certificates
from mpcify.cluster.authority import create_kits
from mpcify.cluster.deployed import programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import folder
from mpcify.cluster.doctor.doctor import examine
from mpcify.errors import MpcifyError
from tests.cluster.deployments import CountedConfig, all_serving, deploy, edit
from tests.cluster.doctor.examined import DAY, ROLES, certificate_for, flip, of, weights, wrong
from tests.locked import locked

Break = Callable[[Path], object]


def add_line(folder: Path) -> None:
    path = folder / "cluster.toml"
    path.write_text("colour = 1\n" + path.read_text())


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


OF_KIT = ("certificate", "peers")  # without a kit no peer is looked for
BROKEN: dict[str, tuple[Break, tuple[str, ...], str, str]] = {
    "no folder": (shutil.rmtree, ("folder",), "no such folder", "party init"),
    "empty": (empty, ("folder",), "no deployed folder", "party init"),
    "writable": (lambda owner: owner.chmod(0o777), ("permissions",), "everybody may change", "chmod o-w"),
    "writable by a group": (
        lambda owner: (owner / "kit").chmod(0o770),
        ("permissions",),
        "its group may change",
        "chmod g-w",
    ),
    "no config": (
        lambda owner: (owner / "cluster.toml").unlink(),
        ("cluster.toml", "peers"),
        "no such file",
        "party init",
    ),
    "unknown field": (add_line, ("cluster.toml", "peers"), "colour: there is no such field", "correct it"),
    "length": (
        lambda owner: edit(owner, lengths=[4, 16]),
        ("cluster.toml and exported",),
        "has 4, 8, and not 16",
        "correct",
    ),
    "batch": (lambda owner: edit(owner, batch=3), ("cluster.toml and exported",), "exported for 2", "correct it"),
    "weights": (lambda owner: flip(weights(owner)), ("exported",), "not the file that", "once more what party init"),
    "graph": (lambda owner: flip(owner / "exported" / "graph-8.json"), ("exported",), "not the file", "once more"),
    "no weights": (lambda owner: weights(owner).unlink(), ("exported",), "no such file", "once more"),
    "stray": (
        lambda owner: shutil.copy(owner.parent / "client" / "exported" / "tokenizer.json", owner / "exported"),
        ("files of others",),
        "none of the owner's files",
        "delete it",
    ),
    "open weights": (lambda owner: weights(owner).chmod(0o644), ("files of others",), "others may read", "chmod 600"),
    "open key": (
        lambda owner: (owner / "kit" / "key.pem").chmod(0o644),
        ("key", "peers"),
        "others may read",
        "chmod 600",
    ),
    "no key": (lambda owner: (owner / "kit" / "key.pem").unlink(), ("key", "peers"), "no such file", "mpcify keys"),
    "other name": (
        lambda owner: shutil.copy(owner.parent / "helper" / "kit" / "certificate.pem", owner / "kit"),
        OF_KIT,
        "certificate of helper, not of owner",
        "put the kit of owner",
    ),
    "other key": (
        lambda owner: shutil.copy(owner.parent / "helper" / "kit" / "key.pem", owner / "kit"),
        ("kit", "peers"),
        "does not belong to",
        "files of one kit",
    ),
    "expired": (lambda owner: certificate_for(owner, -9 * DAY, -DAY), OF_KIT, "it expired on", "mpcify keys renew"),
    "too early": (
        lambda owner: certificate_for(owner, DAY, 9 * DAY),
        ("certificate", "clock", "peers"),
        "not valid before",
        "clock",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_has_the_checks_wrong_that_see_it_and_no_others(name: str, out: Path, kits: Path) -> None:
    breaks, checks, problem, remedy = BROKEN[name]
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    breaks(out / "owner")
    found = wrong(examine(out / "owner"))
    assert tuple(found) == checks
    assert problem in found[checks[0]].problem
    assert remedy in found[checks[0]].remedy
    assert all(each.remedy for each in found.values())


@pytest.mark.parametrize("name", ["weights", "graph", "no weights"])
def test_a_party_that_starts_from_a_broken_copy_says_what_the_doctor_says(name: str, out: Path) -> None:
    BROKEN[name][0](out / "owner")
    with pytest.raises(MpcifyError) as raised:
        programs_of(read_deployment(out / "owner"))
    assert raised.value.remedy == wrong(examine(out / "owner"))["exported"].remedy


def test_the_authority_of_another_cluster_is_found(out: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ["owner"])
    shutil.copy(tmp_path / "others" / "owner" / "authority.pem", out / "owner" / "kit")
    found = wrong(examine(out / "owner"))
    assert "does not vouch" in found["certificate"].problem
    assert "one authority" in found["certificate"].remedy


def test_several_broken_things_are_all_found(out: Path) -> None:
    owner = out / "owner"
    (owner / "kit" / "key.pem").chmod(0o644)
    flip(weights(owner))
    add_line(owner)
    assert {"key", "exported", "cluster.toml"} < wrong(examine(owner)).keys()


def test_the_folder_of_all_parties_is_not_a_partys(out: Path) -> None:
    found = wrong(examine(out))
    assert [*found] == ["folder"]
    assert "it holds the folders of client, owner, helper" in found["folder"].problem
    assert found["folder"].remedy.endswith(str(out / "client"))


def test_an_end_within_a_month_is_warned_of(out: Path, kits: Path) -> None:
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    certificate_for(out / "owner", -DAY, 9 * DAY)
    with all_serving(out):
        own, from_helper = examine(out / "owner"), examine(out / "helper")
    for found, check in ((own, "certificate"), (from_helper, "owner: certificate")):
        assert found.ok
        assert of(found, check).state == "warning"
        assert "expires in 8 days" in of(found, check).problem
        assert "mpcify keys renew" in of(found, check).remedy


def test_an_authority_that_ends_within_a_month_is_warned_of(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "AUTHORITY_TIME", 20 * DAY)
    create_kits(tmp_path / "short", ROLES)
    found = examine(deploy(exported, tmp_path / "short", tmp_path / "out") / "owner")
    assert "the authority expires" in of(found, "certificate").problem
    assert "keys init" in of(found, "certificate").remedy


def refuse_engine(*_: object) -> None:
    raise MpcifyError(504, "engine", "the package is not installed", "pip install it")


def test_an_engine_that_is_not_installed_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedConfig, "build", refuse_engine)
    found = wrong(examine(out / "owner"))
    assert [*found] == ["engine"]
    assert found["engine"].problem.startswith("MPC-504")
    assert found["engine"].remedy == "pip install it"


def test_a_length_that_does_not_fit_hides_no_other(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cluster.trusting import TrustingEngine

    compiles = TrustingEngine.compile

    def picky(self: TrustingEngine, graph: Any) -> Any:
        if graph.length == 4:
            raise MpcifyError(402, "logits", "it overflows", "export ranges that fit")
        return compiles(self, graph)

    monkeypatch.setattr(TrustingEngine, "compile", picky)
    found = examine(out / "owner")
    assert [*wrong(found)] == ["length 4"]
    assert "operations" in of(found, "length 8").value


def test_settings_that_run_what_is_not_proven_are_warned_of(out: Path) -> None:
    edit(out / "owner", force=True)
    found = examine(out / "owner")
    assert found.ok
    assert "answers are wrong" in of(found, "engine").problem


def test_a_folder_that_one_may_not_enter_is_a_finding(out: Path) -> None:
    with locked(out / "owner"):
        found = wrong(examine(out / "owner"))
    assert [*found] == ["folder"]
    assert "Permission denied" in found["folder"].problem
    assert "as the user" in found["folder"].remedy


def test_a_group_may_put_files_where_the_system_mounts_them(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "owner").chmod(0o770)
    monkeypatch.setattr(folder, "os", SimpleNamespace(**{**vars(os), "geteuid": lambda: 10001}))
    monkeypatch.setattr(Path, "stat", lambda path: SimpleNamespace(st_uid=0, st_mode=0o40770))
    assert folder.guarded(out / "owner")
