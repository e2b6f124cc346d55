"""Truncations that can wait: a square that one product reads keeps its 2f fraction bits until that product.

x² has 2f fraction bits, times a number of f bits 3f; the product is then truncated twice by f. A truncation an element
of x² becomes one an element of the product, of which there are fewer: n × H for n × 4H (Quad), heads × n × d for
heads × n × n (freeDiv attention). Nothing but the product is truncated, so that it alone must fit: |product| below
2^(K−2−3f), 256 where K = 64 and f = 18.
"""

from dataclasses import replace

from mpcify.graph.graph import Graph, Operation
from mpcify.numerics import FixedPoint

READERS = {"linear": "product", "matmul": "value"}  # and the quantity that is truncated


def postpone_truncations(graph: Graph, number: FixedPoint) -> Graph:
    """The graph with `square-linear` and `square-matmul` where a square's truncation can wait in this ring.

    That is where one product alone reads the square, as its first factor, and where its declared range fits (without a
    declared range it is taken to fit, as for every other operation).
    """
    squares = {operation.name: operation for operation in graph.operations if operation.kind == "square"}
    readers = graph.consumers()

    def waits(operation: Operation) -> bool:
        if not number.postpones:
            return False
        first = operation.inputs[0]
        if operation.kind not in READERS or first not in squares or first in graph.outputs:
            return False
        if operation.inputs.count(first) > 1 or len(readers[first]) > 1:
            return False
        declared = graph.ranges.get(operation.name, {}).get(READERS[operation.kind], (0.0, 0.0))
        return max(map(abs, declared)) < number.postponed_bound

    joined = {operation.name: squares[operation.inputs[0]] for operation in graph.operations if waits(operation)}
    gone = {square.name for square in joined.values()}
    kept = [
        replace(
            operation,
            kind=f"square-{operation.kind}",
            inputs=(joined[operation.name].inputs[0], *operation.inputs[1:]),
        )
        if operation.name in joined
        else operation
        for operation in graph.operations
        if operation.name not in gone
    ]
    ranges = {name: entry for name, entry in graph.ranges.items() if name not in gone}
    return replace(graph, operations=tuple(kept), ranges=ranges).check()
