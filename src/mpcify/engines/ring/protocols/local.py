"""Steps without a message and without randomness: each role does the same to its part."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.roles import Dealer, Peer, Role
from mpcify.engines.ring.values import Move, Part, added, encode, moved


@dataclass(kw_only=True)
class PartWise(Step, ABC):
    """A function that is linear in its sources."""

    @abstractmethod
    def apply(self, *parts: Any) -> Any:
        """A role's part of the value from its parts of the sources; None is zero."""

    def deal(self, dealer: Dealer) -> None:
        self.compute(dealer)

    def compute(self, party: Role) -> None:
        party.values[self.index] = self.apply(*(party.values[source] for source in self.sources))


@dataclass(kw_only=True)
class Add(PartWise):
    """a·i + b·j for two whole numbers, which bring both to one scale."""

    factors: tuple[int, int]

    def apply(self, a: Part, b: Part) -> Part:
        i, j = self.factors
        a, b = (part if part is None or factor == 1 else part * factor for part, factor in ((a, i), (b, j)))
        both = added(a, b)
        return both if both is None or both.shape == self.shape else np.broadcast_to(both, self.shape)


@dataclass(kw_only=True)
class Multiply(PartWise):
    """x·i for a whole number."""

    factor: int

    def apply(self, x: Part) -> Part:
        return None if x is None else x * self.factor


@dataclass(kw_only=True)
class Sum(PartWise):
    """The sum along an axis, which is kept with size 1."""

    axis: int

    def apply(self, x: Part) -> Part:
        return None if x is None else x.sum(self.axis, keepdims=True)


@dataclass(kw_only=True)
class Centre(PartWise):
    """factor·x − share·Σx along the last axis: with share = factor/n the deviations from the mean, times factor."""

    factor: int
    share: int

    def apply(self, x: Part) -> Part:
        return None if x is None else x * self.factor - x.sum(-1, keepdims=True) * self.share


@dataclass(kw_only=True)
class Join(PartWise):
    """Values one behind the other along an axis."""

    axis: int
    shapes: tuple[tuple[int, ...], ...]

    def apply(self, *parts: Part) -> Part:
        if all(part is None for part in parts):
            return None
        whole = (
            np.zeros(shape, np.int64) if part is None else part for part, shape in zip(parts, self.shapes, strict=True)
        )
        return np.concatenate(list(whole), self.axis)


@dataclass(kw_only=True)
class Moved(PartWise):
    """The same elements, moved, picked or repeated; of any form."""

    move: Move

    def apply(self, x: Any) -> Any:
        return moved(x, self.move)


@dataclass(kw_only=True)
class FromClient(Step, ABC):
    """An input, or a function of one that the client computes, at a scale. The dealer has no part of it."""

    name: str
    scale: int
    function: Move = np.asarray

    def deal(self, dealer: Dealer) -> None:
        dealer.values[self.index] = None

    def encoded(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value, of a request's inputs in floats."""
        return encode(self.function(inputs[self.name]), self.scale)


@dataclass(kw_only=True)
class Entered(FromClient):
    """An input of the client's, a party: its part alone."""

    def compute(self, party: Peer) -> None:
        party.values[self.index] = None if party.first else self.encoded(party.inputs)


@dataclass(kw_only=True)
class EnteredInParts(FromClient):
    """An input of a client who is no party: x₀ is drawn by it, and x₁ = x − x₀; each by itself is uniform."""

    def compute(self, party: Peer) -> None:
        party.values[self.index] = party.entered[self.index]


@dataclass(kw_only=True)
class Owned(Step):
    """A value that the owner computes from its weights alone, at a scale: its part alone."""

    key: str

    def deal(self, dealer: Dealer) -> None:
        dealer.values[self.index] = None

    def compute(self, party: Peer) -> None:
        party.values[self.index] = party.arrays[self.key] if party.first else None
