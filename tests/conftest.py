"""Small random models of every family, in memory and as checkpoints."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.makers import declare_on, make_teacher, write_checkpoint

# a shell's background job ignores interrupts, and what it starts would, too
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def teacher() -> Callable[..., Any]:
    """teacher(family, **options): a small random model."""
    return make_teacher


@pytest.fixture(scope="session")
def checkpoint_in() -> Callable[..., Path]:
    """checkpoint_in(place, family, **options): the folder of a small random model, with its tokenizer or processor."""

    def make(place: Path, family: str = "bert", *, name: str = "teacher", **options: Any) -> Path:
        return write_checkpoint(place / name, family, **options)

    return make


@pytest.fixture
def checkpoint(tmp_path: Path, checkpoint_in: Callable[..., Path]) -> Callable[..., Path]:
    """checkpoint(family, **options): the folder of a small random model, in the test's own folder."""
    return partial(checkpoint_in, tmp_path)


@pytest.fixture
def model(checkpoint: Callable[..., Path]) -> Path:
    """The folder of a classifier with the labels bad and good."""
    return checkpoint("bert", labels=2, id2label={0: "bad", 1: "good"})


@pytest.fixture(scope="session")
def declare() -> Callable[[Any, Path, list[Any]], None]:
    """declare(student, folder, texts): declares a student's ranges on texts, with the tokenizer in a folder."""
    return declare_on
