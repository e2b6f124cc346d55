"""A graph as SPU runs it: changes that move no answer but by its last bits, chosen by declared ranges."""

from collections.abc import Mapping
from dataclasses import replace

from mpcify.engines.spu.limits import input_limits
from mpcify.engines.spu.postpone import postpone_truncations
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.rewrite import Entry, double_small, doubled_ranges, doublings
from mpcify.numerics import FixedPoint

MOST_SQUARINGS = 8


def fit(graph: Graph, number: FixedPoint) -> Graph:
    """The graph that SPU runs in a ring, with its declared ranges."""
    return postpone_truncations(double_small(reach_exp(graph, number)), number)


def fit_measured(graph: Graph, number: FixedPoint, measured: Mapping[str, Entry]) -> Graph:
    """The same graph with measured ranges in place of the declared ones, by which it is still chosen."""
    chosen = graph if graph.ranges else graph.with_ranges(measured)
    return fit(chosen, number).with_ranges(doubled_ranges(graph, measured, doublings(chosen)))


def reach_exp(graph: Graph, number: FixedPoint) -> Graph:
    """The graph with the squarings in softmax's exp_t that its declared input needs, at most 8: it rises below −2ᵗ."""

    def reached(operation: Operation) -> Operation:
        least, _ = graph.ranges.get(operation.name, {}).get("input", (0.0, 0.0))
        t = operation.attributes["t"]
        while t < MOST_SQUARINGS and least <= input_limits(operation, number)[0]:
            t += 1
            operation = replace(operation, attributes={"t": t})
        return operation

    operations = (reached(operation) if operation.kind == "exp" else operation for operation in graph.operations)
    return replace(graph, operations=tuple(operations))
