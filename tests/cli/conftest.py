"""The command line as a user calls it, in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mpcify.cli.main import run


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which must be one JSON object and nothing else."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of its own reads from the environment before transformers is there."""
    from transformers.utils import logging

    monkeypatch.setattr(logging, "_tqdm_active", False)


@pytest.fixture
def mpcify(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command line."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight labelled texts."""
    rows = ["a good film\tgood", "the dull film\tbad", "the film is not bad\tgood", "not very good\tbad"]
    path = tmp_path / "data.tsv"
    path.write_text("\n".join(["sentence\tlabel", *rows, *rows]) + "\n", encoding="utf-8")
    return path
