"""Tables of the functions that are looked up: their polynomials, and how exact they are."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from mpcify.engines.plain import gelu
from mpcify.engines.ring.protocols.lookup import Table
from mpcify.engines.ring.widths import COARSEST, bits_of

Function = Callable[[np.ndarray], np.ndarray]
FINE, COARSE = 11, 8  # bits of an entry's variable: of a root, and of a function of the head, whose values are small
BEND = 6  # of an entry around a corner: so few that its curve is not rounded to nothing
FUNCTIONS: dict[str, Function] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "gelu": gelu}
BENT = frozenset({"relu"})  # functions that are straight lines to both sides of 0
ENTRIES, STRAIGHT = 1 << 10, 1 << 8  # of a function of the head, at least; of one of BENT
LEAST, MOST = 1 << 9, 1 << 12  # entries of a root; MOST of any table
NEAR = 5 / 32  # of an entry's width to its place: 15/8/24 · NEAR³ = 3e-4 is the error of a root
UPPER = 5  # bits by which the lower one of two tables of a root is shorter


def table(functions: Sequence[Function], bits: int, entries: int, unit: float, least: float, fine: int = FINE) -> Table:
    """A table of functions of least + v · unit for v in [0, 2^bits), by their values at three points an entry.

    They are the middle and the ends of the two steps that an entry serves.
    """
    step = bits - round(math.log2(entries))
    fine = min(step, fine)
    middle, reach = least + (np.arange(entries) * 2.0**step) * unit, 2.0**step * unit
    below, at, above = (
        np.stack([function(middle + place * reach) for function in functions]) for place in (-1.0, 0.0, 1.0)
    )
    slope, curve = (above - below) / 2 / 2.0**fine, (above + below - 2 * at) / 2 / 4.0**fine
    return Table(bits, step, fine, np.rint(np.stack([at, slope, curve])).astype(np.int64))


def root(floor: float, eps: float, scale: float) -> Function:
    """scale / √(x + eps), which goes on below a floor as its tangent does."""

    def function(x: np.ndarray) -> np.ndarray:
        inside = np.maximum(x, floor)
        return scale / np.sqrt(inside + eps) * (1 + (inside - x) / 2 / (inside + eps))

    return function


def root_tables(bits: int, variances: tuple[float, float], unit: float, eps: float, scale: float) -> tuple[Table, ...]:
    """scale / √(v · unit + eps), for variances v · unit in a declared range: exact where variances were measured.

    That is the range's inner part, an eighth of it at either end left out. One table if MOST entries are enough near
    its lower end. Else two: the first is 0 below a boundary, and its second function 1 there; the other is of v mod
    2^(bits − UPPER), and right up to twice the boundary.
    """
    least, largest = variances
    floor = max(least, largest * 1e-12)
    function = root(floor, eps, scale)

    def entries(width: int) -> int:
        wanted = 2.0**width * unit / (8 * floor) / NEAR
        return min(max(LEAST, 1 << max(math.ceil(math.log2(wanted)), 0)), MOST, 1 << width)

    if 2.0**bits * unit / entries(bits) <= NEAR * 8 * floor:
        return (table([function], bits, entries(bits), unit, 0.0),)
    boundary = 2.0 ** (bits - UPPER - 1) * unit
    upper = table([function, np.zeros_like], bits, LEAST, unit, 0.0)
    below = np.arange(LEAST) * 2.0**upper.step * unit < boundary
    upper.coefficients[:, 0, below] = 0
    upper.coefficients[0, 1, below] = 1
    lower = bits - UPPER
    return upper, table([function], lower, entries(lower), unit, 0.0)


def function_tables(kind: str, bits: int, entries: int, unit: float, scale: float) -> tuple[Table, ...]:
    """scale · f(v · unit) of a function of the head, for v from −2^(bits − 1) to 2^(bits − 1).

    One table, or for a function of BENT two. The first is exact but for the entry around 0: there it is 0, and its
    second function 1. The other is of two steps to both sides of 0.
    """
    least = -(2.0 ** (bits - 1)) * unit

    def function(x: np.ndarray) -> np.ndarray:
        return FUNCTIONS[kind](x) * scale

    if kind not in BENT:
        return (table([function], bits, entries, unit, least, COARSE),)
    upper = table([function, np.zeros_like], bits, entries, unit, least)
    upper.coefficients[:, 0, entries // 2] = 0
    upper.coefficients[0, 1, entries // 2] = 1
    lower = upper.step + 2
    return upper, table([function], lower, min(LEAST, 1 << lower), unit, -(2.0 ** (lower - 1)) * unit, BEND)


def entries_of(kind: str, bits: int, unit: float) -> int:
    """How many entries a function of the head has: so many that none is wider than COARSEST, if MOST are enough."""
    least = STRAIGHT if kind in BENT else ENTRIES
    return min(max(least, 2 ** bits_of(2.0**bits * unit / COARSEST)), MOST)
