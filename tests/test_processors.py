"""Processors and threads: what a container and OMP_NUM_THREADS allow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpcify import processors


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    processors.threads.cache_clear()
    yield
    processors.threads.cache_clear()


def test_a_containers_share_of_processors_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "CONTROL", tmp_path)
    whole = processors.processors()
    assert whole >= 1
    for content, found in (("50000 100000", 0.5), ("max 100000", whole), ("900000000 100000", whole)):
        (tmp_path / "cpu.max").write_text(content)
        assert processors.processors() == found
    (tmp_path / "cpu.max").unlink()
    assert processors.processors() == whole


@pytest.mark.parametrize(
    ("there", "asked", "threads"),
    [
        (8.0, None, 8),
        (8.0, "3", 3),
        (8.0, "3,2", 3),
        (8.0, "12", 8),
        (8.0, "0", 1),
        (8.0, "many", 8),
        (2.5, None, 2),
        (0.5, None, 1),
    ],
)
def test_threads_are_as_many_as_whole_processors_or_fewer_if_asked(
    there: float, asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "processors", lambda: there)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert processors.threads() == threads
