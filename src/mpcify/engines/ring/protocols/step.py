"""What every protocol is: a step that makes one value, and the roles that take it."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from mpcify.engines.ring.prg import Purpose

Shape = tuple[int, ...]
Message = tuple[np.ndarray, int]  # words, and how many of their bits count


class Role(Protocol):
    """A role in one set of randomness. values: by the number of the step that made them. kept: what a step needs again.

    role: client, owner or dealer.
    """

    role: Literal["client", "owner", "dealer"]
    values: dict[int, Any]
    kept: dict[int, Any]

    def weight(self, slot: int) -> Any:
        """A weight's F at the client, W at the owner, B = W − F at the dealer."""

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """The client's inputs, as floats."""

    def owned(self, key: str) -> np.ndarray:
        """The owner's own array, encoded."""


class Dealing(Role, Protocol):
    """The dealer's role."""

    def of_client(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the client draws too."""

    def of_owner(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the owner draws too."""

    def give(self, step: int, purpose: Purpose, secret: np.ndarray, bits: int) -> np.ndarray:
        """Shares a secret mod 2^bits: the client's share, which it draws, is returned; the owner is sent the rest."""


class Computing(Role, Protocol):
    """The client's or the owner's role."""

    first: bool  # whether it adds what both know: the owner does

    def draw(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the dealer draws too."""

    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        """This party's share of what the dealer gives, in the order in which it gives."""

    def send_ahead(self, words: np.ndarray, bits: int) -> None:
        """Client: sends words that depend on no input, before the request."""

    def sent_ahead(self, shape: Shape, bits: int) -> np.ndarray:
        """Owner: those words, in the same order."""


@dataclass(kw_only=True)
class Step(ABC):
    """A step of a plan. Its value has its index.

    operation: of the graph, for which it runs. sources: the steps whose values it reads. shape: of its value. level: how
    many messages stand before its value, its own included. ahead: whether the client's part depends on no input, so
    that it is computed before the request. ring: the bits of its value that later steps need.
    """

    index: int
    operation: str
    sources: tuple[int, ...]
    shape: Shape
    level: int
    ahead: bool = False
    dealt: bool = True
    ring: int = field(default=0)

    def needs(self) -> tuple[int, ...]:
        """The bits that it needs of each source, once `ring` is known."""
        return (self.ring,) * len(self.sources)

    def deal(self, dealer: Dealing) -> None:
        """The dealer's part, and what it gives."""

    def prepare(self, party: Computing) -> None:
        """What client and owner do before the request, `compute` apart."""

    def compute(self, party: Computing) -> None:
        """This party's part from those of the sources, without a message."""

    def say(self, party: Computing) -> Message | None:
        """What this party sends the other one."""
        return None

    def hear(self, party: Computing, words: np.ndarray | None) -> None:
        """Takes what the other one said, and makes the value."""

    @property
    def talks(self) -> bool:
        """Whether a message may stand before its value."""
        return type(self).hear is not Step.hear

    def words(self, role: str) -> tuple[int, int] | None:
        """How many words a role says, of how many bits: what the other one must receive."""
        return None
