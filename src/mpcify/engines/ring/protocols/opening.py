"""Opening a masked value with a truncation, and what follows from an opened value without a message.

z is masked by r = D₀ + D₁ − z₂: a part that the dealer alone has is never sent, it only moves the mask. Client and
owner cut T bits off their halves a = z₀ + D₀ and b = z₁ + D₁ + 2^(K−2) + 2^(T−1), mod 2^K, before they add them up:

    c = (a >> T) + (b >> T) mod 2^κ

The dealer knows h = r >> T and m, its highest bit. With u = c − 2^(κ−2) and t = 1 − (highest bit of c), over the
integers

    x = u − h + 2^κ·t·m = (z + 2^(T−1) + (r mod 2^T) − (a mod 2^T) − (b mod 2^T))/2^T

if |z| < 2^(K−2) − 2^(T+1), for then all of c but h lies between 0 and 2^(κ−1). So x may be lifted to any ring, and its
error is below 3/2 units and has mean zero. (Without a cut nothing is added: it is exact.)
"""

from dataclasses import dataclass, field

import numpy as np

from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.step import Message, Step, Words
from mpcify.engines.ring.roles import Dealer, Peer
from mpcify.engines.ring.values import Masked, Opened, minus, plus, rounding


@dataclass(kw_only=True)
class Open(Step):
    """x, opened. shift: T. width: K. early: whether the client's part of x depends on no input. high, wrap: the bits of
    h and m that are shared, 0 if no step needs them.

    1. If it does not, the client sends a >> T ahead (κ bits), and the owner sends c (κ bits).
    2. Else the client sends a >> T and the owner b >> T (κ bits each), at once.
    Dealt: h and m, as far as they are needed.
    """

    shift: int
    width: int
    early: bool
    high: int = field(default=0)
    wrap: int = field(default=0)

    @property
    def kappa(self) -> int:
        """κ = K − T."""
        return self.width - self.shift

    def needs(self) -> tuple[int, ...]:
        return (self.width,)

    def deal(self, dealer: Dealer) -> None:
        half, other = (draw(self.index, Purpose.MASK, self.shape) for draw in (dealer.of_client, dealer.of_owner))
        mask = minus(half + other, dealer.values[self.sources[0]])
        h, m = formulas.halves(mask, self.shift, self.width)
        high = dealer.give(self.index, Purpose.HIGH, h, self.high) if self.high else None
        if self.wrap:
            dealer.give(self.index, Purpose.WRAP, m, self.wrap)
        dealer.values[self.index] = Opened(None, h, m, high)

    def prepare(self, party: Peer) -> None:
        mask = party.draw(self.index, Purpose.MASK, self.shape)
        h = party.given(self.index, Purpose.HIGH, self.shape, self.high) if self.high else None
        m = party.given(self.index, Purpose.WRAP, self.shape, self.wrap) if self.wrap else None
        half = None
        if self.early:
            half = party.half(None if party.first else self.half(party, mask), self.shape, self.kappa)
        party.kept[self.index] = mask, half
        party.values[self.index] = Opened(None, h, m)

    def half(self, party: Peer, mask: np.ndarray) -> np.ndarray:
        """a >> T or b >> T."""
        half = plus(party.values.get(self.sources[0]), mask)
        if party.first:
            half = half + ((1 << self.width - 2) + rounding(self.shift))
        return half >> self.shift

    def say(self, party: Peer) -> Message | None:
        if self.early and not party.first:
            return None
        mask, other = party.kept[self.index]
        c = party.kept[self.index] = plus(other, self.half(party, mask))
        return c, self.kappa

    def words(self, role: str) -> Words | None:
        return None if self.early and role == "client" else (self.count, self.kappa)

    def dealt_words(self) -> tuple[Words, ...]:
        return tuple((self.count, bits) for bits in (self.high, self.wrap) if bits)

    def words_ahead(self) -> tuple[Words, ...]:
        return ((self.count, self.kappa),) if self.early else ()

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        c, dealt = party.kept.pop(self.index), party.values[self.index]
        if words is not None:
            words = words.reshape(self.shape)
            c = words if self.early else c + words
        party.values[self.index] = Opened(c, dealt.h, dealt.m)


