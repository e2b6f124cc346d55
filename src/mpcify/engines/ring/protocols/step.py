"""What every protocol is: a step that makes one value, and the roles that take it."""

import math
from dataclasses import dataclass, field

import numpy as np

from mpcify.engines.ring.roles import Dealer, Peer, Shape

Message = tuple[np.ndarray, int]  # words, and how many of their bits count
Words = tuple[int, int]  # how many words of a message, of how many bits


@dataclass(kw_only=True)
class Step:
    """A step of a plan. Its value has its index.

    operation: of the graph, for which it runs. sources: the steps whose values it reads. shape: of its value. level:
    how many messages stand before its value, its own included. ahead: whether the client's part depends on no input, so
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

    def deal(self, dealer: Dealer) -> None:
        """The dealer's part, and what it gives."""

    def prepare(self, party: Peer) -> None:
        """What client and owner do before the request, `compute` apart."""

    def compute(self, party: Peer) -> None:
        """This party's part from those of the sources, without a message."""

    def say(self, party: Peer) -> Message | None:
        """What this party sends the other one."""
        return None

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        """Takes what the other one said, and makes the value."""

    @property
    def talks(self) -> bool:
        """Whether a message may stand before its value."""
        return type(self).hear is not Step.hear

    def words(self, role: str) -> Words | None:
        """The words that a role says: what the other one must receive."""
        return None

    def dealt_words(self) -> tuple[Words, ...]:
        """The words that the dealer gives the owner, in the order of `deal`."""
        return ()

    def words_ahead(self) -> tuple[Words, ...]:
        """The words that the client sends the owner before the request."""
        return ()

    @property
    def count(self) -> int:
        """How many words its value has."""
        return math.prod(self.shape)
