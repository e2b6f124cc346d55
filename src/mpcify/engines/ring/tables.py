"""Tables of the functions that are looked up: their polynomials, and how exact they are."""

import math
from collections.abc import Callable

import numpy as np

from mpcify.engines.plain import gelu
from mpcify.engines.ring.protocols.lookup import Table

Function = Callable[[np.ndarray], np.ndarray]
FINE = 11  # bits of an entry's variable
FUNCTIONS: dict[str, Function] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "gelu": gelu}
ENTRIES = 1 << 10  # of a function of the head
ENTRIES_OF_ROOT = (1 << 8, 1 << 13)
ROOT_ERROR = 5e-4


def table(function: Function, bits: int, entries: int, unit: float, least: float, scale: float) -> Table:
    """A table of scale · function(least + v · unit) for v in [0, 2^bits), by its values at three points an entry.

    They are the middle and the ends of the two steps that an entry serves.
    """
    step = bits - round(math.log2(entries))
    fine = min(step, FINE)
    middle = least + (np.arange(entries) * 2.0**step) * unit
    reach = 2.0**step * unit
    below, at, above = (function(middle + place * reach) * scale for place in (-1.0, 0.0, 1.0))
    slope, curve = (above - below) / 2 / 2.0**fine, (above + below - 2 * at) / 2 / 4.0**fine
    coefficients = np.rint(np.stack([at, slope, curve])).astype(np.int64)
    return Table(bits, step, fine, coefficients)


def root_table(bits: int, variances: tuple[float, float], unit: float, eps: float, scale: float) -> Table:
    """scale / √(v · unit + eps), for variances v · unit in a declared range.

    It has as many entries as make it exact to ROOT_ERROR where variances were measured (the range's inner part, an
    eighth of it at either end left out). Below the range it goes on as the tangent does.
    """
    least, largest = variances
    floor = max(least, largest * 1e-12)
    measured = 8 * floor

    def root(x: np.ndarray) -> np.ndarray:
        inside = np.maximum(x, floor)
        value = 1 / np.sqrt(inside + eps)
        return value * (1 + (inside - x) / 2 / (inside + eps))

    entries = ENTRIES_OF_ROOT[0]
    while entries < ENTRIES_OF_ROOT[1] and 15 / 8 / 24 * ((1 << bits) * unit / entries / measured) ** 3 > ROOT_ERROR:
        entries *= 2
    return table(root, bits, min(entries, 1 << bits), unit, 0.0, scale)
