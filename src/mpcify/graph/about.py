"""What is public of a model: its task, its labels, and how texts or images become its inputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from mpcify.data.metrics import TOLERANCE, Metrics, agreement, correct, mcnemar_p, metrics
from mpcify.errors import MpcifyError

NOTICE = "a run that simulates all parties on one machine protects nothing; real parties do, see the threat model"
Sides = int | tuple[int, int]
Channels = float | tuple[float, ...]
Rule = Callable[[Any], bool]
Guess = tuple[float, float]  # a metric's mean, and √N times its deviation
LARGEST, SMALLEST = 3.4e38, 1.2e-38  # of float32
MOST_PIXELS = 1 << 24


@dataclass(frozen=True)
class Task(ABC):
    """What a model's answers are and how they are judged. name: in JSON. labels: the labels' names, in their order.

    images: whether it reads images, and not texts. Logits are arrays of shape (N, labels).
    """

    name: str
    labels: tuple[str, ...]
    images: bool = False
    numeric: ClassVar[bool]  # whether a right answer is a number, and not one of the labels

    @abstractmethod
    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """What a request gives its user, one object a row."""

    def metrics(self, logits: np.ndarray, right: Sequence[int | float] | np.ndarray) -> Metrics:
        """How good answers are; right: the right ones (N,)."""
        return metrics(logits, right, self.numeric)

    def agreement(self, a: np.ndarray, b: np.ndarray) -> float:
        """The share of equal answers."""
        return agreement(a, b, self.numeric)

    @abstractmethod
    def unequal(self, logits: np.ndarray, plain: np.ndarray) -> list[int]:
        """The places of answers that are not those in floats, although these are no tie."""

    @abstractmethod
    def difference_p(self, a: np.ndarray, b: np.ndarray, right: np.ndarray) -> float | None:
        """How likely so large a difference in right answers is by chance; None if no answer is right or wrong."""

    @abstractmethod
    def margins(self, logits: np.ndarray) -> np.ndarray | None:
        """How sure the answers are (N,): from 0, a tie, to 1; None if they do not say."""

    @abstractmethod
    def guessed(self, found: Metrics, right: np.ndarray) -> tuple[str, float | None, Guess, Guess]:
        """A metric's name and value, and what it comes to if answers are guessed: evenly, and as well as one can."""


@dataclass(frozen=True)
class Classification(Task):
    """One of the labels, for a text or an image."""

    numeric = False

    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """{"label", "score", "scores": {label: p}} a row, p = softmax(logits); the label is that of the largest p."""
        return [self.answer(row) for row in softmax(logits)]

    def answer(self, shares: np.ndarray) -> dict[str, Any]:
        """One answer from its probabilities (labels,)."""
        best = int(np.argmax(shares))
        scores = {label: float(share) for label, share in zip(self.labels, shares, strict=True)}
        return {"label": self.labels[best], "score": float(shares[best]), "scores": scores}

    def unequal(self, logits: np.ndarray, plain: np.ndarray) -> list[int]:
        """A tie is an answer whose two largest logits in floats lie within 2e-2."""
        ordered = np.sort(plain, -1)
        tied = ordered[:, -1] - ordered[:, -2] <= TOLERANCE
        return np.flatnonzero((logits.argmax(-1) != plain.argmax(-1)) & ~tied).tolist()

    def difference_p(self, a: np.ndarray, b: np.ndarray, right: np.ndarray) -> float:
        """McNemar's test: see `mcnemar_p`."""
        return mcnemar_p(correct(a, right), correct(b, right))

    def margins(self, logits: np.ndarray) -> np.ndarray:
        """The difference of the two largest probabilities."""
        ordered = np.sort(softmax(logits), -1)
        return ordered[:, -1] - ordered[:, -2]

    def guessed(self, found: Metrics, right: np.ndarray) -> tuple[str, float | None, Guess, Guess]:
        """The accuracy: p and √(p(1 − p)), p = 1/labels, or the share of the most frequent label if that is more."""
        even = 1 / len(self.labels)
        most = max(even, float(np.unique(right, return_counts=True)[1].max() / len(right)))
        return "accuracy", found.accuracy, (even, math.sqrt(even * (1 - even))), (most, math.sqrt(most * (1 - most)))


