"""The passes: composites to products and squares, with every public or per-head factor folded into weights.

Each takes a graph and its weights and returns both anew; none changes what the graph computes. The identities stand in
the docstrings; a weight that several layers share is folded once and stays shared.
"""

from collections.abc import Callable

import numpy as np

from mpcify.graph.build import Builder, Weights
from mpcify.graph.graph import Graph, Operation
from mpcify.lowering.attention import Attention

Pass = Callable[[Graph, Weights], tuple[Graph, Weights]]


def rebuild(
    graph: Graph, weights: Weights, change: Callable[[Builder, Operation, dict[str, str]], str | None]
) -> tuple[Graph, Weights]:
    """A graph in which `change` has replaced the operations for which it returns a name."""
    builder, names = Builder.like(graph, weights), dict[str, str]()
    for operation in graph.operations:
        builder.at(operation)
        names[operation.name] = change(builder, operation, names) or builder.copy(operation, names)
    return builder.finish(graph, [names.get(name, name) for name in graph.outputs]), builder.weights


def fold_activations(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Quad between two linear layers becomes one square; any other activation the operation of its name.

    0.125x² + 0.25x + 0.5 = (√0.125(x + 1))² + 0.375: √0.125 and 1 go into W₁ and b₁, 0.375 into b₂.
    """
    producers = {operation.name: operation for operation in graph.operations}
    readers = graph.consumers()
    squares: dict[str, str] = {}  # the linear layers before and after a folded square

    for operation in graph.operations:
        if operation.kind == "activation" and operation.attributes["activation"] == "quad":
            before, after = producers.get(operation.inputs[0]), readers[operation.name]
            alone = before is not None and before.kind == "linear" and len(readers[before.name]) == 1
            only = [(reader.kind, reader.inputs[0]) for reader in after] == [("linear", operation.name)]
            if before and alone and only:
                squares |= {before.name: "before", operation.name: "square", after[0].name: "after"}

    def change(builder: Builder, operation: Operation, names: dict[str, str]) -> str | None:
        role = squares.get(operation.name)
        if role in ("before", "after"):
            x, w, b = operation.inputs
            weight, bias = builder.weights[w], builder.weights[b]
            if role == "before":
                w = builder.weight(f"{w}/quad", weight * np.sqrt(0.125))
                b = builder.weight(f"{b}/quad", (bias + 1) * np.sqrt(0.125))
            else:
                b = builder.weight(f"{b}/quad", bias + 0.375 * weight.sum(0))
            return builder.emit(operation.name, "linear", (names.get(x, x), w, b))
        if operation.kind != "activation":
            return None
        x, kind = names.get(operation.inputs[0], operation.inputs[0]), operation.attributes["activation"]
        if role == "square":
            return builder.emit(operation.name, "square", (x,))
        if kind != "quad":
            return builder.emit(operation.name, kind, (x,))
        shifted = builder.emit(f"{operation.name}.shift", "shift", (x,), by=1.0)
        squared = builder.emit(f"{operation.name}.square", "square", (shifted,))
        scaled = builder.emit(f"{operation.name}.scale", "scale", (squared,), by=0.125)
        return builder.emit(operation.name, "shift", (scaled,), by=0.375)

    return rebuild(graph, weights, change)


def lower_attention(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Every attention to products, squares and (if it divides) one reciprocal a row: see `lowering.attention`."""
    producers = {operation.name: operation for operation in graph.operations}

    def linear_of(name: str) -> str:
        while producers[name].kind in ("reshape", "transpose"):
            name = producers[name].inputs[0]
        return name

    def change(builder: Builder, operation: Operation, names: dict[str, str]) -> str | None:
        if operation.kind != "attention":
            return None
        linears = {name: linear_of(name) for name in operation.inputs[:3]}
        return Attention(builder, operation, linears).lower(producers, names)

    return rebuild(graph, weights, change)


def fuse_products(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Linear layers that read the same value become one product, and slices of it: X·[W₁, W₂, …] + [b₁, b₂, …]."""
    groups: dict[str, list[Operation]] = {}
    for operation in graph.operations:
        if operation.kind == "linear":
            groups.setdefault(operation.inputs[0], []).append(operation)
    fused: dict[str, str] = {}

    def change(builder: Builder, operation: Operation, names: dict[str, str]) -> str | None:
        group = groups.get(operation.inputs[0], []) if operation.kind == "linear" else []
        if len(group) < 2:
            return None
        x = operation.inputs[0]
        if x not in fused:
            joint = "+".join([group[0].inputs[1], *(other.inputs[1].rsplit(".", 2)[-2] for other in group[1:])])
            w = builder.weight(joint, np.concatenate([builder.weights[other.inputs[1]] for other in group], 1))
            b = builder.weight(f"{joint}.bias", np.concatenate([builder.weights[other.inputs[2]] for other in group]))
            fused[x] = builder.emit(f"{group[0].name}.fused", "linear", (names.get(x, x), w, b))
        start = sum(other.shape[-1] for other in group[: group.index(operation)])
        last = len(operation.shape) - 1
        return builder.emit(
            operation.name, "slice", (fused[x],), axis=last, start=start, stop=start + operation.shape[-1]
        )

    return rebuild(graph, weights, change)


def simplify(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Drops what is done twice, and what only moves data back.

    An equal operation, a reshape of a reshape, a transpose undone; dead ends and unread inputs go with every pass.
    """
    seen: dict[tuple, str] = {}

    def change(builder: Builder, operation: Operation, names: dict[str, str]) -> str | None:
        inputs = tuple(names.get(name, name) for name in operation.inputs)
        attributes, before = dict(operation.attributes), builder.operations.get(inputs[0])
        if before and before.kind == operation.kind in ("reshape", "transpose"):
            if operation.kind == "transpose":
                attributes["axes"] = tuple(before.attributes["axes"][axis] for axis in attributes["axes"])
            inputs = before.inputs
        still = {
            "reshape": builder.shape(inputs[0]) == operation.shape,
            "broadcast": builder.shape(inputs[0]) == operation.shape,
            "transpose": attributes.get("axes") == tuple(range(len(operation.shape))),
        }
        if still.get(operation.kind):
            return inputs[0]
        key = (operation.kind, inputs, tuple(sorted(attributes.items())))
        if key not in seen:
            seen[key] = builder.emit(operation.name, operation.kind, inputs, **attributes)
        return seen[key]

    return rebuild(graph, weights, change)


def as_written(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Exact attention and GeLU in JAX's own words: what a user gets who knows nothing of what they cost.

    Nothing is folded; padded scores get −30, as any larger number is silently wrong in fixed point.
    """

    def change(builder: Builder, operation: Operation, names: dict[str, str]) -> str | None:
        if operation.kind == "activation" and operation.attributes["activation"] == "gelu":
            return builder.emit(operation.name, "gelu-erfc", (names.get(operation.inputs[0], operation.inputs[0]),))
        if operation.kind != "attention":
            return None
        return Attention(builder, operation, {name: name for name in operation.inputs[:3]}).as_written(names)

    return rebuild(graph, weights, change)


PASSES: tuple[Pass, ...] = (fold_activations, lower_attention, fuse_products, simplify)


def lower(graph: Graph, weights: Weights, naive: bool = False) -> tuple[Graph, Weights]:
    """All passes in order: a graph that every engine runs. naive: that recipe of the benchmark, see `as_written`."""
    for step in (as_written, fold_activations, fuse_products, simplify) if naive else PASSES:
        graph, weights = step(graph, weights)
    return graph, weights
