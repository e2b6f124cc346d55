"""Canaries: known answers are asked for in turn, and a wrong one is an alarm that quotes nothing."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpcify.cluster.canary import Canary, Known, read_known
from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.errors import MpcifyError
from mpcify.graph.about import Task, task_named

LABELS = task_named("classification", ("bad", "good"))
NUMBERS = task_named("regression", ("score",))
IMAGES = task_named("image-classification", ("cat", "dog"))
SECRET = "a gripping film"


class Model:
    """Answers what a test tells it to; an exception is raised."""

    def __init__(self, task: Task, *answers: Any) -> None:
        self.about: Any = SimpleNamespace(task=task)
        self.answers, self.asked = list(answers), []

    def classify(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        self.asked += items
        answer = self.answers[len(self.asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def file_of(folder: Path, *rows: Any) -> Path:
    file = folder / "known.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def run(model: Model, file: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The events and counts of a canary that stops after the model's last answer."""
    turns = iter([False] * len(model.answers))
    metrics, stream = Metrics("client"), io.StringIO()
    canary = Canary(model, file, 60.0, metrics, Log("client", "json", stream), lambda _: next(turns, True))
    canary.start()
    canary.thread.join(10)
    assert not canary.thread.is_alive()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert SECRET not in stream.getvalue()
    names = ("right", "missed", "failed")
    return events, {name: metrics.canaries.labels(name)._value.get() for name in names}


def test_lines_are_asked_in_turn_again_and_again(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"input": SECRET, "label": "good"}, {"input": ["a", "b"], "label": "bad"})
    model = Model(LABELS, {"label": "good"}, {"label": "bad"}, {"label": "good"})
    events, counts = run(model, file)
    assert model.asked == [SECRET, ("a", "b"), SECRET]
    assert [(event["event"], event["position"]) for event in events] == [
        ("canary-right", 1),
        ("canary-right", 2),
        ("canary-right", 1),
    ]
    assert counts == {"right": 3, "missed": 0, "failed": 0}


def test_a_miss_is_an_alarm_that_names_the_position_alone(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"input": "b", "label": "bad"}, {"input": SECRET, "label": "good"})
    events, counts = run(Model(LABELS, {"label": "bad"}, {"label": "bad"}), file)
    assert counts == {"right": 1, "missed": 1, "failed": 0}
    miss = events[1]
    assert (miss["event"], miss["level"], miss["code"], miss["position"]) == ("canary-missed", "error", 710, 2)


@pytest.mark.parametrize("error, code", [(MpcifyError(706, "owner", "gone", "ask"), 706), (KeyError(SECRET), 903)])
def test_no_answer_is_a_failure_and_the_next_is_asked(tmp_path: Path, error: Exception, code: int) -> None:
    file = file_of(tmp_path, {"input": SECRET, "label": "good"})
    events, counts = run(Model(LABELS, error, {"label": "good"}), file)
    assert counts == {"right": 1, "missed": 0, "failed": 1}
    assert [(event["event"], event.get("code")) for event in events] == [
        ("canary-failed", code),
        ("canary-right", None),
    ]


@pytest.mark.parametrize("value, result", [(2.5, "right"), (2.6, "right"), (2.61, "missed"), (float("nan"), "missed")])
def test_a_number_may_be_off_by_its_tolerance(tmp_path: Path, value: float, result: str) -> None:
    file = file_of(tmp_path, {"input": SECRET, "value": 2.5, "tolerance": 0.1 + 1e-9})
    assert run(Model(NUMBERS, {"value": value}), file)[1][result] == 1


def test_an_image_is_a_path_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"")
    file = file_of(tmp_path, {"input": "one.png", "label": "cat"})
    assert read_known(file, IMAGES) == [Known(1, tmp_path / "one.png", "cat")]


@pytest.mark.parametrize(
    "task, rows, code",
    [
        (LABELS, [], 108),
        (LABELS, [[SECRET]], 102),
        (LABELS, [{"input": 3, "label": "good"}], 102),
        (LABELS, [{"input": [SECRET], "label": "good"}], 102),
        (LABELS, [{"input": [SECRET] * 3, "label": "good"}], 102),
        (LABELS, [{"input": SECRET}], 103),
        (LABELS, [{"input": SECRET, "value": 1, "tolerance": 1}], 103),
        (LABELS, [{"input": SECRET, "label": "good", "more": 1}], 103),
        (NUMBERS, [{"input": SECRET, "label": "good"}], 103),
        (LABELS, [{"input": SECRET, "label": SECRET}], 104),
        (LABELS, [{"input": SECRET, "label": ["good"]}], 104),
        (NUMBERS, [{"input": SECRET, "value": "1", "tolerance": 1}], 104),
        (NUMBERS, [{"input": SECRET, "value": 10**399, "tolerance": 1}], 104),
        (NUMBERS, [{"input": SECRET, "value": float("nan"), "tolerance": 1}], 104),
        (NUMBERS, [{"input": SECRET, "value": 1, "tolerance": -1}], 104),
        (LABELS, [{"input": " ", "label": "good"}], 105),
        (IMAGES, [{"input": "none.png", "label": "cat"}], 107),
    ],
)
def test_the_file_is_checked_at_the_start(tmp_path: Path, task: Task, rows: list[Any], code: int) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-{code} ") as refused:
        Canary(Model(task), file_of(tmp_path, *rows), 60.0, Metrics("client"), Log("client"))
    assert SECRET not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match="MPC-101 "):
        read_known(tmp_path / "none.jsonl", LABELS)


def test_stopping_ends_the_wait(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"input": SECRET, "label": "good"})
    canary = Canary(Model(LABELS), file, 3600.0, Metrics("client"), Log("client"))
    canary.start()
    canary.stop()
    canary.thread.join(10)
    assert not canary.thread.is_alive()
