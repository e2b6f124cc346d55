"""mpcify demo: what it refuses before it begins. What it answers, reports and leaves behind: tests/demo/test_run.py."""

from collections.abc import Callable
from pathlib import Path


def test_a_report_that_cannot_be_written_is_refused_at_once(mpcify: Callable, tmp_path: Path) -> None:
    outcome = mpcify("demo", "--report", tmp_path / "nowhere" / "demo.json")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith("MPC-109 ")
