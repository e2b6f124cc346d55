"""Parties that serve while a test does its worst to them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpcify.graph.exported import read_all
from tests.cluster.deployments import CountedConfig, all_serving, deploy, edit, quick
from tests.cluster.hostile.honest import SERVING, SILENCE, check
from tests.graph.bags import answers


@pytest.fixture(scope="module", autouse=True)
def trusting() -> Iterator[None]:
    with quick(CountedConfig):
        yield


@pytest.fixture(scope="module")
def folders(
    exported: Path, made_kits: Path, tmp_path_factory: pytest.TempPathFactory, trusting: None
) -> Iterator[Path]:
    """All parties' folders; owner and helper serve, from the first test to the last."""
    out = deploy(exported, made_kits, tmp_path_factory.mktemp("hostile") / "out")
    for role in SERVING:
        edit(out / role, message=SILENCE)
    with all_serving(out):
        yield out


@pytest.fixture(scope="module")
def expected(exported: Path) -> np.ndarray:
    return answers(read_all(exported))


@pytest.fixture
def out(folders: Path, expected: np.ndarray) -> Iterator[Path]:
    """The folders. After whatever a test did to the parties, they answer an honest client."""
    yield folders
    check(folders, expected)
