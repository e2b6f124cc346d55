"""An engine whose third party is a dealer, from keys to answers: nothing but its config says so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpcify.cli.main import run
from mpcify.cluster.authority import ISSUER
from mpcify.cluster.deployed import connect
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import machine
from mpcify.cluster.doctor.doctor import Diagnosis, examine
from mpcify.cluster.doctor.findings import Finding
from mpcify.cluster.keys import KEY
from mpcify.cluster.local import LocalParties
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.kernels import products
from mpcify.engines.ring.kernels.floats import Blas
from mpcify.engines.ring.kernels.products import measured
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read, read_all
from mpcify.processors import threads
from tests.cluster.deployments import DealtConfig, all_serving, deploy, edit, quick
from tests.graph.bags import LENGTHS, answers

PARTIES = ("client", "owner", "dealer")
TEXTS = ["a good film", "a bad film film film film", "good"]


@pytest.fixture(scope="module", autouse=True)
def dealt() -> Iterator[None]:
    with quick(DealtConfig):
        yield


@pytest.fixture(scope="module")
def out(calibrated: Path, made_kits: Path, tmp_path_factory: pytest.TempPathFactory, dealt: None) -> Path:
    """All parties' folders, not to be changed."""
    return deploy(calibrated, made_kits, tmp_path_factory.mktemp("dealt") / "out", DealtConfig())


@pytest.fixture(scope="module")
def served(out: Path) -> Iterator[Path]:
    """The client's folder, while owner and dealer are at work."""
    with all_serving(out):
        yield out / "client"


