"""The rows of tasks that learned from a part of their training file, and of another base."""

from typing import Any

import pytest

from benchmarks import readme
from benchmarks.accuracy import tables

COST = {"seconds": 2.0, "bytes": 3e6, "rounds": 7}
NAMES = ("sst2-mpnet-20000", "sst2-20000", "sst2-mpnet", "sst2-mpnet-2000", "sst2")
ORDERED = ["sst2", "sst2-20000", "sst2-mpnet", "sst2-mpnet-2000", "sst2-mpnet-20000"]


def compared(student: float) -> dict[str, Any]:
    """A student beside a teacher of accuracy 1/2."""
    return {"a": {"accuracy": student}, "b": {"accuracy": 0.5}, "agreement": 0.75, "mcnemar_p": 1.0}


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    """A student of each task: the more rows, the better."""
    found = {f"{name}-2quad-freediv-s0-dev": compared(0.25 + 2.0**-size) for size, name in enumerate(NAMES, 4)}
    return {**found, "sst2-2quad-freediv-8000-texts-range-0-s0-dev": compared(0.5)}


def test_a_task_of_some_rows_has_rows_of_its_own_behind_the_task(results: dict[str, dict[str, Any]]) -> None:
    rows = [row[:2] for row in tables.compared(results) if row[1] == "2quad-freediv"]
    assert rows == [[f"{name} dev", "2quad-freediv"] for name in ORDERED]
    assert ["sst2 dev", "2quad-freediv-8000-texts-range-0"] in [row[:2] for row in tables.compared(results)]


def test_the_summary_mixes_no_rows_and_gives_each_the_target_of_its_task(results: dict[str, dict[str, Any]]) -> None:
    rows = [row for row in tables.summary(results) if row[-1] != "not measured"]
    assert [row[0] for row in rows] == ORDERED
    lost = {name: f"{-25 + 100 * 2.0**-size:+.2f}" for size, name in enumerate(NAMES, 4)}
    assert {row[0]: row[4] for row in rows} == lost
    assert [row[7] for row in rows] == ["−0.3, 3 seeds", "−0.3, 3 seeds", "−0.5", "−0.5", "−0.5"]


@pytest.mark.parametrize("above, met", [(-0.0025, "yes"), (-0.0075, "no")])
def test_mpnet_may_lose_half_a_point(above: float, met: str) -> None:
    rows = tables.summary({"sst2-mpnet-20000-softmax-freediv-s0-test": compared(0.5 + above)})
    (row,) = (row for row in rows if row[-1] != "not measured")
    assert (row[0], row[1], row[-1]) == ("sst2-mpnet-20000", "softmax-freediv", met)


@pytest.mark.parametrize("seeds, met", [(1, "yes, 1 of 3 seeds"), (3, "yes")])
def test_a_target_of_three_seeds_says_how_many_there_are(seeds: int, met: str) -> None:
    rows = tables.summary({f"trec-softmax-freediv-s{seed}-dev": compared(0.5) for seed in range(seeds)})
    assert [row[-1] for row in rows if row[-1] != "not measured"] == [met]


@pytest.mark.parametrize("lost, met", [(0.01, "yes"), (0.02, "no")])
def test_what_is_lost_on_other_domains_counts(lost: float, met: str) -> None:
    sets = [
        {"set": "dev", "accuracy": {"teacher": 0.9, "student": 0.1}},
        {"set": "mrpc", "accuracy": None},
        {"set": "sst2", "accuracy": {"teacher": 0.8, "student": 0.8 - lost}},
    ]
    run = {"sets": sets, "mean_off_dev": 0.96, "worst_off_dev": {"agreement": 0.95}}
    rows = tables.summary({"reviews-softmax-freediv-s0-dev": compared(0.5), "reviews-softmax-freediv-s0": run})
    (row,) = (row for row in rows if row[-1] != "not measured")
    assert (row[6], row[-1]) == (f"96.0 (95.0), other domain {-100 * lost:+.1f}", met)


def test_a_target_that_nothing_was_measured_for_is_not_left_out() -> None:
    rows = {tuple(row[:2]): row[-1] for row in tables.summary({})}
    assert rows == dict.fromkeys(tables.TARGETS, "not measured")


def test_students_asked_about_other_texts_stand_in_the_same_order() -> None:
    found = {f"{name}-2quad-freediv-s0": {"task": name, "student": "2quad-freediv-s0", "sets": []} for name in NAMES}
    assert [run["task"] for _, run in tables.robust(found)] == ORDERED


def test_a_profile_is_a_row_of_one_request() -> None:
    profile = {"recipe": "puma", "length": 32, "cost": COST}
    page = tables.tables({"sst2-mpnet-20000-puma-profile": profile})
    assert page == (
        "## One request under SPU, ABY3, ring 2^64\n\n"
        "| result | recipe | tokens | s | MB | rounds |\n| --- | --- | --- | --- | --- | --- |\n"
        "| [sst2-mpnet-20000-puma-profile](../benchmarks/results/accuracy/sst2-mpnet-20000-puma-profile.json) | puma "
        "| 32 | 2.00 | 3.0 | 7 |\n"
    )


def test_the_readme_shows_minilm_of_the_whole_file_alone(tmp_path: Any) -> None:
    (tmp_path / "accuracy").mkdir()
    for name in NAMES:
        (tmp_path / "accuracy" / f"{name}-2quad-freediv-s0-private.json").write_text("{}", encoding="utf-8")
    assert list(readme.headline(tmp_path)) == ["accuracy/sst2-2quad-freediv-s0-private"]
