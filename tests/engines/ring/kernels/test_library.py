"""The native library is used only with the Python that its sources stand beside: other calls would take other words."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpcify.engines.ring.kernels import library as module
from mpcify.errors import MpcifyWarning


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library and its sources, which the module finds instead."""
    found = importlib.util.find_spec(module.NAME)
    if found is None or found.origin is None:
        pytest.skip("the library was not built")
    origin = Path(found.origin)
    for path in (origin, *origin.parent.glob("*.[ch]")):
        shutil.copy(path, tmp_path)
    copy = SimpleNamespace(origin=str(tmp_path / origin.name))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: copy)
    return tmp_path


def test_a_library_of_the_sources_beside_it_is_used(folder: Path) -> None:
    assert module.library.__wrapped__() is not None


def test_a_library_without_sources_beside_it_is_used(folder: Path) -> None:
    for path in folder.glob("*.[ch]"):
        path.unlink()
    assert module.library.__wrapped__() is not None


def test_a_library_of_other_sources_is_not_used(folder: Path) -> None:
    with (folder / "words.h").open("a") as file:
        file.write("\n")
    with pytest.warns(MpcifyWarning, match="built from other sources"):
        assert module.library.__wrapped__() is None
