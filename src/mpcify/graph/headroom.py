"""How much room declared ranges leave below what an engine holds, and the refusal of those that leave none."""

import math
from dataclasses import dataclass
from typing import Protocol

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.ranges import SPREAD, AnyRanges, exponents, recorded
from mpcify.numerics import FixedPoint


class Limits(Protocol):
    """What an engine's rules say of an operation: its numbers, and how large they may get."""

    def number_of(self, operation: Operation) -> FixedPoint:
        """The ring and the fraction bits in which it computes."""

    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        """The open range in which a quantity of it is right."""

    def bits_needed(self, operation: Operation) -> int:
        """The fewest fraction bits with which it makes sense."""


@dataclass(frozen=True)
class RangeRow:
    """One quantity of one operation against what a ring holds.

    where: layer, part and name, as an error says them. least, largest: of its range. bound: the limit that is nearest;
    lower: whether it is the one below. headroom_bits: how many bits are left before it; negative if the range
    overflows.
    """

    operation: str
    where: str
    layer: int | None
    part: str
    kind: str
    quantity: str
    least: float
    largest: float
    bound: float
    lower: bool
    headroom_bits: float
    overflow: bool

    @property
    def remedy(self) -> str:
        """What mends an overflow at this limit."""
        if self.quantity in ("variance", SPREAD) or (self.kind, self.quantity) == ("reciprocal", "input"):
            return FINER if self.lower else NARROWER
        if self.quantity == "exponent" and self.lower:
            return "distill it with a heavier penalty on scores, use a recipe with a larger t, or --force it"
        if self.kind == "max" and self.lower:
            return "use a recipe without softmax for these scores, or --force it: masked scores stand at -30"
        if self.kind == "exp":
            return "use a recipe without softmax for these scores, or --force it: no ring widens an exponential"
        return NARROWER


NARROWER = "use a wider ring or fewer fraction bits, distill with a range penalty, or --force it"
FINER = "use more fraction bits (a wider ring has room for them), or --force it"


def headroom(graph: Graph, ranges: AnyRanges, rules: Limits) -> list[RangeRow]:
    """One row a quantity that has a range, in the graph's order: its distance to the nearer end of its limits, in bits.

    Above a limit that is positive, what counts is how many times larger the least value is. A row's maximum has a lower
    limit for what masked scores stand at: in a graph without a mask it may lie anywhere.
    """
    masked = any(item.name == "mask" for item in graph.inputs)
    rows = []
    for operation in graph.operations:
        place = (operation.name, operation.where, operation.layer, operation.part, operation.kind)
        number = rules.number_of(operation)
        for quantity, (least, largest) in ranges.get(operation.name, {}).items():
            low, high = rules.limits(operation, quantity)
            if operation.kind == "max" and not masked:
                low = -high
            below = math.log2(max(least, number.step**2) / low) if low > 0 else number.headroom(-least, -low)
            above = number.headroom(largest, high)
            lower = not above <= below
            room, bound = (below, low) if lower else (above, high)
            rows.append(RangeRow(*place, quantity, least, largest, bound, lower, room, overflow=not room > 0))
    return rows


def prove(graph: Graph, rules: Limits) -> None:
    """Raises MPC-402 unless a graph's numbers are fine enough, and its declared ranges lie inside the rules' limits."""
    refuse_coarse(graph, rules)
    refuse(headroom(graph, graph.ranges, rules))


def refuse_coarse(graph: Graph, rules: Limits) -> None:
    """Raises MPC-402 for the first operation whose numbers have too few fraction bits to mean anything."""
    for operation in graph.operations:
        bits, needed = rules.number_of(operation).fraction_bits, rules.bits_needed(operation)
        if bits < needed:
            what = f"{bits} fraction bits are too coarse for {operation.kind}, which needs {needed}"
            raise MpcifyError(402, operation.where, what, f"use --fraction-bits {needed} or more, or --force it")


def lacking(graph: Graph) -> tuple[Operation, str] | None:
    """The first operation that lacks a declared range, and of which quantity."""
    begins = exponents(graph)
    for operation in graph.operations:
        for quantity in sorted(recorded(operation, operation.name in begins)):
            if quantity not in graph.ranges.get(operation.name, {}):
                return operation, quantity
    return None


def refuse_undeclared(graph: Graph) -> None:
    """Raises MPC-406 unless every quantity of every operation has a declared range."""
    found = lacking(graph)
    if found is None:
        return
    operation, quantity = found
    remedy = "calibrate the model: mpcify convert MODEL OUT --recipe NAME --calibration FILE, or mpcify.calibrate"
    if not graph.ranges:
        what = "it declares no ranges, so nothing shows that its values stay inside the ring"
        raise MpcifyError(406, "the model", what, remedy)
    raise MpcifyError(406, operation.where, f"the range of its {quantity} is not declared", remedy)


def refuse(rows: list[RangeRow]) -> None:
    """Raises MPC-402 for the first operation that overflows."""
    first = next((row for row in rows if row.overflow), None)
    if first is None:
        return
    others = sum(row.overflow for row in rows) - 1
    found = f"its {first.quantity} ranges from {first.least:.3g} to {first.largest:.3g}"
    beside = " beside its eps" if first.quantity == "variance" and not first.lower else ""
    limit = f"{first.bound:.3g} is the {'lower limit' if first.lower else 'limit'}{beside}"
    more = f" ({others} more overflow)" if others else ""
    raise MpcifyError(402, first.where, f"{found}, and {limit}{more}", first.remedy)
