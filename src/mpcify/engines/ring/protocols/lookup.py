"""A function of one variable by a table that the dealer rotates: one opening, no series, no comparison."""

import math
from abc import ABC
from dataclasses import dataclass

import numpy as np

from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.step import Message, Step, Words
from mpcify.engines.ring.roles import Dealer, Peer
from mpcify.engines.ring.values import minus, plus


@dataclass(frozen=True)
class Table:
    """Functions f on [0, 2^bits): around i·2^step, f ≈ a[i] + b[i]·w + q[i]·w², w in units of 2^(step − fine).

    a, b, q (F, N): integers, N = 2^(bits − step); |w| ≤ 2^fine. bits: of the argument, which must stay below
    2^bits − 2^step, since the index is ⌊v/2^step⌋ or one more: the same one for all functions.
    """

    bits: int
    step: int
    fine: int
    coefficients: np.ndarray  # (3, F, N)

    @property
    def entries(self) -> int:
        """N."""
        return 1 << (self.bits - self.step)


@dataclass(kw_only=True)
class Lookup(Step):
    """f(x + offset) for every f of a table, element by element: (F, …).

    c = x + offset + r mod 2^l is opened (by the owner alone if the client's part depends on no input: it sends the bits
    from step − fine on). With ρ = r >> step and r′ = (r mod 2^step) >> (step − fine) the dealer shares for every j, for
    i = j − ρ mod N: a[i] − b[i]·r′ + q[i]·r′², b[i] − 2q[i]·r′, q[i]. Those at j = c >> step are a polynomial in the w
    of c.
    1. Both send x_i + D_i (l bits), or the client ahead and the owner c (l − step + fine bits).
    Dealt: 3FN values.
    """

    table: Table
    offset: int
    early: bool

    def needs(self) -> tuple[int, ...]:
        return (self.table.bits,)

    @property
    def tabled(self) -> tuple[int, ...]:
        """The shape of what is shared."""
        return (*self.table.coefficients.shape[:2], math.prod(self.opens), self.table.entries)

    @property
    def opens(self) -> tuple[int, ...]:
        """The shape of what is opened: that of the argument."""
        return self.shape[1:]

    def deal(self, dealer: Dealer) -> None:
        table = self.table
        half, other = (draw(self.index, Purpose.MASK, self.opens) for draw in (dealer.of_client, dealer.of_owner))
        r = minus(half + other, dealer.values[self.sources[0]]).reshape(-1)
        low = (r & ((1 << table.step) - 1)) >> (table.step - table.fine)
        turn = (r >> table.step) & (table.entries - 1)
        twice = np.concatenate([table.coefficients, table.coefficients], 2)
        windows = np.lib.stride_tricks.sliding_window_view(twice, table.entries, 2)
        a, b, q = windows[:, :, (table.entries - turn) & (table.entries - 1)]
        low = low[:, None]
        rotated = np.stack([a + low * (q * low - b), b - 2 * q * low, q])
        dealer.give(self.index, Purpose.TABLE, rotated, self.ring)
        dealer.values[self.index] = None

    def prepare(self, party: Peer) -> None:
        mask = party.draw(self.index, Purpose.MASK, self.opens)
        share = party.given(self.index, Purpose.TABLE, self.tabled, self.ring)
        if self.early:
            own = None if party.first else plus(party.values.get(self.sources[0]), mask)
            mask = plus(party.half(own, self.opens, self.table.bits), mask)
        party.kept[self.index] = mask, share

    @property
    def dropped(self) -> int:
        """The lowest bits of c, which nobody needs."""
        return self.table.step - self.table.fine

    def say(self, party: Peer) -> Message | None:
        if self.early and not party.first:
            return None
        mask, share = party.kept[self.index]
        c = plus(party.values[self.sources[0]], mask)
        if party.first:
            c = c + self.offset
        party.kept[self.index] = c, share
        return (c >> self.dropped, self.table.bits - self.dropped) if self.early else (c, self.table.bits)

    def words(self, role: str) -> Words | None:
        count = math.prod(self.opens)
        if self.early:
            return (count, self.table.bits - self.dropped) if role == "owner" else None
        return count, self.table.bits

    def dealt_words(self) -> tuple[Words, ...]:
        return ((math.prod(self.tabled), self.ring),)

    def words_ahead(self) -> tuple[Words, ...]:
        return ((math.prod(self.opens), self.table.bits),) if self.early else ()

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        c, share = party.kept.pop(self.index)
        if words is not None:
            words = words.reshape(self.opens)
            c = words << self.dropped if self.early else c + words
        c, table = c.reshape(-1), self.table
        place = (c >> table.step) & (table.entries - 1)
        w = (c & ((1 << table.step) - 1)) >> self.dropped
        a, b, q = share[:, :, np.arange(c.size), place]
        party.values[self.index] = (a + w * (b + w * q)).reshape(self.shape)


@dataclass(kw_only=True)
class ForClient(Step, ABC):
    """x for the client, mod 2^width, over a scale. Dealt: x₂ − ρ; y₀ = x₀ + ρ and y₁ = x₁ + x₂ − ρ are x in two."""

    name: str
    scale: int
    width: int

    def needs(self) -> tuple[int, ...]:
        return (self.width,)

    def deal(self, dealer: Dealer) -> None:
        dealer.give(self.index, Purpose.OTHER, dealer.values[self.sources[0]], self.width)

    def prepare(self, party: Peer) -> None:
        party.kept[self.index] = party.given(self.index, Purpose.OTHER, self.shape, self.width)

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.width),)

    def half(self, party: Peer) -> np.ndarray:
        """y₀ or y₁."""
        return plus(party.values[self.sources[0]], party.kept.pop(self.index))

    def joined(self, half: np.ndarray, other: np.ndarray) -> np.ndarray:
        """x, in floats."""
        spare = 64 - self.width
        return ((half + other << spare) >> spare) / self.scale


@dataclass(kw_only=True)
class Output(ForClient):
    """x at the client, a party. 1. The owner sends y₁ (width bits). Dealt: x₂ − ρ."""

    def say(self, party: Peer) -> Message | None:
        return (self.half(party), self.width) if party.first else None

    def words(self, role: str) -> Words | None:
        return (self.count, self.width) if role == "owner" else None

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        if words is not None:
            party.values[self.index] = self.joined(self.half(party), words.reshape(self.shape))


@dataclass(kw_only=True)
class OutputInParts(ForClient):
    """y₀ and y₁, for a client who is no party. Nothing is sent; dealt: x₂ − ρ.

    What client and owner have of x is bound to what both opened before; ρ, which neither message nor other value holds,
    makes y₀ uniform, and y₁ = x − y₀: whoever gets both learns x alone.
    """

    def compute(self, party: Peer) -> None:
        party.values[self.index] = self.half(party)
