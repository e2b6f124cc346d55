"""Exported folders to read."""

import shutil
from pathlib import Path

import pytest

from tests.graph.bags import Bag, export


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder, not to be changed."""
    return export(Bag(), tmp_path_factory.mktemp("exported") / "out")


@pytest.fixture
def out(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(written, tmp_path / "out"))
