"""The strict check of a graph: what it says of itself is recomputed, and nothing that is unknown is let through.

A graph comes from another party. What passes here has shapes that fit each other and fit into memory, so that an engine
may rely on them.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

from mpcify.graph.graph import Graph, Holder, Input, Operation, Part, Rows, broken
from mpcify.graph.kinds import (
    KINDS,
    MOST_ELEMENTS,
    MOST_ROOM,
    Shape,
    Stage,
    between,
    infer_shape,
    is_finite,
    is_shape,
)
from mpcify.graph.ranges import EXPONENT, SPREAD

STAGES: Mapping[Stage, tuple[Stage, ...]] = {  # the kinds that each may hold, by their own stage
    "traced": ("lowered", "traced"),
    "lowered": ("lowered",),
    "fitted": ("lowered", "fitted"),
}
# As the library makes them, of module paths: `layer.0.query.weight/scaled+key+value`. Engines name what is theirs with
# a slash in front, and outputs with `output/`.
NAME = re.compile(r"(?!output/)[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,254}")
ADDED = (EXPONENT, SPREAD)  # quantities of additions, beside their kind's own
HOLDERS, PARTS = get_args(Holder), get_args(Part)
ROWS: Mapping[Rows, tuple[int, ...]] = {"tokens": (1,), "heads": (2,), "scores": (2, 3), "all": ()}  # axes of tokens
is_layer, is_count, is_room = between(0, 1 << 20), between(1, MOST_ELEMENTS), between(1, MOST_ROOM)


def refuse_unless(holds: bool, what: str) -> None:
    """Raises MPC-404 unless something holds."""
    if not holds:
        raise broken(what)


def stage_of(graph: Graph) -> Stage:
    """The stage that a graph's kinds and encodings belong to."""
    stages = {KINDS[item.kind].stage for item in graph.operations if is_kind(item.kind)}
    if "traced" in stages:
        return "traced"
    encoded = any(item.encoding is not None for item in graph.inputs)
    return "fitted" if encoded or "fitted" in stages else "lowered"


def check(graph: Graph, stage: Stage) -> None:
    """Raises MPC-404 unless a graph keeps every rule of its stage; see `kinds`. Its facts (`about`) are not looked at.

    Every name is defined once and before its use, every shape is that of its kind, an output is an operation, declared
    ranges are of operations and quantities that exist. How large their ends are is for `check_received`.
    """
    refuse_unless(is_count(graph.batch) and is_count(graph.length), "its batch or its length is not a positive number")
    shapes: dict[str, Shape] = {}
    for item in graph.inputs:
        check_input(item, shapes, stage)
        shapes[item.name] = item.shape
    given = len(shapes)
    for operation in graph.operations:
        check_operation(operation, shapes, stage, graph.length)
        shapes[operation.name] = operation.shape
    check_encodings(graph)
    made = set(list(shapes)[given:])
    outputs = [name for name in graph.outputs if is_name(name)]
    refuse_unless(len(outputs) == len(graph.outputs) == len(set(outputs)) > 0, "it has no outputs, or one twice")
    refuse_unless(made.issuperset(outputs), "an output is not an operation")
    refuse_unless(made.issuperset(graph.ranges), "a range belongs to no operation")
    for operation in graph.operations:
        known = {*KINDS[operation.kind].quantities, *(ADDED if operation.kind == "add" else ())}
        fits = known.issuperset(graph.ranges.get(operation.name, {}))
        refuse_unless(fits, f"a range of {operation.name} is of a quantity that it does not have")


def check_input(item: Input, known: Mapping[str, Shape], stage: Stage) -> None:
    """Raises MPC-404 for an input that cannot be."""
    refuse_unless(is_name(item.name), "an input has a name that mpcify does not give")
    refuse_unless(item.name not in known and item.holder in HOLDERS, f"input {item.name} is there twice or is nobody's")
    refuse_unless(is_shape(item.shape), f"input {item.name} has a shape that cannot be, or that is too large")
    if item.encoding is not None:
        fits = item.holder == "owner" and stage == "fitted"
        fits = fits and is_name(item.encoding.of) and is_room(item.encoding.room)
        refuse_unless(fits, f"input {item.name} has an encoding that it cannot have")