@dataclass(kw_only=True)
class FromOpened(Step):
    """A step that reads an opened value."""

    opened: Open

    def opened_needs(self) -> tuple[int, int]:
        """The bits of h and m that it needs."""
        return 0, 0

    @property
    def wrap_bits(self) -> int:
        """The bits of m that count: it stands at 2^κ."""
        return max(self.ring - self.opened.kappa, 0)

    def lifted(self, x: Opened, m: np.ndarray | None, first: bool) -> np.ndarray:
        """[first]·u + 2^κ·t·m, of which m may count for nothing."""
        assert x.c is not None
        return formulas.lift(x.c, self.opened.kappa, np.zeros_like(x.c) if m is None else m, first)


@dataclass(kw_only=True)
class Lift(FromOpened):
    """x in parts: 2^κ·t·m₀, u + 2^κ·t·m₁, −h. Nothing is sent; dealt: m."""

    def opened_needs(self) -> tuple[int, int]:
        return 0, self.wrap_bits

    def deal(self, dealer: Dealer) -> None:
        dealer.values[self.index] = -dealer.values[self.sources[0]].h

    def compute(self, party: Peer) -> None:
        x = party.values[self.sources[0]]
        party.values[self.index] = self.lifted(x, x.m, party.first)


@dataclass(kw_only=True)
class WithProduct(FromOpened):
    """A step for which the dealer also gives a product with m, of its own shape."""

    def opened_needs(self) -> tuple[int, int]:
        return self.ring, self.wrap_bits

    def give(self, dealer: Dealer, product: np.ndarray) -> None:
        """Shares the product, if any bit of it counts."""
        if self.wrap_bits:
            dealer.give(self.index, Purpose.PRODUCT, product, self.wrap_bits)

    def prepare(self, party: Peer) -> None:
        if self.wrap_bits:
            party.kept[self.index] = party.given(self.index, Purpose.PRODUCT, self.shape, self.wrap_bits)

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.wrap_bits),) if self.wrap_bits else ()


@dataclass(kw_only=True)
class Square(WithProduct):
    """x² = u² − 2u·h + h² + 2^κ·t·(m·(2u + 2^κ) − 2·mh), with h² as the dealer's part.

    Nothing is sent; dealt: h, m and mh.
    """

    def deal(self, dealer: Dealer) -> None:
        x = dealer.values[self.sources[0]]
        self.give(dealer, x.h * x.m)
        dealer.values[self.index] = x.h * x.h

    def compute(self, party: Peer) -> None:
        x = party.values[self.sources[0]]
        product = party.kept.pop(self.index, None)
        m, product = (np.zeros_like(x.c) if part is None else part for part in (x.m, product))
        party.values[self.index] = formulas.square(x.c, self.opened.kappa, x.h, m, product, party.first)


@dataclass(kw_only=True)
class Weigh(WithProduct):
    """s·x for a number s of the client's, masked as s = δ + A, with −A·h as the dealer's part.

        s·u − δ·h + 2^κ·t·(δ·m + A·m)

    of which s·u is the client's. Nothing is sent; dealt: h, m and A·m. Shapes broadcast.
    """

    def needs(self) -> tuple[int, ...]:
        return 0, self.ring

    def deal(self, dealer: Dealer) -> None:
        x, s = (dealer.values[source] for source in self.sources)
        self.give(dealer, np.broadcast_to(s.mask * x.m, self.shape))
        dealer.values[self.index] = np.broadcast_to(-(s.mask * x.h), self.shape)

    def compute(self, party: Peer) -> None:
        x, s = (party.values[source] for source in self.sources)
        value = -(s.delta * x.h)
        if self.wrap_bits:
            shared = s.delta * x.m + party.kept.pop(self.index)
            value = value + formulas.lift(np.broadcast_to(x.c, self.shape), self.opened.kappa, shared, False)
        if not party.first:
            value = value + (s.delta + s.mask) * self.lifted(x, None, True)
        party.values[self.index] = np.broadcast_to(value, self.shape)


