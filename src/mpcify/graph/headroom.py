"""How much room declared ranges leave below what an engine holds, and the refusal of those that leave none."""

from dataclasses import dataclass

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.ranges import SPREAD, exponents, recorded


@dataclass(frozen=True)
class RangeRow:
    """One quantity of one operation against what a ring holds.

    where: layer, part and name, as an error says them. least, largest: of its range. bound: the limit that is nearest;
    lower: whether it is the one below. headroom_bits: how many bits are left before it; negative where the range
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
    worst = next((row for row in rows if row.overflow), None)
    if worst is None:
        return
    others = sum(row.overflow for row in rows) - 1
    found = f"its {worst.quantity} ranges from {worst.least:.3g} to {worst.largest:.3g}"
    limit = f"{worst.bound:.3g} is the {'lower limit' if worst.lower else 'limit'}"
    more = f" ({others} more overflow)" if others else ""
    raise MpcifyError(402, worst.where, f"{found}, and {limit}{more}", worst.remedy)
