"""Known answers, asked for now and then: the one sign that private answers have become wrong."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.data.files import image, text
from mpcify.data.tables import read_jsonl, read_text
from mpcify.errors import MpcifyError
from mpcify.graph.about import About, Task, finite

FIELDS = {False: ("input", "label"), True: ("input", "value", "tolerance")}  # by whether the task is numeric
MISSED = 710


class Asked(Protocol):
    """What answers: a PrivateModel."""

    about: About

    def classify(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """An answer an input."""


@dataclass(frozen=True)
class Known:
    """An input with its answer: a label, or a value that may be off by `tolerance`. position: its line in the file."""

    position: int
    input: Any
    label: str | None = None
    value: float = 0.0
    tolerance: float = 0.0

    def agrees(self, answer: dict[str, Any]) -> bool:
        """Whether an answer is the known one."""
        if self.label is not None:
            return bool(answer["label"] == self.label)
        return abs(answer["value"] - self.value) <= self.tolerance


def read_known(file: Path, task: Task) -> list[Known]:
    """The known answers in a JSONL file: `{"input": …, "label": …}`, or `{"input": …, "value": …, "tolerance": …}`.

    input: a text, a list of two, or an image's path, relative to the file. label: as the model names it.
    Raises MPC-101 and 102 for the file, 103 for other fields, 104 for a label that the model has not, or no number;
    105, 107 and 108 as for any data. No error quotes a line.
    """
    wanted = FIELDS[task.numeric]
    known = []
    for position, row in read_jsonl(read_text(file), str(file)).rows:
        where = f"{file} line {position}"
        if set(row) != set(wanted):
            raise MpcifyError(103, where, "the fields are others", f"give it these fields: {', '.join(wanted)}")
        known.append(known_of(row, task, position or 0, file.parent, where))
    return known


def known_of(row: Any, task: Task, position: int, folder: Path, where: str) -> Known:
    """One line, checked."""
    item = row["input"]
    if task.images:
        found: Any = image(text([item], where), folder, where)
    else:
        found = text(item if isinstance(item, list) and len(item) == 2 else [item], where)
    if task.numeric:
        if not (finite(row["value"]) and finite(row["tolerance"]) and row["tolerance"] >= 0):
            raise MpcifyError(104, where, "value or tolerance is no number", "give numbers that float32 holds")
        return Known(position, found, value=row["value"], tolerance=row["tolerance"])
    if row["label"] not in task.labels:
        raise MpcifyError(104, where, "the label is none of the model's", "give one of its names (id2label)")
    return Known(position, found, row["label"])


class Canary:
    """Asks for one known answer after another, one every so many seconds, in a thread of its own.

    A miss is an alarm: MPC-710 in the log, and a count in the metrics. An answer that does not come counts as well, as
    a failure; neither ends the thread. wait: sleeps so many seconds, and says whether to stop.
    Raises what `read_known` raises.
    """

    def __init__(
        self,
        private: Asked,
        file: str | Path,
        every: float,
        metrics: Metrics,
        log: Log,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.private, self.every, self.metrics, self.log = private, every, metrics, log
        self.known = read_known(Path(file), private.about.task)
        self.stopped = threading.Event()
        self.wait = self.stopped.wait if wait is None else wait
        self.thread = threading.Thread(target=self.run, name="canary", daemon=True)

    def start(self) -> None:
        """Begins, with the first line of the file, after one interval."""
        self.thread.start()

    def stop(self) -> None:
        """Asks for no more; an answer that is under way is not waited for."""
        self.stopped.set()

    def run(self) -> None:
        """All lines in turn, until it is stopped."""
        turn = 0
        while not self.wait(self.every):
            self.ask(self.known[turn % len(self.known)])
            turn += 1

    def ask(self, known: Known) -> None:
        """Asks for one known answer, and writes down what came."""
        try:
            self.check(known)
        except Exception as error:
            missed = isinstance(error, MpcifyError) and error.code == MISSED
            self.metrics.canary(False if missed else None)
            self.log.failure("canary-missed" if missed else "canary-failed", error, position=known.position)
        else:
            self.metrics.canary(True)
            self.log.event("canary-right", position=known.position)

    def check(self, known: Known) -> None:
        """Raises MPC-710 if the model answers otherwise."""
        (answer,) = self.private.classify([known.input])
        if not known.agrees(answer):
            what = "a text whose answer is known was answered otherwise"
            remedy = "stop relying on the answers, and look for the cause: mpcify evaluate --engine fixed"
            raise MpcifyError(710, f"known answer {known.position}", what, remedy)
