"""Arrays that the owner computes from its weights, before it encodes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcify.engines.plain import evaluate_operation
from mpcify.graph.graph import Operation

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Derived:
    """An array that the owner computes from its weights alone. key: what it is; equal keys stand for equal arrays."""

    key: str
    shape: tuple[int, ...]
    compute: Callable[[Arrays], np.ndarray]


def picked(name: str) -> Callable[[Arrays], np.ndarray]:
    """A weight by its name."""
    return lambda weights: np.asarray(weights[name], np.float64)


def computed(operation: Operation, inputs: list[Derived]) -> Derived:
    """What the owner computes of its own values."""
    attributes: Mapping[str, Any] = operation.attributes
    key = f"{operation.kind}({', '.join(item.key for item in inputs)}; {dict(sorted(attributes.items()))})"

    def compute(weights: Arrays) -> np.ndarray:
        return evaluate_operation(operation, tuple(item.compute(weights) for item in inputs))

    return Derived(key, operation.shape, compute)


def folded(g: Derived, b: Derived, weight: Derived, bias: Derived) -> tuple[Derived, Derived]:
    """W and bias for x of x ⊙ g + b: diag(g)·W and b·W + bias."""
    key = f"{g.key}, {b.key}, {weight.key}, {bias.key}"
    return (
        Derived(f"diagonal({key})", weight.shape, lambda w: g.compute(w)[:, None] * weight.compute(w)),
        Derived(f"bias({key})", bias.shape, lambda w: b.compute(w) @ weight.compute(w) + bias.compute(w)),
    )


def centred(value: Derived) -> Derived:
    """A value of the owner's less its mean along the last axis."""

    def compute(weights: Arrays) -> np.ndarray:
        array = value.compute(weights)
        return array - array.mean(-1, keepdims=True)

    return Derived(f"centred({value.key})", value.shape, compute)


def centring(g: Derived) -> Derived:
    """g and g/n, of n values."""
    width = g.shape[-1]
    return Derived(f"centring({g.key})", (2, width), lambda w: np.stack([g.compute(w), g.compute(w) / width]))
