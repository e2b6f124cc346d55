"""Residual streams that only LayerNorms read, scaled up by the owner's weights if they are small.

LayerNorm does not notice the size of what it reads: LN(2ᵏx) = LN(x), with 4ᵏ·eps. In a pre-LayerNorm encoder all
readers of the stream are LayerNorms, so that 2ᵏ can go into what is added to it (embeddings, W_O, W₂ and their biases):
the ring then keeps k bits more of it, at no cost. If others read it too, `Rules.fit` doubles it before each LayerNorm.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mpcify.graph.build import Weights
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.rewrite import doubled, raising

# What gives 2ᵏ times as much if all its inputs are 2ᵏ times as large.
EVEN = ("add", "sub", "sum", "reshape", "transpose", "slice", "concat", "broadcast")


def scale_streams(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """The graph, its declared ranges and its weights (of no other type than before) with small streams scaled up.

    k of a stream: until the middle of the declared variances of its LayerNorms lies around 1 (see `rewrite.raising`); a
    stream without declared ranges stays.
    """
    members = scalable(graph)
    powers = stream_powers(graph, members)
    if not any(powers.values()):
        return graph, weights
    operations, ranges, changed = [], dict(graph.ranges), dict(weights)
    for operation in graph.operations:
        power, entry = powers.get(operation.name, 0), graph.ranges.get(operation.name, {})
        read = powers.get(operation.inputs[0], 0)
        if power:
            scaled = entry.items()
            ranges[operation.name] = {name: (low * 2.0**power, high * 2.0**power) for name, (low, high) in scaled}
            for name in operation.inputs[1:] if operation.kind == "linear" else ():
                changed[name] = np.ldexp(weights[name], power)
        if operation.kind == "layernorm" and read:
            eps = operation.attributes["eps"] * 4.0**read
            operation = replace(operation, attributes={"eps": eps})
            ranges[operation.name] = doubled(operation, graph.ranges, read)
        operations.append(operation)
    for item in graph.held_by("owner"):
        if power := powers.get(item.name, 0):
            changed[item.name] = np.ldexp(weights[item.name], power)
    return replace(graph, operations=tuple(operations), ranges=ranges).check(), changed


def scalable(graph: Graph) -> frozenset[str]:
    """The values that may be scaled: made of the owner's numbers, and read by LayerNorms and by each other alone."""
    readers, owned = graph.consumers(), {item.name for item in graph.held_by("owner")}
    made = {operation.name: operation for operation in graph.operations}
    found = owned | {name for name, operation in made.items() if operation.kind in (*EVEN, "linear")}
    found -= set(graph.outputs)

    def stays(name: str) -> bool:
        operation = made.get(name)
        if operation is not None and operation.kind == "linear":
            # its weights are scaled, so no other operation may read them
            inputs_fit = all(item in owned and readers[item] == [operation] for item in operation.inputs[1:])
        else:
            inputs_fit = operation is None or found.issuperset(operation.inputs)
        return inputs_fit and all(
            (reader.kind == "layernorm" and name not in reader.inputs[1:])
            or (reader.kind in EVEN and reader.name in found)
            for reader in readers[name]
        )

    while gone := {name for name in found if not stays(name)}:
        found -= gone
    return frozenset(found)


def stream_powers(graph: Graph, members: frozenset[str]) -> Mapping[str, int]:
    """k of every member: one for all that are joined."""
    stream = {name: name for name in members}

    def root(name: str) -> str:
        while stream[name] != name:
            name = stream[name]
        return name

    for operation in graph.operations:
        if operation.name in members and operation.kind in EVEN:
            for name in operation.inputs:
                stream[root(name)] = root(operation.name)
    norms: dict[str, list[Operation]] = {}
    for operation in graph.operations:
        if operation.kind == "layernorm" and operation.inputs[0] in members:
            norms.setdefault(root(operation.inputs[0]), []).append(operation)
    powers = {
        name: raising([graph.ranges.get(norm.name, {}).get("variance") for norm in found])
        for name, found in norms.items()
    }
    return {name: powers.get(root(name), 0) for name in members}
