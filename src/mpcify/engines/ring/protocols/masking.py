"""Masked values, x = δ + A, from values in parts."""

from dataclasses import dataclass, field

import numpy as np

from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.step import Message, Step, Words
from mpcify.engines.ring.roles import Dealer, Peer
from mpcify.engines.ring.values import Masked, added, plus


@dataclass(kw_only=True)
class Mask(Step):
    """δ known to the owner (and to a client who knows x), A = D₀ to the client.

    1. The client sends x₀ + ρ − A (ring bits), the owner adds x₁ and x₂ − ρ.
    Dealt: x₂ − ρ, if there is an x₂. known: whether x is the client's own.
    """

    known: bool = field(default=False)
    corrected: bool = field(default=False)

    def deal(self, dealer: Dealer) -> None:
        secret = dealer.values[self.sources[0]]
        if self.corrected:
            dealer.give(self.index, Purpose.OTHER, secret, self.ring)
        dealer.values[self.index] = Masked(None, dealer.of_client(self.index, Purpose.FRESH, self.shape))

    def prepare(self, party: Peer) -> None:
        share = party.given(self.index, Purpose.OTHER, self.shape, self.ring) if self.corrected else None
        mask = None if party.first else party.draw(self.index, Purpose.FRESH, self.shape)
        party.kept[self.index] = mask, share
        if not party.first:
            party.values[self.index] = Masked(None, mask)

    def say(self, party: Peer) -> Message | None:
        if party.first:
            return None
        mask, share = party.kept.pop(self.index)
        hidden = plus(added(party.values[self.sources[0]], share), -mask)
        if self.known:
            party.values[self.index] = Masked(hidden, mask)
        return hidden, self.ring

    def words(self, role: str) -> Words | None:
        return (self.count, self.ring) if role == "client" else None

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.ring),) if self.corrected else ()

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        if words is not None:
            _, share = party.kept.pop(self.index)
            delta = added(added(party.values[self.sources[0]], share), words.reshape(self.shape))
            party.values[self.index] = Masked(delta, None)


@dataclass(kw_only=True)
class MaskBoth(Step):
    """δ known to both, A = x₂ − D₀ − D₁ shared.

    1. Both send x_i + D_i (ring bits), at once.
    Dealt: A.
    """

    def deal(self, dealer: Dealer) -> None:
        half, other = (draw(self.index, Purpose.MASK, self.shape) for draw in (dealer.of_client, dealer.of_owner))
        mask = plus(dealer.values[self.sources[0]], -(half + other))
        dealer.give(self.index, Purpose.FRESH, mask, self.ring)
        dealer.values[self.index] = Masked(None, mask)

    def prepare(self, party: Peer) -> None:
        mask = party.draw(self.index, Purpose.MASK, self.shape)
        party.kept[self.index] = mask, party.given(self.index, Purpose.FRESH, self.shape, self.ring)

    def say(self, party: Peer) -> Message:
        mask, share = party.kept[self.index]
        mine = plus(party.values[self.sources[0]], mask)
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
