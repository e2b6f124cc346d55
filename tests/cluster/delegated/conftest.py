"""A delegated cluster in this process, at a pace for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpcify.cluster import party
from mpcify.cluster.gateway import serving as served
from mpcify.cluster.thin import client as thin
from tests.cluster.delegated.delegates import Delegated


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "PULSE", 0.02)
    monkeypatch.setattr(party, "LATE", 0.5)
    monkeypatch.setattr(thin, "SOON", 0.5)
    monkeypatch.setattr(served, "TICK", 1)


@pytest.fixture
def cluster(exported: Path) -> Iterator[Delegated]:
    with Delegated(exported).running() as running:
        yield running
