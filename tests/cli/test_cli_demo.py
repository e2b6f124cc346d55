"""mpcify demo: the answer, the report, and what it leaves behind."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mpcify.demo import run as module

SMALL = module.Scale(train=120, test=10, teacher_epochs=1, student_epochs=1, private=2, asked=1, repeats=1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of seconds."""
    monkeypatch.setattr(module, "run", partial(module.run, scale=SMALL))


def test_the_report_is_the_answer_and_only_what_is_asked_for_stays(mpcify: Callable, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    outcome = mpcify("demo", "--report", tmp_path / "demo.json", "--keep", out, "--format", "json")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "demo.json").read_text())
    assert outcome.json == report
    assert set(report) >= {
        "format",
        "teacher",
        "student",
        "fixed",
        "private",
        "baselines",
        "speedup_over_puma",
        "parties",
        "beside",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"demo.json", "kept"}
    assert {path.name for path in out.iterdir()} == {"train.tsv", "test.tsv", "teacher", "student"}


def test_a_report_that_cannot_be_written_is_refused_at_once(mpcify: Callable, tmp_path: Path) -> None:
    outcome = mpcify("demo", "--report", tmp_path / "nowhere" / "demo.json")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith("MPC-109 ")
