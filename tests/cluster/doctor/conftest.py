"""A cluster of trusting parties, and a machine that has what they need."""

from pathlib import Path

import pytest

from mpcify.cluster import party
from mpcify.cluster.authority import create_kits
from mpcify.cluster.doctor import machine
from mpcify.engines.config import ENGINES
from tests.cluster.deployments import CountedConfig, deploy
from tests.cluster.doctor.examined import ROLES


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "trusting", CountedConfig)
    monkeypatch.setattr(party, "PULSE", 0.05)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "processors", lambda: 4.0)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "kits"
    create_kits(folder, ROLES)
    return folder


@pytest.fixture
def out(exported: Path, kits: Path, tmp_path: Path) -> Path:
    """All parties' folders."""
    return deploy(exported, kits, tmp_path / "out")