def test_the_dealer_gets_the_graphs_and_nothing_secret(out: Path, made_kits: Path) -> None:
    assert {path.name for path in out.iterdir()} == set(PARTIES)
    dealer = read(out / "dealer" / "exported", "dealer")
    assert (dealer.weights, dealer.table, dealer.tokenizer) == (None, None, None)
    assert {path.name for path in (out / "dealer" / "exported").iterdir()} == {"exported.json", *dealer.index.files}
    key = (made_kits / ISSUER / KEY).read_bytes().splitlines()[1]
    assert not any(key in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_client_and_owner_meet_without_the_dealer_between_them(out: Path) -> None:
    found = {role: read_deployment(out / role, role) for role in PARTIES}  # type: ignore[arg-type]
    owner, dealer = (found[role].listen for role in ("owner", "dealer"))
    assert found["client"].listen is None
    assert {role: one.peers for role, one in found.items()} == {
        "client": {"owner": owner, "dealer": dealer},
        "dealer": {"client": None, "owner": owner},
        "owner": {"client": None, "dealer": None},
    }


def test_processes_of_one_machine_are_those_of_the_engine(out: Path) -> None:
    assert LocalParties(out).roles == ("owner", "dealer")


def test_a_client_gets_the_answers_of_the_model(served: Path, calibrated: Path) -> None:
    with connect(served) as private:
        logits, cost = private(TEXTS)
    np.testing.assert_allclose(logits, answers(read_all(calibrated)), rtol=1e-6)
    assert set(cost.bytes_per_party) == set(PARTIES)


@pytest.mark.parametrize(
    "words",
    [("infer", *TEXTS), ("evaluate", "--data", "DATA"), ("profile", "--length", 4)],
    ids=lambda words: words[0],
)
def test_every_verb_that_asks_a_cluster_asks_this_one(
    words: tuple[Any, ...], served: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data := tmp_path / "data.tsv").write_text("sentence\tlabel\na good film\tgood\na bad film\tbad\n")
    given = [str(data) if word == "DATA" else str(word) for word in words]
    assert run([*given, "--cluster", str(served), "--format", "json"]) == 0
    cost = json.loads(capfd.readouterr().out)["cost"]
    assert set(cost["bytes_per_party"]) == set(PARTIES)


def test_the_doctor_finds_nothing_wrong_at_any_party(out: Path, served: Path) -> None:
    found = {role: examine(out / role) for role in PARTIES}
    assert [each for role in PARTIES for each in found[role].findings if not each.ok] == []
    checks = {each.check for each in found["client"].findings}
    assert {"owner: service", "dealer: service", "session"} <= checks


def test_a_ring_deployment_reads_as_it_was_written(
    calibrated: Path, made_kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RingConfig, "build", lambda config: DealtConfig().build())
    engine = RingConfig(ring=48, ahead=3)
    deploy(calibrated, made_kits, tmp_path / "out", engine)
    for role in PARTIES:
        found = read_deployment(tmp_path / "out" / role)
        assert (found.role, found.engine, set(found.addresses)) == (role, engine, {"owner", "dealer"})


@pytest.fixture
def ring(calibrated: Path, made_kits: Path, tmp_path: Path) -> Path:
    """All parties' folders for the ring engine."""
    return deploy(calibrated, made_kits, tmp_path / "ring", RingConfig())


def kernels(found: Diagnosis) -> Finding:
    (finding,) = (each for each in found.findings if each.check == "kernels")
    return finding


def test_the_doctor_tells_how_fast_the_ring_engine_multiplies_and_no_other(ring: Path, out: Path) -> None:
    for role in PARTIES:
        assert all(each.check != "kernels" for each in examine(out / role).findings)
        assert kernels(examine(ring / role)).ok
        for name, kernel in measured().items():
            assert f"{name} {kernel['rate']:.1f} (up to {kernel['bits']} bits)" in kernels(examine(ring / role)).value


def test_the_doctor_warns_of_a_machine_with_no_native_kernel(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_measured", lambda: [(Blas(64), 0.9)])
    found = kernels(examine(ring / "owner"))
    assert found.state == "warning"
    assert found.value == f"blas64 0.9 (up to 64 bits); billions of multiply-adds a second, threads: {threads()}"
    assert "native kernels" in found.problem
    assert "C compiler" in found.remedy


def test_a_gpu_is_one_party_s_own_and_the_doctor_says_if_it_is_not_there(
    ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products._on_gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    edit(ring / "owner", device="cuda")
    found = examine(ring / "owner")
    assert kernels(found).problem == "MPC-501 device cuda: torch finds no GPU here"
    monkeypatch.setattr(torch.cuda, "is_available", failing)
    assert kernels(examine(ring / "owner")).problem == "the check itself failed (RuntimeError)"
    assert read_deployment(ring / "owner").engine.shared() == read_deployment(ring / "client").engine.shared()


def failing() -> bool:
    raise RuntimeError("a driver that is broken")


def memory_of(folder: Path) -> Finding:
    (finding,) = (each for each in examine(folder).findings if each.check == "memory")
    return finding


def test_the_doctor_counts_what_waits_for_requests_at_each_party_that_holds_it(
    ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "GIB", 1 << 10)
    monkeypatch.setattr(machine, "memory", lambda: (1 << 20, 1 << 20))
    for role in PARTIES:
        edit(ring / role, ahead=3)
        found, engine = memory_of(ring / role), read_deployment(ring / role).engine.build()
        exported = read(ring / role / "exported", role)  # type: ignore[arg-type]
        ready = sum(engine.compile(exported.graph(length)).kept_ready(role) for length in LENGTHS)
        assert found.ok
        assert (f"{ready / 1024:.1f} GiB of it for the requests" in found.value) == (role != "dealer")


@pytest.mark.parametrize("role", PARTIES)
def test_a_machine_that_holds_the_model_but_not_what_waits_is_too_small(
    role: str, ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: list[tuple[int, int]] = []
    monkeypatch.setattr(machine, "check_memory", lambda *parts: needed.append(parts) or "")
    memory_of(ring / role)
    monkeypatch.undo()
    ((model, ready),) = needed
    monkeypatch.setattr(machine, "memory", lambda: (model + ready // 2, 0))
    found = memory_of(ring / role)
    assert found.ok == (role == "dealer")
    assert ("lower ahead in cluster.toml, at all parties" in found.remedy) == (role != "dealer")


def test_a_model_that_was_exported_without_a_dealer_is_exported_again(
    calibrated: Path, made_kits: Path, tmp_path: Path
) -> None:
    (parties := tmp_path / "parties").mkdir()
    for role in ("client", "owner", "helper"):
        (parties / role).symlink_to(calibrated / role)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*dealer.*Do this: export the model again"):
        deploy(parties, made_kits, tmp_path / "out", DealtConfig())
