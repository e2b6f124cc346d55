"""How good answers are, and how much two runs differ. Logits are arrays of shape (examples, labels)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

TOLERANCE = 2e-2  # two regression answers agree within it


@dataclass(frozen=True)
class Metrics:
    """accuracy: share of right answers, None for regression. pearson, spearman: correlations with the right values.

    A correlation is None if it does not exist: one example, or values that are all equal.
    """

    accuracy: float | None
    pearson: float | None = None
    spearman: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """The metrics as a JSON object; the correlations only for regression."""
        return asdict(self) if self.accuracy is None else {"accuracy": self.accuracy}


def metrics(logits: np.ndarray, labels: Sequence[int | float] | np.ndarray, regression: bool = False) -> Metrics:
    """Accuracy of the arg-max for classification, the correlations of the one logit with the labels for regression."""
    right = np.asarray(labels)
    if regression:
        values = np.asarray(logits, np.float64).reshape(len(right))
        return Metrics(None, pearson(values, right), pearson(ranks(values), ranks(right)))
    return Metrics(float(np.mean(correct(logits, right))))


def correct(logits: np.ndarray, labels: Sequence[int | float] | np.ndarray) -> np.ndarray:
    """Which arg-max is the label, as booleans (examples,)."""
    return np.argmax(logits, axis=-1) == np.asarray(labels)


def agreement(a: np.ndarray, b: np.ndarray, regression: bool = False) -> float:
    """The share of examples with the same arg-max; for regression, of answers at most 2e-2 apart."""
    same = np.abs(a - b).max(axis=-1) <= TOLERANCE if regression else np.argmax(a, axis=-1) == np.argmax(b, axis=-1)
    return float(np.mean(same))


def max_error(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |a − b|."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    """Σ(a − ā)(b − b̄) / √(Σ(a − ā)² Σ(b − b̄)²), rounded into [−1, 1]; None if a side is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:  # sums of rounded means would say otherwise
        return None
    x, y = (np.asarray(values, np.float64) - np.mean(values, dtype=np.float64) for values in (a, b))
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return min(1.0, max(-1.0, float(x @ y) / norm)) if norm > 0 else None


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[group]


def mcnemar_p(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """McNemar's exact two-sided test that a and b, which answered the same examples, are right equally often.

    p = min(1, 2 · Σ_{i ≤ min(x, y)} C(x + y, i) / 2^(x + y)), x and y the examples that only a, only b got right
    (McNemar 1947; the exact binomial form).
    """
    x = int(np.sum(correct_a & ~correct_b))
    y = int(np.sum(~correct_a & correct_b))
    tail = sum(math.comb(x + y, i) for i in range(min(x, y) + 1))
    return min(1.0, 2 * tail / 2 ** (x + y))
