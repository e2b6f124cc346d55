"""How exact a value is that a LayerNorm reads: what was cut off before it, against its least deviation.

A value is opened with as many digits as its size allows. A LayerNorm takes the mean off and divides by the deviation,
which enlarges what was cut off; so a graph of which too few digits would be left is refused.
"""

import math

from mpcify.engines.ring.values import MOVED
from mpcify.engines.ring.widths import REMEDY, Precision, Widths
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation

MEASURED = 8.0  # declared variances begin at an eighth of what was measured
LARGEST = 2.0**-5  # error of what a LayerNorm reads, by the least deviation that was measured
FINE = 2.0**-12  # error of what a LayerNorm gives, by its weight


class Digits:
    """The errors of a graph's values, in so far as its operations are planned.

    A sum's error is that of what it adds, of which each is off by a last digit more if it was opened. A product's,
    relative to its size, is that of its factors' last digits: what openings before them cut off is no larger.
    """

    def __init__(self, graph: Graph, widths: Widths, precision: Precision) -> None:
        self.graph, self.widths, self.shapes = graph, widths, graph.shapes()
        self.cut = {width.operation: 2.0**-width.fraction for width in widths.found}
        entered = 2.0**-precision.fraction
        self.errors = {item.name: 0.0 if item.holder == "owner" else entered for item in graph.inputs}

    def refuse_lost(self, norm: Operation) -> None:
        """Raises MPC-402 if a LayerNorm would read too few digits: errors of LARGEST deviations, or more."""
        for operation in self.graph.operations[: self.graph.operations.index(norm)]:
            self.errors[operation.name] = self.error(operation)
        source = norm.inputs[0]
        deviation = math.sqrt(MEASURED * self.widths.variance(norm)[0] + norm.attributes["eps"])
        if self.errors[source] > LARGEST * deviation and not self.widths.force:
            bound = self.widths.bound(source)
            what = f"too few digits would be left of values up to {bound:.4g} that may deviate by {deviation:.3g} alone"
            raise MpcifyError(402, norm.where, what, REMEDY)

    def error(self, operation: Operation) -> float:
        """The error of an operation's value."""
        source, bound = operation.inputs[0], self.widths.bound(operation.name)
        if operation.kind in MOVED:
            self.cut.setdefault(operation.name, self.cut.get(source, 0.0))
            return self.errors[source]
        cut = [self.cut.get(name, 0.0) for name in operation.inputs]
        given = [self.errors[name] + last for name, last in zip(operation.inputs, cut, strict=True)]
        match operation.kind:
            case "layernorm":
                self.cut.pop(operation.name, None)  # that of its deviations and of its root
                return FINE * bound / math.sqrt(operation.shape[-1])
            case "add" | "sub" | "shift":
                return sum(given)
            case "concat":
                return max(given)
            case "scale":
                return given[0] * abs(operation.attributes["by"])
            case "sum":
                return given[0] * math.sqrt(self.shapes[source][operation.attributes["axis"]])
        last = [(name, one or self.errors[name]) for name, one in zip(operation.inputs, cut, strict=True)]
        relative = sum(error / self.bound(name) for name, error in last if error)
        return bound * relative * (2 if operation.kind == "square" else 1)

    def bound(self, name: str) -> float:
        """What a value may become, at least a little."""
        return max(self.widths.bound(name), 2.0**-20)