def check_operation(operation: Operation, known: Mapping[str, Shape], stage: Stage, length: int) -> None:
    """Raises MPC-404 for an operation that cannot be, or not after the values that are known by their shapes."""
    refuse_unless(is_name(operation.name), "an operation has a name that mpcify does not give")
    name = f"operation {operation.name}"
    refuse_unless(operation.name not in known, f"{name} has a name that is taken")
    refuse_unless(is_kind(operation.kind), f"{name} has an unknown kind")
    kind, attributes = KINDS[operation.kind], operation.attributes
    refuse_unless(kind.stage in STAGES[stage], f"{name} is {operation.kind}, which a {stage} graph does not have")
    rules = kind.attributes
    fits = rules.keys() == attributes.keys() and all(rule(attributes[key]) for key, rule in rules.items())
    refuse_unless(fits, f"{name} has attributes that {operation.kind} does not have")
    inputs = operation.inputs
    fits = all(is_name(item) and item in known for item in inputs)
    refuse_unless(fits and len(inputs) == (kind.arity or max(len(inputs), 1)), f"{name} has wrong inputs")
    try:
        shape = infer_shape(operation.kind, [known[item] for item in inputs], attributes)
    except ValueError as error:
        raise broken(f"{name} does not fit its inputs: {error}") from None
    refuse_unless(is_shape(operation.shape) and operation.shape == shape, f"{name} has a wrong shape, or one too large")
    fits = operation.part in PARTS and (operation.layer is None or is_layer(operation.layer))
    refuse_unless(fits, f"{name} has a layer or a part that no model has")
    fits = is_rows(operation.rows) and all(shape[axis : axis + 1] == (length,) for axis in ROWS[operation.rows])
    refuse_unless(fits, f"{name} has no tokens where it says so")


def check_encodings(graph: Graph) -> None:
    """Raises MPC-404 unless a weight held as integers is one that a `square-linear` of the same room reads."""
    encodings = {item.name: item.encoding for item in graph.inputs if item.encoding is not None}
    for operation in graph.operations:
        for place, name in enumerate(operation.inputs):
            if name in encodings:
                weight = operation.kind == "square-linear" and place == 1
                fits = weight and encodings[name].room == operation.attributes["room"]
                refuse_unless(fits, f"operation {operation.name} cannot read integers")


def check_received(graph: Graph) -> None:
    """Raises MPC-404 for a declared range that is not one, which only a file or another party can bring."""
    for name, entry in graph.ranges.items():
        for least, largest in entry.values():
            fits = is_finite(least) and is_finite(largest) and least <= largest
            refuse_unless(fits, f"a range of {name} does not end, or ends before it begins")


def check_exported(graph: Graph) -> None:
    """Raises MPC-404 unless a graph declares all its ranges or none, and a client's inputs are a batch."""
    for operation in graph.operations if graph.ranges else ():
        lacks = set(KINDS[operation.kind].quantities) - graph.ranges.get(operation.name, {}).keys()
        refuse_unless(not lacks, f"operation {operation.name} declares no range, and others do")
    for item in graph.inputs:
        fits = item.holder != "client" or item.shape[:1] == (graph.batch,)
        refuse_unless(fits, f"input {item.name} has another batch than the graph")


def is_kind(value: Any) -> bool:
    """Whether a value is the name of a kind."""
    return isinstance(value, str) and value in KINDS


def is_rows(value: Any) -> bool:
    """Whether a value is a word for where tokens are."""
    return isinstance(value, str) and value in ROWS


def is_name(value: Any) -> bool:
    """Whether a value is a name as the library gives them."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None