@dataclass(kw_only=True)
class WeighBoth(WithProduct):
    """s·x for a value masked towards both, s = δ + A with A shared, with −A·h as the dealer's part.

        δ·(u − h + 2^κ·t·m) + A·u + 2^κ·t·(A·m)

    Nothing is sent; dealt: h, m and A·m. Shapes broadcast.
    """

    def needs(self) -> tuple[int, ...]:
        return 0, self.ring

    def deal(self, dealer: Dealer) -> None:
        x, s = (dealer.values[source] for source in self.sources)
        self.give(dealer, s.mask * x.m)
        dealer.values[self.index] = -(s.mask * x.h)

    def compute(self, party: Peer) -> None:
        x, s = (party.values[source] for source in self.sources)
        value = s.delta * (self.lifted(x, x.m, party.first) - x.h) + s.mask * self.lifted(x, None, True)
        if self.wrap_bits:
            c = np.broadcast_to(x.c, self.shape)
            value += formulas.lift(c, self.opened.kappa, party.kept.pop(self.index), False)
        party.values[self.index] = value


@dataclass(kw_only=True)
class Product(FromOpened):
    """x·y for opened x and y (v, g, w, s, λ in place of u, h, m, t, κ), y with one value a row of x.

        u·v − u·g − v·h + h·g + 2^κ·t·(v·m − m·g) + 2^λ·s·(u·w − h·w) + 2^(κ+λ)·t·s·m·w

    with h·g as the dealer's part. Nothing is sent; dealt: h, m, g, w and m·g, h·w, m·w.
    """

    other: Open

    @property
    def other_wrap(self) -> int:
        """The bits of w that count."""
        return max(self.ring - self.other.kappa, 0)

    def needs(self) -> tuple[int, ...]:
        return 0, 0

    def products(self) -> tuple[tuple[Purpose, int], ...]:
        """What is dealt beside h, m, g, w."""
        both = max(self.ring - self.opened.kappa - self.other.kappa, 0)
        return (Purpose.PRODUCT, self.wrap_bits), (Purpose.OTHER, self.other_wrap), (Purpose.BOTH, both)

    def opened_needs(self) -> tuple[int, int]:
        return self.ring, self.wrap_bits

    def deal(self, dealer: Dealer) -> None:
        x, y = (dealer.values[source] for source in self.sources)
        found = x.m * y.h, x.h * y.m, x.m * y.m
        for (purpose, bits), secret in zip(self.products(), found, strict=True):
            if bits:
                dealer.give(self.index, purpose, secret, bits)
        dealer.values[self.index] = x.h * y.h

    def prepare(self, party: Peer) -> None:
        party.kept[self.index] = [
            party.given(self.index, purpose, self.shape, bits) if bits else np.zeros(self.shape, np.int64)
            for purpose, bits in self.products()
        ]

    def dealt_words(self) -> tuple[Words, ...]:
        return tuple((self.count, bits) for _, bits in self.products() if bits)

    def compute(self, party: Peer) -> None:
        x, y = (party.values[source] for source in self.sources)
        flat = [
            part.reshape(-1, self.shape[-1])
            for part in (x.c, x.h, self.or_zeros(x.m, x.c), *party.kept.pop(self.index))
        ]
        c, h, m, mg, hw, mw = flat
        d, g, w = (part.reshape(-1) for part in (y.c, y.h, self.or_zeros(y.m, y.c)))
        kappas = self.opened.kappa, self.other.kappa
        value = formulas.times(c, kappas[0], h, m, d, kappas[1], g, w, hw, mg, mw, party.first)
        party.values[self.index] = value.reshape(self.shape)

    @staticmethod
    def or_zeros(part: np.ndarray | None, like: np.ndarray) -> np.ndarray:
        """A share, of which no bit may count."""
        return np.zeros_like(like) if part is None else part