@dataclass(frozen=True)
class Regression(Task):
    """A number, for a text."""

    numeric = True

    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """{"value"} a row."""
        return [{"value": float(row[0])} for row in np.asarray(logits, np.float64)]

    def unequal(self, logits: np.ndarray, plain: np.ndarray) -> list[int]:
        """None: a number is never simply another."""
        return []

    def difference_p(self, a: np.ndarray, b: np.ndarray, right: np.ndarray) -> None:
        return None

    def margins(self, logits: np.ndarray) -> None:
        return None

    def guessed(self, found: Metrics, right: np.ndarray) -> tuple[str, float | None, Guess, Guess]:
        """Pearson's correlation: a mean of 0, and 1."""
        return "correlation", found.pearson, (0.0, 1.0), (0.0, 1.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities (N, labels)."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


TASKS: Mapping[str, type[Task]] = {
    "classification": Classification,
    "image-classification": Classification,
    "regression": Regression,
}
IMAGES = ("image-classification",)


def task_named(name: str, labels: tuple[str, ...]) -> Task:
    """A task by its name."""
    return TASKS[name](name, labels, name in IMAGES)


@dataclass(frozen=True)
class TextFacts:
    """How a model and its tokenizer read texts.

    vocabulary: tokens in the table. positions: the most tokens that the model takes. segments: whether it tells a
    pair's texts apart by token types. truncation: the side that is cut. longest: the most tokens, special ones
    included, that model and tokenizer take. types: how many token types may occur; 0 if the tokenizer gives none or the
    model takes none, and all are 0. skipped: the token that the model counts no position for, which a text must not
    hold; None if there is none.
    """

    vocabulary: int
    positions: int
    segments: bool
    truncation: str
    longest: int
    types: int
    skipped: int | None


@dataclass(frozen=True)
class ImageFacts:
    """How a model and its image processor read images.

    channels: 1 or 3. size: (height, width), or one number for a square. patch: the same of a patch. do_resize,
    resample: PIL's number of the filter. do_rescale, rescale: the factor. do_normalize, mean, std: one number, or one
    a channel.
    """

    channels: int
    size: Sides
    patch: Sides
    do_resize: bool
    resample: int
    do_rescale: bool
    rescale: float
    do_normalize: bool
    mean: Channels
    std: Channels

    @property
    def patches(self) -> tuple[int, int]:
        """How many patches an image has, and how many numbers a patch; what fills no patch is left out."""
        (height, width), (high, wide) = sides(self.size), sides(self.patch)
        return (height // high) * (width // wide), self.channels * high * wide


def sides(value: Sides) -> tuple[int, int]:
    """Height and width from a number or a pair."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@dataclass(frozen=True)
class About:
    """What is public of a model.

    notice: what a reader must know before running it. model: its folder's name. family: of Hugging Face. embeddings:
    `client` (it looks its tokens up in a table that it holds), `one-hot`, or `patches` for images. taught: the buckets
    that a student was taught on enough texts of; None if that is not known, or there was nothing to teach.
    """

    notice: str
    model: str
    family: str
    task: Task
    recipe: str
    embeddings: str
    inputs: TextFacts | ImageFacts
    taught: tuple[int, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in their order."""
        return self.task.labels

    def to_json(self) -> dict[str, Any]:
        """The facts as a JSON object; those of a model that reads the other are 0, False and null."""
        image = isinstance(self.inputs, ImageFacts)
        facts = listed(asdict(self.inputs))
        text = dict.fromkeys(WHOLE, 0) if image else {name: facts.pop(name) for name in WHOLE}
        return {
            "notice": self.notice,
            "model": self.model,
            "family": self.family,
            "task": self.task.name,
            "recipe": self.recipe,
            "labels": list(self.labels),
            "embeddings": self.embeddings,
            **text,
            "segments": False if image else facts.pop("segments"),
            "text": None if image else facts,
            "image": facts if image else None,
            **({} if self.taught is None else {"taught": list(self.taught)}),
        }

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The facts in a JSON object, checked. Raises MPC-404 for a field that is missing, unknown or wrong.

        `taught` may be missing: earlier versions did not write it.
        """
        checked(values, FACTS, "about", OPTIONAL)
        image = values["image"] is not None
        known = checked(values["image"], IMAGE, "about.image") if image else checked(values["text"], TEXT, "about.text")
        counts = {name: values[name] for name in (*WHOLE, "segments")}
        named = {name: values[name] for name in ("notice", "model", "family", "recipe", "embeddings")}
        taught = tuple(values["taught"]) if "taught" in values else None
        task = task_named(values["task"], tuple(values["labels"]))
        agrees = {
            "text": (values["text"] is None) == image,
            "embeddings": (values["embeddings"] == "patches") == image,
            "task": task.images == image,
            "labels": len(set(task.labels)) == len(task.labels) and (len(task.labels) == 1 or not task.numeric),
            "vocabulary": image != (values["vocabulary"] > 0),
            "positions": image != (values["positions"] > 1),
            "taught": taught is None or (not image and taught == tuple(sorted(set(taught)))),
        }
        inputs = ImageFacts(**tupled(known)) if image else TextFacts(**counts, **known)
        if isinstance(inputs, ImageFacts):
            agrees["image"] = inputs.patches[0] > 0 and math.prod(sides(inputs.size)) <= MOST_PIXELS
            for name in ("mean", "std"):
                given = getattr(inputs, name)
                agrees[name] = not isinstance(given, tuple) or len(given) in (1, inputs.channels)
        for name, holds in agrees.items():
            if not holds:
                raise wrong_field("about", name)
        return cls(task=task, inputs=inputs, taught=taught, **named)


def listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with lists for tuples, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def checked(
    values: Any, rules: Mapping[str, Rule], where: str, optional: Mapping[str, Rule] = MappingProxyType({})
) -> dict[str, Any]:
    """A JSON object that has these fields, perhaps the optional ones, and no other. Raises MPC-404."""
    if not isinstance(values, dict):
        raise MpcifyError(404, where, "it is no JSON object", AGAIN)
    rules = {**rules, **{name: rule for name, rule in optional.items() if name in values}}
    for name in sorted(rules.keys() ^ values.keys()):
        what = f"the field {name} is missing" if name in rules else f"the field {name!r:.40} is not one of this version"
        raise MpcifyError(404, where, what, AGAIN)
    for name, rule in rules.items():
        if not rule(values[name]):
            raise wrong_field(where, name)
    return values


def wrong_field(where: str, name: str) -> MpcifyError:
    """The error for a field with a value that it cannot have."""
    return MpcifyError(404, where, f"the field {name} has a value that it cannot have", AGAIN)


def whole(least: int, most: int = 1 << 31) -> Rule:
    """Whether a value is a whole number within bounds."""
    return lambda value: type(value) is int and least <= value <= most


def one_of(*choices: Any) -> Rule:
    """Whether a value is one of some words."""
    return lambda value: isinstance(value, str) and value in choices


def flag(value: Any) -> bool:
    """Whether a value is True or False."""
    return isinstance(value, bool)


def word(value: Any) -> bool:
    """Whether a value is a string of Unicode characters: JSON may escape halves of one."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def finite(value: Any) -> bool:
    """Whether a value is a finite number that float32 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def one_or_channels(value: Any) -> bool:
    """Whether a value is a number, or one a channel."""
    return finite(value) or (isinstance(value, list) and len(value) in (1, 3) and all(map(finite, value)))


def divisor(value: Any) -> bool:
    """Whether a value is a number above 0 in float32, or one a channel."""
    numbers = value if isinstance(value, list) else [value]
    return one_or_channels(value) and all(each >= SMALLEST for each in numbers)


def side_or_sides(value: Any) -> bool:
    """Whether a value is a number of pixels, or (height, width)."""
    side = whole(1, 1 << 15)
    return side(value) or (isinstance(value, list) and len(value) == 2 and all(map(side, value)))


AGAIN = "export the model again with this version: mpcify export MODEL OUT"
WHOLE = ("vocabulary", "positions")
TEXT: Mapping[str, Rule] = {
    "truncation": one_of("left", "right"),
    "longest": whole(1),
    "types": whole(0, 2),
    "skipped": lambda value: value is None or whole(0)(value),
}
IMAGE: Mapping[str, Rule] = {
    "channels": whole(1, 3),
    "size": side_or_sides,
    "patch": side_or_sides,
    "do_resize": flag,
    "resample": whole(0, 5),
    "do_rescale": flag,
    "rescale": finite,
    "do_normalize": flag,
    "mean": one_or_channels,
    "std": divisor,
}
FACTS: Mapping[str, Rule] = {
    "notice": word,
    "model": word,
    "family": word,
    "task": one_of(*TASKS),
    "recipe": word,
    "labels": lambda value: isinstance(value, list) and bool(value) and all(map(word, value)),
    "embeddings": one_of("client", "one-hot", "patches"),
    "vocabulary": whole(0),
    "positions": whole(0),
    "segments": flag,
    "text": lambda value: value is None or isinstance(value, dict),
    "image": lambda value: value is None or isinstance(value, dict),
}
OPTIONAL: Mapping[str, Rule] = {
    "taught": lambda value: isinstance(value, list) and bool(value) and all(map(whole(1, 1 << 20), value)),
}
