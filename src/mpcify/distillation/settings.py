"""What a distillation is told, and what comes of it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from mpcify.distillation.losses import LossWeights
from mpcify.errors import MpcifyError

STEPS = 6000  # between FEWEST and MOST
FEWEST, MOST = 3, 12  # epochs


@dataclass(frozen=True)
class Settings:
    """How to distill. epochs: about 6,000 steps where None, but 3 to 12 epochs: a small file needs more.

    max_length: tokens, longer training texts are cut. device: cpu, cuda or mps, the best where None. base: a public
    checkpoint whose word-embedding table the student takes over and freezes. calibration: rows.
    Raises MPC-901 for a number that makes no sense.
    """

    epochs: float | None = None
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    seed: int = 0
    base: str | None = None
    device: str | None = None
    calibration: int = 1000
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "max_length", "calibration"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise MpcifyError(901, name.replace("_", " "), f"it is {value}", "give a number above 0")

    def for_rows(self, count: int) -> Self:
        """The settings with as many epochs as a training file of so many rows needs, unless they say how many."""
        if self.epochs is not None:
            return self
        return replace(self, epochs=float(min(max(round(STEPS * self.batch_size / max(count, 1)), FEWEST), MOST)))

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Distilled:
    """What came of a distillation.

    model, teacher_model: the student's folder and its teacher's name. teacher, student: their metrics on the evaluation
    examples, in plain floats; empty where these have no labels. agreement: the share that both answer alike.
    train_examples: of them, held_out chose the best checkpoint, that after best_epoch. epochs: what was measured after
    each. seconds: of the last call, where a run was resumed.
    """

    model: str
    recipe: str
    task: str
    teacher_model: str
    teacher: dict[str, float | None]
    student: dict[str, float | None]
    agreement: float
    examples: int
    evaluation_source: str
    train_examples: int
    train_source: str
    held_out: int
    best_epoch: float
    epochs: list[dict[str, float]]
    base: dict[str, str] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)
