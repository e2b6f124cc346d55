"""From logits to answers."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def answers(logits: np.ndarray, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a user is told for each row of logits (N, labels); about: `graph.about` (task, labels).

    Classification: {"label", "score", "scores": {label: p}}, p = softmax(logits), the label that of the largest logit.
    Regression: {"value"}.
    """
    values = np.asarray(logits, np.float64)
    if about["task"] == "regression":
        return [{"value": float(row[0])} for row in values]
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    return [answer(row, about["labels"]) for row in shares]


def answer(shares: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """One classification answer from its probabilities (labels,)."""
    best = int(np.argmax(shares))
    scores = {label: float(share) for label, share in zip(labels, shares, strict=True)}
    return {"label": labels[best], "score": float(shares[best]), "scores": scores}