@dataclass(kw_only=True)
class Renew(FromOpened):
    """x = δ + A in the ring 2^ring, δ known to the owner, A = −h₀ + 2^κ·a to the client: straight from an opened value.

    1. The client sends t·m₀ − a (ring − κ bits; nothing if κ ≥ ring); the owner adds u − h₁ + 2^κ·t·m₁.
    Dealt: h and m.
    """

    def opened_needs(self) -> tuple[int, int]:
        return self.ring, self.wrap_bits

    def deal(self, dealer: Dealer) -> None:
        fresh = dealer.of_client(self.index, Purpose.FRESH, self.shape)
        dealer.values[self.index] = Masked(None, self.mask(dealer.values[self.sources[0]].high, fresh))

    def mask(self, high: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """A."""
        return formulas.raised(fresh, self.opened.kappa) - high

    def prepare(self, party: Peer) -> None:
        if not party.first:
            fresh = party.draw(self.index, Purpose.FRESH, self.shape)
            party.values[self.index] = Masked(None, self.mask(party.values[self.sources[0]].h, fresh))
            if self.wrap_bits:  # else nothing is sent
                party.kept[self.index] = fresh

    def say(self, party: Peer) -> Message | None:
        if party.first or not self.wrap_bits:
            return None
        x, fresh = party.values[self.sources[0]], party.kept.pop(self.index)
        return formulas.fresh(x.c, self.opened.kappa, x.m, fresh), self.wrap_bits

    def words(self, role: str) -> Words | None:
        return (self.count, self.wrap_bits) if role == "client" and self.wrap_bits else None

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        if party.first:
            x = party.values[self.sources[0]]
            delta = self.lifted(x, x.m, True) - x.h
            if words is not None:
                delta += formulas.raised(words.reshape(self.shape), self.opened.kappa)
            party.values[self.index] = Masked(delta, None)


@dataclass(kw_only=True)
class RenewBoth(FromOpened):
    """x = δ + A in the ring 2^ring, δ known to both, A = −h + 2^κ·a shared: straight from an opened value.

    1. Both send t·m_i − a_i (ring − κ bits; nothing if κ ≥ ring); δ = u + 2^κ·(t·m − a).
    Dealt: m and A.
    """

    def opened_needs(self) -> tuple[int, int]:
        return 0, self.wrap_bits

    def deal(self, dealer: Dealer) -> None:
        fresh, other = (draw(self.index, Purpose.FRESH, self.shape) for draw in (dealer.of_client, dealer.of_owner))
        mask = formulas.raised(fresh + other, self.opened.kappa) - dealer.values[self.sources[0]].h
        dealer.give(self.index, Purpose.OTHER, mask, self.ring)
        dealer.values[self.index] = Masked(None, mask)

    def prepare(self, party: Peer) -> None:
        fresh = party.draw(self.index, Purpose.FRESH, self.shape)
        party.kept[self.index] = fresh, party.given(self.index, Purpose.OTHER, self.shape, self.ring)

    def say(self, party: Peer) -> Message | None:
        if not self.wrap_bits:
            return None
        x, (fresh, mask) = party.values[self.sources[0]], party.kept[self.index]
        mine = formulas.fresh(x.c, self.opened.kappa, x.m, fresh)
        party.kept[self.index] = mine, mask
        return mine, self.wrap_bits

    def words(self, role: str) -> Words | None:
        return (self.count, self.wrap_bits) if self.wrap_bits else None

    def dealt_words(self) -> tuple[Words, ...]:
        return ((self.count, self.ring),)

    def hear(self, party: Peer, words: np.ndarray | None) -> None:
        mine, mask = party.kept.pop(self.index)
        delta = self.lifted(party.values[self.sources[0]], None, True)
        if words is not None:
            delta += formulas.raised(mine + words.reshape(self.shape), self.opened.kappa)
        party.values[self.index] = Masked(delta, mask)
