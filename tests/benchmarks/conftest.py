"""A stage's command line, and a made-up package of rated texts."""

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.accuracy import tasks


def packed(files: dict[str, bytes]) -> bytes:
    """An archive of files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A made-up package: two rated texts in each of its files."""
    rows = '\ufeff1\t-0.5\tit\'s bad \r\n2\t3.25\tgood, "very"\r\n'.encode()
    names = ("amazonReviewSnippets", "tweets", "nytEditorialSnippets")
    inner = packed({f"hutto_ICWSM_2014/{name}_GroundTruth.txt": rows for name in names})
    path = tmp_path / "made-1.0.tar.gz"
    path.write_bytes(packed({"made-1.0/additional_resources/hutto_ICWSM_2014.tar.gz": inner}))
    return path


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the command line of a stage; its files and folders are the test's own."""
    for name in ("FOLDER", "ROBUSTNESS"):
        monkeypatch.setattr(tasks, name, tmp_path / name)

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["stage", "--data", str(tmp_path), "--work", str(tmp_path / "work"), *words])

    return call
