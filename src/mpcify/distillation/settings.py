"""How a distillation is set, and what comes of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from mpcify.conversion.student import Base
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.precision import PRECISIONS, Precision
from mpcify.errors import MpcifyError
from mpcify.graph.about import Task

STEPS = 1500  # at least
FEWEST = 2.0  # epochs
MOST = 2**32 - 1  # numpy's largest seed
MEASUREMENTS = 12  # how often the student is measured at most


@dataclass(frozen=True)
class Settings:
    """How to distill. epochs: how often each row is seen; if None, what gives 1,500 steps, but 2 at least.

    batch_size: rows a step, of all processes together. max_length: tokens, longer training texts are cut. device: cpu,
    cuda or mps, the best if None. base: a public checkpoint whose word-embedding table the student takes over and
    freezes. calibration: rows. precision: of the matrix products in training; if None, bfloat16 where the device
    multiplies it in hardware, else float32.
    Raises MPC-901 for what makes no sense.
    """

    epochs: float | None = None
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    seed: int = 0
    base: str | None = None
    device: str | None = None
    calibration: int = 1000
    precision: Precision | None = None
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("max_length", 2), ("calibration", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
                raise self.wrong(name, f"give a whole number from {least} to {MOST}")
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
            if not positive and not (name == "epochs" and value is None):
                raise self.wrong(name, "give a number above 0")
        if self.precision not in (None, *PRECISIONS):
            raise self.wrong("precision", f"give {' or '.join(PRECISIONS)}")

    def wrong(self, name: str, remedy: str) -> MpcifyError:
        """The error for a field that makes no sense."""
        return MpcifyError(901, name.replace("_", " "), f"it is {getattr(self, name)!r}"[:80], remedy)

    def resumed(self, before: Mapping[str, Any]) -> Self:
        """The settings with the epochs and the precision of an earlier run that goes on, unless they name them."""
        epochs = before.get("epochs") if self.epochs is None else self.epochs
        return replace(self, epochs=epochs, precision=self.precision or before.get("precision"))

    def for_rows(self, count: int) -> Self:
        """The settings with as many epochs as so many rows need, unless they say how many.

        count: the rows of an epoch, pieces counted, and those held out not.
        """
        if self.epochs is not None:
            return self
        return replace(self, epochs=max(float(math.ceil(STEPS * self.batch_size / max(count, 1))), FEWEST))

    @property
    def repeats(self) -> int:
        """How many epochs pass between two measurements."""
        return math.ceil((self.epochs or 1.0) / MEASUREMENTS)

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Distilled:
    """What came of a distillation.

    model, teacher_model: the student's folder and its teacher's name. teacher, student: their metrics on the evaluation
    examples, in plain floats; empty if these have no labels. agreement: the share that both answer alike.
    train_examples: of them, held_out chose the best checkpoint, that after best_epoch; 0 is the start. general_texts:
    how many were given. epochs: what was measured after each. seconds: of the last call, if a run was resumed.
    """

    model: str
    recipe: str
    task: Task
    teacher_model: str
    teacher: dict[str, float | None]
    student: dict[str, float | None]
    agreement: float
    examples: int
    evaluation_source: str
    train_examples: int
    train_source: str
    held_out: int
    general_texts: int
    best_epoch: float
    epochs: list[dict[str, float]]
    base: Base | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object; its task by name."""
        return {**asdict(self), "task": self.task.name}
