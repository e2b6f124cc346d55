"""How near a student stays to its teacher on other texts: the arithmetic, a whole run on tiny models, the tables."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import robustness, tables, tasks
from benchmarks.accuracy.tasks import Task
from tests.makers import make_texts, write_student

LOG3 = float(np.log(3))


def test_a_student_that_answers_as_its_teacher_is_at_distance_zero() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 3))
    found = robustness.compared(logits, logits, None)
    assert (found["agreement"], found["divergence"], found["logit_difference"]) == (1.0, 0.0, 0.0)
    assert found["examples"] == 7
    assert found["accuracy"] is None


def test_distances_are_means_over_texts() -> None:
    teacher = np.array([[LOG3, 0.0], [LOG3, 0.0]])  # p = (3/4, 1/4)
    student = np.array([[LOG3, 0.0], [0.0, LOG3]])  # q of the second = (1/4, 3/4)
    found = robustness.compared(teacher, student, [0, 1])
    assert found["agreement"] == 0.5
    # (3/4 log 3 − 1/4 log 3) / 2: two logarithms and a few sums of numbers near 1
    assert found["divergence"] == pytest.approx(LOG3 / 4, rel=1e-14)
    assert found["logit_difference"] == pytest.approx(LOG3 / 2, rel=1e-14)
    assert found["accuracy"] == {"teacher": 0.5, "student": 1.0}


def test_divergence_is_from_the_teacher_and_shifts_of_all_logits_do_not_change_it() -> None:
    teacher, student = np.array([[0.0, 0.0]]), np.array([[LOG3, 0.0]])
    there, back = (robustness.compared(*pair, None)["divergence"] for pair in [(teacher, student), (student, teacher)])
    assert there == pytest.approx(0.5 * np.log(4 / 3), rel=1e-13)
    assert back == pytest.approx(0.75 * np.log(1.5) - 0.25 * np.log(2), rel=1e-13)
    assert robustness.compared(teacher + 1000, student - 1000, None)["divergence"] == pytest.approx(there, rel=1e-9)


def test_dev_counts_neither_in_the_mean_nor_as_the_worst() -> None:
    teacher = {name: np.eye(4)[[0, 1, 2, 3]] for name in ("dev", "joined-2", "mrpc")}
    wrong = {"dev": [3, 3, 3, 0], "joined-2": [0, 1, 2, 0], "mrpc": [0, 1, 0, 0]}
    student = {name: np.eye(4)[answers] for name, answers in wrong.items()}
    found = robustness.report(teacher, student, dict.fromkeys(teacher))
    assert [row["agreement"] for row in found["sets"]] == [0.0, 0.75, 0.5]
    assert found["mean_off_dev"] == 0.625
    assert found["worst_off_dev"] == {"set": "mrpc", "agreement": 0.5}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs the stage on a tiny task, teacher and student; the folder of results."""
    task = Task("reviews", ("dev",), 1, (("2quad-freediv", 1),), calibrated=())
    work, folder = tmp_path / "work", tmp_path / "robustness"
    texts = make_texts(20)
    write_student(work / "reviews", texts.texts, labels=2, layers=1).rename(work / "reviews" / "2quad-freediv-s0")
    lines = [f"{text}\t{index % 2}\n" for index, text in enumerate(texts.texts)]
    pairs = [f"{text}\t{text}\t1\n" for text in texts.texts]
    for path, header, rows in [
        (work / "data" / "reviews", "sentence\tlabel\n", lines),
        (tmp_path / "sst2", "sentence\tlabel\n", lines),
        (tmp_path / "trec", "sentence\tlabel\n", lines),
        (tmp_path / "mrpc", "sentence1\tsentence2\tlabel\n", pairs),
    ]:
        path.mkdir(parents=True)
        (path / "dev.tsv").write_text(header + "".join(rows), encoding="utf-8")
    monkeypatch.setattr(tasks, "TASKS", (task,))
    for module in (tasks, robustness):
        monkeypatch.setattr(module, "ROBUSTNESS", folder)
    monkeypatch.setattr(tasks, "FOLDER", tmp_path / "accuracy")
    monkeypatch.setattr(sys, "argv", ["robustness", "--data", str(tmp_path), "--work", str(work)])
    robustness.main()
    return folder


def test_the_stage_writes_one_result_a_student_and_keeps_it(results: Path) -> None:
    (path,) = results.iterdir()
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "reviews-2quad-freediv-s0.json"
    assert [found[key] for key in ("format", "task", "student", "recipe", "seed")] == [
        *(1, "reviews", "2quad-freediv-s0", "2quad-freediv", 0)
    ]
    assert {"commit", "machine", "command"} <= found.keys()
    assert [row["set"] for row in found["sets"] if row["accuracy"]] == ["dev", "sst2"]
    assert all(row["divergence"] > 0 for row in found["sets"])  # it is not the teacher that answered
    path.write_text("{}", encoding="utf-8")
    robustness.main()
    assert path.read_text(encoding="utf-8") == "{}"


def test_a_student_that_is_trained_again_loses_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FOLDER", "ROBUSTNESS"):
        monkeypatch.setattr(tasks, name, tmp_path / name)
        (tmp_path / name).mkdir()
    names = ("ROBUSTNESS/reviews-mpcformer-s0", "FOLDER/reviews-mpcformer-s0-dev", "ROBUSTNESS/reviews-mpcformer-s1")
    mine, alike, other = (tmp_path / f"{name}.json" for name in names)
    for path in (mine, alike, other):
        path.write_text("{}", encoding="utf-8")
    tasks.forget("reviews", "mpcformer", "s0")
    assert [path.exists() for path in (mine, alike, other)] == [False, False, True]


def made_up(task: str, student: str, **agreement: float) -> dict[str, Any]:
    """A result with these shares of equal answers; dev and sst2 have labels."""
    right = {"teacher": 0.5, "student": 0.25}
    sets = [
        {"set": name, "agreement": share, "accuracy": right if name in ("dev", "sst2") else None}
        for name, share in agreement.items()
    ]
    worst = {"set": "sst2", "agreement": 0.8125}
    return {"task": task, "student": student, "sets": sets, "mean_off_dev": 0.875, "worst_off_dev": worst}


def test_the_tables_show_every_set_and_where_labels_are_both_accuracies() -> None:
    page = tables.tables(
        {
            "tickets-mpcformer-s0": made_up("tickets", "mpcformer-s0", dev=1.0, short=0.75),
            "reviews-mpcformer-s0": made_up("reviews", "mpcformer-s0", dev=0.9375, sst2=0.8125),
        }
    )
    folder = "../benchmarks/results/robustness"
    review, ticket = (f"| {task} [mpcformer-s0]({folder}/{task}-mpcformer-s0.json)" for task in ("reviews", "tickets"))
    assert page == (
        "## On texts unlike those of distillation: equal answers\n\n"
        "| student | dev | sst2 | short | mean off dev | worst |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        f"{review} | 93.75 | 81.25 | – | 87.50 | 81.25 (sst2) |\n"
        f"{ticket} | 100.00 | – | 75.00 | 87.50 | 81.25 (sst2) |\n"
        "\n## Accuracy there: teacher → student\n\n"
        "| student | dev | sst2 |\n"
        "| --- | --- | --- |\n"
        f"{review} | 50.00 → 25.00 | 50.00 → 25.00 |\n"
    )
