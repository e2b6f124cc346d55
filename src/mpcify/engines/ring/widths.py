"""The ring and the fraction bits of each value, proven from declared ranges.

A value z·2^f is opened in a ring 2^K, with T bits cut off, only if |z|·2^f < 2^(K−2) − 2^(T+1) for every z in its
declared range: beyond it by δ it would be wrong with probability 2δ/2^K alone, so that no test would find it. Each
opening takes the narrowest ring that is proven. What is masked for a product needs no range: it is right mod 2^K.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mpcify.engines.ring.config import WIDEST
from mpcify.engines.ring.plan import Width
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation

REMEDY = "declare narrower ranges: calibrate or distill again, or use another engine"
WIDER = "use a wider --ring"
SLACK = 1 + 2.0**-6  # for the rounding of everything before
UNDECLARED = 64.0  # of an input that is opened as it is, and of any value if a run is forced without declared ranges
UNDECLARED_VARIANCE = (2.0**-8, 2.0**8)
SUMS = 16  # bits of the weights in a sum, at least
MOST_FINER = 6  # bits by which a masked value of a small range is finer
FREE = 3  # squares of a square whose errors are small beside those of the rest
LONGEST = 62  # bits of what is looked up
NARROWEST = 16  # bits of a ring
USUAL = 38  # bits of a ring in which most values are masked, for the sum that they are added to
COARSEST = 0.25  # an entry of a function's table at most: tanh and gelu, curved within 1 of zero, are right to 1e-3
FARTHEST = 64 * 2500.0  # the largest of declared variances to the least: roots are then exact where they were measured


@dataclass(frozen=True)
class Precision:
    """Fraction bits. fraction: of an opened value at most; significant: of it, over its range. weight: of a weight at
    least. normal: of what LayerNorm gives before its weights. share: significant bits of 1/m. masked: of a product, a
    square or such a normal value that is masked, if values of 1 and more are in its range."""

    fraction: int = 13
    significant: int = 19
    weight: int = 14
    normal: int = 24
    share: int = 10
    masked: int = 14

    def cut(self, bound: float, scale: int) -> int:
        """The bits that are cut off a value which is masked."""
        finer = min(max(-bits_of(bound), 0), MOST_FINER)
        return max(round(math.log2(scale)) - self.masked - finer, 0)

    @property
    def sums(self) -> int:
        """Of what LayerNorms read, if nothing but products is added: SUMS bits are their weights'."""
        return self.masked + SUMS

    def of(self, bound: float) -> int:
        """The fraction bits of an opened value."""
        return min(self.fraction, self.significant - bits_of(bound))

    def squared(self, bound: float, again: int) -> int:
        """The fraction bits of what is opened to be squared. bound: of the square, which 48 bits shall hold.

        again: how often the square is squared after that. Each doubles an error; from the fourth on each takes a bit.
        """
        return min(self.fraction + max(again - FREE, 0), (46 - bits_of(bound * SLACK)) // 2)


COARSER = (Precision(), Precision(11, 17, 12, 22, 9, 12))


def bits_of(bound: float) -> int:
    """The least b with bound ≤ 2^b."""
    return math.ceil(math.log2(bound)) if bound > 0 else 0


def above(bound: float) -> int:
    """The least b with bound < 2^b."""
    return math.floor(math.log2(bound)) + 1


class Widths:
    """Chooses rings for the values of a graph. cap: the widest. force: take the widest where nothing is proven.

    Raises MPC-402 from `ring` if no ring is wide enough.
    """

    def __init__(self, graph: Graph, cap: int, force: bool) -> None:
        self.ranges: Mapping[str, Mapping[str, tuple[float, float]]] = graph.ranges
        self.where = {operation.name: operation.where for operation in graph.operations}
        self.cap, self.force = cap, force
        self.found: list[Width] = []

    @property
    def remedy(self) -> str:
        """What helps against too narrow a ring."""
        return f"{WIDER}, or {REMEDY}" if self.cap < WIDEST else REMEDY

    def bound(self, name: str, quantity: str = "value") -> float:
        """What a quantity of an operation may become, by absolute value. Raises MPC-402 if no ring holds that."""
        entry = self.ranges.get(name, {}).get(quantity)
        largest = UNDECLARED if entry is None else max(map(abs, entry))
        if largest >= 2.0**WIDEST:
            raise MpcifyError(402, self.where[name], f"its declared range of ±{largest:.4g} fits no ring", REMEDY)
        return largest

    def variance(self, operation: Operation) -> tuple[float, float]:
        """The declared range of what a layernorm divides by, its eps not counted.

        Raises MPC-402 if its ends are too far apart for tables of roots.
        """
        least, largest = self.ranges.get(operation.name, {}).get("variance", UNDECLARED_VARIANCE)
        self.bound(operation.name, "variance")
        largest = max(largest, UNDECLARED_VARIANCE[0])
        if not 0 < largest <= FARTHEST * least and not self.force:
            what = f"its declared variances, {least:.4g} to {largest:.4g}, are too far apart for a table of roots"
            raise MpcifyError(402, operation.where, what, REMEDY)
        return max(least, largest / FARTHEST), largest

    def ring(self, operation: Operation, bound: float, scale: float, remains: float, what: str = "value") -> int:
        """The narrowest ring in which a value of an operation is opened.

        remains: the scale after it. what: see Width.
        """
        largest = bound * scale * SLACK
        least = largest + 2 * scale / remains
        width = max(above(least) + 2, NARROWEST)
        if width > self.cap:
            if not self.force:
                what = f"its declared range of ±{bound:.4g} needs {width} bits, and there are {self.cap}"
                raise MpcifyError(402, operation.where, what, self.remedy)
            width = self.cap
        headroom = width - 2 - math.log2(least)
        self.found.append(Width(operation.name, what, width, math.log2(scale), math.log2(remains), bound, headroom))
        return width

    def table(self, operation: Operation, bits: int) -> None:
        """Raises MPC-402 if the argument of a table, of so many bits, fits no ring."""
        if bits > min(self.cap, LONGEST):
            what = f"the range of what it looks up needs {bits} bits, and there are {min(self.cap, LONGEST)}"
            raise MpcifyError(402, operation.where, what, self.remedy)

    def refuse_coarse(self, operation: Operation, bound: float, entry: float) -> None:
        """Raises MPC-402 if the entries of a function's table are wider than COARSEST."""
        if entry > COARSEST and not self.force:
            what = f"the range of what it looks up, ±{bound:.4g}, is too wide for a table"
            raise MpcifyError(402, operation.where, what, REMEDY)

    def weight_scale(self, bound: float, scale: float, least: int) -> float:
        """The scale of a weight for a product that is opened next: at least 2^least, and what a USUAL ring spares."""
        spare = min(USUAL, self.cap) - 3 - bits_of(bound * scale * SLACK)
        return 2.0 ** max(min(spare, 22), least)
