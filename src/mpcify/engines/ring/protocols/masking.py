"""Masked values, x = δ + A, from values in parts.

What the masked value is multiplied with has a ring of its own, 2^K, so T bits of x may be cut off on the way: of each
summand by itself, which is right mod 2^K if the summands were right mod 2^(K+T). That leaves x/2^T with an error below
3/2 units of mean zero.
"""

from dataclasses import dataclass, field

import numpy as np

from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.step import Message, Step, Words
from mpcify.engines.ring.roles import Dealer, Peer
from mpcify.engines.ring.values import Masked, added, minus, plus, rounding


@dataclass(kw_only=True)
class Mask(Step):
    """δ known to the owner (and to a client who knows x), A to the client. shift: T.

    1. The client sends (x₀ + ρ − D₀) >> T (ring bits), the owner adds (x₁ + x₂ − ρ + 3·2^(T−1)) >> T; A = D₀ >> T.
    Dealt: x₂ − ρ (ring + T bits), if there is an x₂. known: whether x is the client's own.
    """

    known: bool = field(default=False)
    corrected: bool = field(default=False)
    shift: int = field(default=0)

    def needs(self) -> tuple[int, ...]:
        return (self.ring + self.shift,)

    def deal(self, dealer: Dealer) -> None:
        secret = dealer.values[self.sources[0]]
        if self.corrected:
            dealer.give(self.index, Purpose.OTHER, secret, self.ring + self.shift)
        mask = dealer.of_client(self.index, Purpose.FRESH, self.shape)
        dealer.values[self.index] = Masked(None, mask >> self.shift)

    def prepare(self, party: Peer) -> None:
        bits = self.ring + self.shift
        share = party.given(self.index, Purpose.OTHER, self.shape, bits) if self.corrected else None
        mask = None if party.first else party.draw(self.index, Purpose.FRESH, self.shape)
        party.kept[self.index] = mask, share
        if mask is not None:
            party.values[self.index] = Masked(None, mask >> self.shift)

    def say(self, party: Peer) -> Message | None:
        if party.first:
            return None
        mask, share = party.kept.pop(self.index)
        hidden = plus(added(party.values[self.sources[0]], share), -mask) >> self.shift
        if self.known:
            party.values[self.index] = Masked(hidden, mask >> self.shift)
        return hidden, self.ring

    def words(self, role: str) -> Words | None:
        return (self.count, self.ring) if role == "client" else None

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.ring + self.shift),) if self.corrected else ()

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        if words is not None:
            _, share = party.kept.pop(self.index)
            own, delta = added(party.values[self.sources[0]], share), words.reshape(self.shape)
            if own is not None:
                delta = delta + ((own + 3 * rounding(self.shift)) >> self.shift)
            party.values[self.index] = Masked(delta, None)


@dataclass(kw_only=True)
class MaskBoth(Step):
    """δ known to both, A = −((D₀ + D₁ − x₂) >> T) shared. shift: T.

    1. Both send (x_i + D_i) >> T (ring bits), at once, the owner with 2^(T−1) added before.
    Dealt: A.
    """

    shift: int = field(default=0)

    def needs(self) -> tuple[int, ...]:
        return (self.ring + self.shift,)

    def deal(self, dealer: Dealer) -> None:
        half, other = (draw(self.index, Purpose.MASK, self.shape) for draw in (dealer.of_client, dealer.of_owner))
        mask = -(minus(half + other, dealer.values[self.sources[0]]) >> self.shift)
        dealer.give(self.index, Purpose.FRESH, mask, self.ring)
        dealer.values[self.index] = Masked(None, mask)

    def prepare(self, party: Peer) -> None:
        mask = party.draw(self.index, Purpose.MASK, self.shape)
        party.kept[self.index] = mask, party.given(self.index, Purpose.FRESH, self.shape, self.ring)

    def say(self, party: Peer) -> Message:
        mask, share = party.kept[self.index]
        mine = plus(party.values[self.sources[0]], mask)
        if party.first and self.shift:
            mine = mine + rounding(self.shift)
        mine = mine >> self.shift
        party.kept[self.index] = mine, share
        return mine, self.ring

    def words(self, role: str) -> Words:
        return self.count, self.ring

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.ring),)

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        assert words is not None
        mine, share = party.kept.pop(self.index)
        party.values[self.index] = Masked(mine + words.reshape(self.shape), share)


@dataclass(kw_only=True)
class Parts(Step):
    """A masked value whose δ the owner alone knows, in parts: A is the client's, δ the owner's."""

    def deal(self, dealer: Dealer) -> None:
        dealer.values[self.index] = None

    def compute(self, party: Peer) -> None:
        x = party.values[self.sources[0]]
        party.values[self.index] = x.delta if party.first else x.mask
