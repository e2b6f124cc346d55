"""Truncations that can wait: a square that one product reads keeps its 2f fraction bits until that product.

x² has 2f fraction bits, times a number of f bits 3f; the product is then truncated twice by f. A truncation an element
of x² becomes one an element of the product, of which there are fewer: n × H for n × 4H (Quad), heads × n × d for
heads × n × n (freeDiv attention). Nothing but the product is truncated, so that it alone must fit: |product| below
2^(K−2−3f), 256 where K = 64 and f = 18. A feed-forward layer's product may need more, so its weight is held as W/4, and
the second truncation gives the 4 back: 1,024.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mpcify.graph.graph import Graph, Operation
from mpcify.numerics import FixedPoint

ROOM = 4.0  # by which the weight of a `square-linear` is divided
DIVIDED = "/4"  # what that weight's name ends in


@dataclass(frozen=True)
class Reader:
    """A kind of product that may read a square: the quantity that is truncated, and how much more room it has."""

    quantity: str
    room: float


READERS = {"linear": Reader("product", ROOM), "matmul": Reader("value", 1.0)}


def bound(kind: str, quantity: str, number: FixedPoint) -> float | None:
    """What a quantity of `square-linear` or `square-matmul` stays below; None for any other."""
    reader = READERS.get(kind.removeprefix("square-")) if kind.startswith("square-") else None
    return number.postponed_bound * reader.room if reader and reader.quantity == quantity else None


def postpone_truncations(graph: Graph, number: FixedPoint) -> Graph:
    """The graph with `square-linear` and `square-matmul` where a square's truncation can wait in this ring.

    That is where one product alone reads the square, as its first factor, and where its declared range fits (without a
    declared range it is taken to fit, as for every other operation). `divide_weights` makes the weights that it reads.
    """
    if not number.postpones:
        return graph
    producers = {operation.name: operation for operation in graph.operations}
    readers, known = graph.consumers(), {item.name: item for item in graph.inputs}
    inputs, operations, gone = dict(known), [], set()
    for operation in graph.operations:
        square, others = producers.get(operation.inputs[0]), operation.inputs[1:]
        alone = square and square.kind == "square" and readers[square.name] == [operation]
        if not square or not alone or square.name in (*others, *graph.outputs) or not fits(operation, graph, number):
            operations.append(operation)
            continue
        gone.add(square.name)
        if operation.kind == "linear":
            weight = known[others[0]]
            inputs[weight.name + DIVIDED] = replace(weight, name=weight.name + DIVIDED)
            others = (weight.name + DIVIDED, *others[1:])
        operations.append(replace(operation, kind=f"square-{operation.kind}", inputs=(*square.inputs, *others)))
    kept = tuple(operation for operation in operations if operation.name not in gone)
    read = {name for operation in kept for name in operation.inputs}
    still = tuple(item for item in inputs.values() if item.role != "owner" or item.name in read)
    ranges = {name: entry for name, entry in graph.ranges.items() if name not in gone}
    return replace(graph, inputs=still, operations=kept, ranges=ranges).check()


def fits(operation: Operation, graph: Graph, number: FixedPoint) -> bool:
    """Whether an operation is a product whose declared range leaves the room for a square's truncation."""
    if operation.kind not in READERS:
        return False
    reader = READERS[operation.kind]
    declared = graph.ranges.get(operation.name, {}).get(reader.quantity, (0.0, 0.0))
    return max(map(abs, declared)) < number.postponed_bound * reader.room


def divide_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights that a graph with postponed truncations reads, from those of the graph as it was exported."""
    found = {}
    for item in graph.role("owner"):
        source = item.name.removesuffix(DIVIDED)
        if source in weights:
            found[item.name] = weights[source] if source == item.name else weights[source] / ROOM
    return found
