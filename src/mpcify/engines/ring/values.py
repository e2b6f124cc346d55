"""What a party has of a value while a request runs. Words are int64; a value is right modulo the ring that needs it.

A value x is three parts, x = x₀ + x₁ + x₂: the client's, the owner's and the dealer's, of which the last depends on no
input. A part that is zero is None. Two forms say more of a value:

- `Opened`: what remains of it after a truncation, x = u − h + 2^κ·t·m, u and t being of the opened c (see
  `protocols.opening`);
- `Masked`: x = δ + A. If the owner alone knows δ and the client A, they are simply the two parts of x.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcify.errors import MpcifyError

Part = np.ndarray | None
MOST = 2.0**63  # of a word
Move = Callable[[np.ndarray], np.ndarray]
MOVED = ("reshape", "transpose", "slice", "broadcast")  # operations that compute nothing


@dataclass(frozen=True)
class Opened:
    """One party's side of an opened value. c: what was opened (None at the dealer). h, m: its shares of h and m, or the
    dealer's h and m themselves; None if no step needs them. high: the client's share of h, at the dealer."""

    c: Part
    h: Part
    m: Part
    high: Part = None


@dataclass(frozen=True)
class Masked:
    """One party's side of x = δ + A. delta: δ (None at the dealer). mask: its share of A, the client's or the dealer's
    A itself; None at an owner who has none."""

    delta: Part
    mask: Part


def moved(value: Any, move: Move) -> Any:
    """A value of any form after a change that moves or repeats its elements."""
    if isinstance(value, np.ndarray):
        return move(value)
    if isinstance(value, Opened):
        return Opened(*(moved(part, move) for part in (value.c, value.h, value.m, value.high)))
    if isinstance(value, Masked):
        return Masked(moved(value.delta, move), moved(value.mask, move))
    return None


def added(a: Part, b: Part) -> Part:
    """The sum of two parts."""
    return b if a is None else a if b is None else a + b


def plus(part: Part, words: np.ndarray) -> np.ndarray:
    """A part and words."""
    return words if part is None else part + words


def minus(words: np.ndarray, part: Part) -> np.ndarray:
    """Words less a part."""
    return words if part is None else words - part


def rounding(shift: int) -> int:
    """Half a unit of what remains after a shift, which makes up for half a unit that is cut off."""
    return (1 << shift) >> 1


def encode(array: np.ndarray, scale: float) -> np.ndarray:
    """The integers nearest to array · scale, as words. Raises MPC-402 if words do not hold one."""
    found = np.rint(np.asarray(array, np.float64) * scale)
    if not np.abs(found).max(initial=0.0) < MOST:
        raise MpcifyError(402, "weights", "one is too large for words of 64 bits at its scale", "use another engine")
    return found.astype(np.int64)
