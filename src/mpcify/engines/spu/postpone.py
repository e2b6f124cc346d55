"""Truncations that can wait: a square that one product reads keeps its 2f fraction bits until that product.

x² has 2f fraction bits, times a number of f bits 3f; the product is then truncated twice by f. A truncation an element
of x² becomes one an element of the product, which pays if there are fewer of those: n × H for n × 4H (Quad),
heads × n × d for heads × n × n (freeDiv attention, n > d). Nothing but the product is truncated, so that it alone must
fit: |product| below 2^(K−2−3f), 256 if K = 64 and f = 18. A linear layer that needs more room has it: its weight is
held as W/4, and the second truncation gives the 4 back, for two bits of W.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpcify.engines.spu.numbers import postponed_bound, postpones
from mpcify.graph.graph import Encoding, Graph, Input, Operation
from mpcify.numerics import FixedPoint

ROOM = 4  # of a linear layer that needs room


@dataclass(frozen=True)
class Postponed:
    """A product that reads a square. quantity: what is truncated, as ranges name it. rooms: to choose from."""

    kind: str
    quantity: str
    rooms: tuple[int, ...]


PRODUCTS: Mapping[str, Postponed] = {
    "linear": Postponed("square-linear", "product", (1, ROOM)),
    "matmul": Postponed("square-matmul", "value", (1,)),
}
QUANTITIES = {product.kind: product.quantity for product in PRODUCTS.values()}


def postponed_limit(operation: Operation, quantity: str, number: FixedPoint) -> float | None:
    """What a quantity stays below if a square's truncation waited for it; None for any other."""
    if QUANTITIES.get(operation.kind) != quantity:
        return None
    return postponed_bound(number) * operation.attributes.get("room", 1)


def postpone_truncations(graph: Graph, number: FixedPoint) -> Graph:
    """The graph with `square-linear` and `square-matmul` for each square whose truncation can wait in this ring.

    It can if one product alone reads the square, as its first factor, has fewer elements, and fits by its declared
    range (without one it is taken to fit, as any other operation is). `weights_for` gives the weights that it reads.
    """
    joined = waiting(graph, number)
    gone = {square.name for square, _ in joined.values()}
    operations = tuple(
        join(operation, *joined[operation.name]) if operation.name in joined else operation
        for operation in graph.operations
        if operation.name not in gone
    )
    read = {name for operation in operations for name in operation.inputs}
    kept = [item for item in graph.inputs if item.holder != "owner" or item.name in read]
    encoded = (as_integers(item, room) for item in graph.held_by("owner") for room in (1, ROOM))
    added = (item for item in encoded if item.name in read)
    ranges = {name: entry for name, entry in graph.ranges.items() if name not in gone}
    return replace(graph, inputs=(*kept, *added), operations=operations, ranges=ranges).check()


def waiting(graph: Graph, number: FixedPoint) -> dict[str, tuple[Operation, int]]:
    """The products that a square can wait for, by name: the square, and the room that the product takes."""
    if not postpones(number):
        return {}
    squares = {operation.name: operation for operation in graph.operations if operation.kind == "square"}
    readers, owned = graph.consumers(), {item.name for item in graph.held_by("owner")}
    found = {}
    for operation in graph.operations:
        square, product = squares.get(operation.inputs[0]), PRODUCTS.get(operation.kind)
        if square is None or product is None or readers[square.name] != [operation] or square.name in graph.outputs:
            continue
        if square.name in operation.inputs[1:] or math.prod(square.shape) <= math.prod(operation.shape):
            continue
        if operation.kind == "linear" and operation.inputs[1] not in owned:
            continue
        room = room_for(graph.ranges.get(operation.name, {}).get(product.quantity), product, number)
        if room is not None:
            found[operation.name] = square, room
    return found


def room_for(declared: tuple[float, float] | None, product: Postponed, number: FixedPoint) -> int | None:
    """The least room that holds a declared range, the largest if it is not declared; None if no room does."""
    if declared is None:
        return product.rooms[-1]
    largest = max(map(abs, declared))
    return next((room for room in product.rooms if largest < postponed_bound(number) * room), None)


def join(operation: Operation, square: Operation, room: int) -> Operation:
    """A product that squares its first factor itself."""
    attributes: dict[str, Any] = dict(operation.attributes)
    others = operation.inputs[1:]
    if operation.kind == "linear":
        attributes["room"] = room
        others = (encoded_name(others[0], room), *others[1:])
    kind = PRODUCTS[operation.kind].kind
    return replace(operation, kind=kind, inputs=(*square.inputs, *others), attributes=attributes)


def encoded_name(weight: str, room: int) -> str:
    """The name of the input that holds W/room as integers."""
    return f"{weight}/raw{room}"


def as_integers(item: Input, room: int) -> Input:
    """The input that holds a weight as the integers of W/room."""
    return replace(item, name=encoded_name(item.name, room), encoding=Encoding(item.name, room))
