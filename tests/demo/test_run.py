"""The demo's whole way in small: what it leaves, what it reports, and the table that it prints."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer

from mpcify.cli.main import run as main
from mpcify.conversion.convert import load, load_model
from mpcify.conversion.student import table_is_public
from mpcify.demo import parties
from mpcify.demo.grammar import data_set
from mpcify.demo.report import parties_line, table
from mpcify.demo.run import Scale, median, run, silent
from mpcify.demo.teacher import LONGEST, make_model, make_tokenizer, schedule, train
from mpcify.engines.cost import Cost
from mpcify.lowering.export import TracedStudent

# whether nine steps make a student better is chance
pytestmark = pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning")
SMALL = Scale(train=300, test=20, teacher_epochs=2, student_epochs=1, private=3, asked=2, repeats=2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[str]]:
    """What `mpcify demo` answers in small, the folder that it keeps, and the stages that it went through."""
    place, stages = tmp_path_factory.mktemp("demo"), []

    @contextmanager
    def stage(what: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        assert done == sorted(done), what
        assert done[-1] == total, what
        stages.append(what)

    def small(folder: Path, **_: Any) -> dict[str, Any]:
        return run(folder, SMALL, seed=1, stage=stage)

    words = ["demo", "--report", str(place / "demo.json"), "--keep", str(place / "kept"), "--format", "json"]
    threads, out, err = torch.get_num_threads(), StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("mpcify.demo.run.run", small)
        assert main(words) == 0, err.getvalue()
    assert torch.get_num_threads() == threads
    assert "no more than guessing may give" in err.getvalue()  # two epochs teach a teacher nothing
    result = json.loads(out.getvalue())
    assert result == json.loads((place / "demo.json").read_text())
    assert {path.name for path in place.iterdir()} == {"demo.json", "kept"}
    return result, place / "kept", stages


def test_the_report_has_the_fields_of_its_format(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    result = demo[0]
    assert result["format"] == 1
    assert all(
        0 <= result[name]["accuracy"] <= 1 for name in ("bag_of_words", "teacher", "student", "fixed", "private")
    )
    assert result["private"]["examples"] == SMALL.private
    assert result["private"]["agreement_with_plain"] == 1
    assert result["private"]["max_logit_error"] < 2e-2  # ABY3 in ring 2^64 with 18 fraction bits
    costs = [row["cost"] for row in (result["private"], *result["baselines"].values())]
    assert list(result["baselines"]) == ["puma", "mpcformer"]
    assert all(cost["seconds"] > 0 and cost["bytes"] > 0 and cost["rounds"] > 0 for cost in costs)
    assert result["speedup_over_puma"] == pytest.approx(costs[1]["seconds"] / costs[0]["seconds"])
    assert costs[0]["bytes"] < costs[2]["bytes"] < costs[1]["bytes"]
    assert {"commit", "machine", "seed", "command"} <= set(result)


def test_the_ring_engine_answers_beside_it(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    result = demo[0]
    assert list(result["beside"]) == ["ring"]
    row = result["beside"]["ring"]
    assert (row["engine"], row["examples"], row["agreement_with_plain"]) == ("ring", SMALL.private, 1)
    assert row["max_logit_error"] < 2e-2
    assert 0 < row["cost"]["offline"]["seconds"] < row["cost"]["seconds"]
    asked = row["parties"]
    assert (asked["examples"], asked["agreement_with_simulation"]) == (SMALL.asked, 1)
    assert asked["cost"]["bytes"] == row["cost"]["bytes"]
    assert set(asked["cost"]["bytes_per_party"]) == {"client", "owner", "dealer"}


def test_three_processes_answer_as_the_simulation_does(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    asked, simulated = demo[0]["parties"], demo[0]["private"]["cost"]
    assert set(asked) == {"examples", "agreement_with_simulation", "cost"}
    assert (asked["examples"], asked["agreement_with_simulation"]) == (SMALL.asked, 1)
    # the same protocol sends the same bytes, but for which of the parties deviates in a truncation, by chance
    assert asked["cost"]["bytes"] == pytest.approx(simulated["bytes"], rel=1e-3)
    assert set(asked["cost"]["bytes_per_party"]) == {"client", "owner", "helper"}
    assert serving() == []


def test_an_interrupt_leaves_neither_processes_nor_folders(
    demo: tuple[dict[str, Any], Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = demo[1] / "student"
    seen: list[str] = []

    def interrupted(folder: Path, length: int) -> None:
        seen.extend(serving())
        assert folder.is_relative_to(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(parties, "connect", interrupted)
    exported = TracedStudent(load(student), student)
    with pytest.raises(KeyboardInterrupt):
        parties.ask_parties(exported, "spu", LONGEST, ["a dull film"], np.zeros((1, 2)), silent)
    assert len(seen) == 2
    assert serving() == []
    assert list(tmp_path.iterdir()) == []


def serving() -> list[str]:
    """The command lines of this process's children that serve a party."""
    found = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        for child in tasks.read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            found += [" ".join(words)] if {"party", "serve"} <= set(words) else []
    return found


def test_the_folder_holds_the_data_the_teacher_and_the_student(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    folder = demo[1]
    assert sorted(path.name for path in folder.iterdir()) == ["student", "teacher", "test.tsv", "train.tsv"]
    student = load(folder / "student")
    assert student.config.mpcify["attention"] == "2quad-freediv"
    assert student.config.mpcify["calibrated"]
    assert student.config.mpcify["ranges"]
    assert table_is_public(student)
    assert load_model(folder / "teacher").config.id2label == {0: "negative", 1: "positive"}
    assert AutoTokenizer.from_pretrained(folder / "student").tokenize("A dull film") == ["a", "dull", "film"]


def test_every_stage_tells_how_far_it_is(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    assert demo[2] == [
        "teacher",
        "teacher, plain",
        "student, plain",
        "student, fixed",
        "private answers, spu",
        "private answers, ring",
        "private requests, timed",
        "three processes, spu",
        "three processes, ring",
    ]


def test_the_table_shows_every_measure(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    console = Console(width=80, file=StringIO())
    console.print(table(demo[0]))
    text = console.file.getvalue()
    assert all(word in text for word in ("teacher", "student", "2quad-freediv", "puma", "mpcformer", "1.00×"))
    assert f"{demo[0]['speedup_over_puma']:.2f}×" in text
    assert f"{demo[0]['private']['accuracy']:.1%}" in text


def test_the_line_says_what_the_processes_answered(demo: tuple[dict[str, Any], Path, list[str]]) -> None:
    said = parties_line(demo[0]).split("\n")
    assert len(said) == 2
    assert all("2 of 2 answers are the simulation's; one request took " in line for line in said)
    one_off = {**demo[0], "parties": {**demo[0]["parties"], "agreement_with_simulation": 0.5}}
    assert "1 of 2 answers" in parties_line(one_off)


def test_a_teacher_learns_and_is_the_same_for_the_same_seed() -> None:
    (sentences,) = data_set((640,), seed=0)
    tokenizer = make_tokenizer()
    models = [make_model(tokenizer, seed=5) for _ in range(2)]
    for model in models:
        steps: list[int] = []
        train(model, tokenizer, schedule(sentences, 2, seed=5), steps.append)
        assert steps == list(range(1, len(steps) + 1))
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert not torch.equal(models[0].classifier.weight, make_model(tokenizer, seed=5).classifier.weight)


def test_early_epochs_hold_short_sentences_alone() -> None:
    (sentences,) = data_set((1000,), seed=0)
    steps = schedule(sentences, 4, seed=0)
    longest = [max(len(review.text.split()) for review in step) for step in steps]
    assert max(longest[: len(steps) // 3]) <= 13 < max(longest[-5:])
    assert all(len(step) == 64 for step in steps)


def test_the_median_of_costs_is_taken_part_by_part() -> None:
    costs = [Cost(seconds, sent, 3, {"client": sent}) for seconds, sent in ((1.0, 30), (9.0, 10), (2.0, 20))]
    assert median(costs) == Cost(2.0, 20, 3, {"client": 20})
