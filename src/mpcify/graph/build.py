"""Building graphs: an operation list that grows, with shapes inferred and weights beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mpcify.graph.about import About
from mpcify.graph.graph import Graph, Input, Operation, Part, Role, Rows

Shape = tuple[int, ...]
Weights = dict[str, np.ndarray]


def infer_shape(kind: str, shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    """The shape of an operation's output, from its inputs' shapes; a `reshape` may hold one −1."""
    first = shapes[0]
    if kind in ("linear", "square-linear"):
        return (*first[:-1], shapes[1][1])
    if kind in ("matmul", "square-matmul"):
        return (
            *np.broadcast_shapes(first[:-2], shapes[1][:-2]),
            first[-2],
            shapes[1][-2 if attributes["transpose"] else -1],
        )
    if kind in ("mul", "add", "sub"):
        return tuple(np.broadcast_shapes(*shapes))
    if kind in ("sum", "max"):
        axis = attributes["axis"] % len(first)
        return (*first[:axis], 1, *first[axis + 1 :])
    if kind in ("reshape", "broadcast"):
        return tuple(attributes["shape"])
    if kind == "transpose":
        return tuple(first[axis] for axis in attributes["axes"])
    if kind == "slice":
        axis = attributes["axis"] % len(first)
        return (*first[:axis], attributes["stop"] - attributes["start"], *first[axis + 1 :])
    if kind == "concat":
        axis = attributes["axis"] % len(first)
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
    return first


@dataclass
class Builder:
    """A graph under construction: inputs, operations in order, and the owner's weights (float64 until written).

    batch, length: of the graph. place: the layer and part that the next operations get.
    """

    batch: int
    length: int
    inputs: dict[str, Input] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    layer: int | None = None
    part: Part = "embedding"

    @staticmethod
    def like(graph: Graph, weights: Mapping[str, np.ndarray]) -> "Builder":
        """An empty list of operations over a graph's inputs and weights."""
        return Builder(graph.batch, graph.length, {item.name: item for item in graph.inputs}, {}, dict(weights))

    def shape(self, name: str) -> Shape:
        """The shape of an input or an operation's output."""
        return (self.inputs.get(name) or self.operations[name]).shape

    def input(self, name: str, role: Role, shape: Shape) -> str:
        """Declares an input, once; returns its name."""
        self.inputs.setdefault(name, Input(name, role, shape))
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        """Adds a weight under this name, or under a free one like it; an equal weight of the name is used again."""
        free, number = name, 1
        while free in self.weights and not np.array_equal(self.weights[free], value):
            number += 1
            free = f"{name}.{number}"
        self.weights[free] = value
        return self.input(free, "owner", tuple(value.shape))

    def emit(self, name: str, kind: str, inputs: Iterable[str], **attributes: Any) -> str:
        """Appends an operation under this name, or a free one like it; returns its name."""
        inputs = tuple(inputs)
        shape = infer_shape(kind, [self.shape(item) for item in inputs], attributes)
        free, number = name, 1
        while free in self.operations or free in self.inputs:
            number += 1
            free = f"{name}.{number}"
        rows: Rows = "scores" if attributes.get("transpose") else self.rows(shape, inputs, kind)
        self.operations[free] = Operation(free, kind, inputs, shape, attributes, self.layer, self.part, rows)
        return free

    def rows(self, shape: Shape, inputs: Sequence[str], kind: str) -> Rows:
        """Which of an output's values belong to real tokens (see Operation.rows); a product with a transpose is QKᵀ."""
        if kind in ("add", "sub", "square", "exp", "relu", "mul", "shift", "scale") and len(shape) == 4:
            known = [self.operations[name].rows for name in inputs if name in self.operations]
            if "scores" in known:
                return "scores"
        if len(shape) == 4 and shape[2] == self.length:
            return "heads"
        if len(shape) >= 3 and shape[1] == self.length:
            return "tokens"
        return "all"

    def copy(self, operation: Operation, names: Mapping[str, str]) -> str:
        """Appends an operation of another graph as it is, its inputs under their new names."""
        kept = replace(operation, inputs=tuple(names.get(name, name) for name in operation.inputs))
        self.operations[kept.name] = kept
        return kept.name

    def at(self, operation: Operation) -> None:
        """The next operations belong where this one does."""
        self.layer, self.part = operation.layer, operation.part

    def finish(self, graph: Graph | None, outputs: Iterable[str], about: About | None = None) -> Graph:
        """The graph, without the operations and inputs that no output needs. `graph`: whose facts it keeps."""
        outputs = tuple(outputs)
        needed, kept = set(outputs), []
        for operation in reversed(self.operations.values()):
            if operation.name in needed:
                kept.append(operation)
                needed.update(operation.inputs)
        inputs = tuple(item for item in self.inputs.values() if item.name in needed)
        for name in set(self.weights) - needed:
            del self.weights[name]
        facts = about if graph is None else graph.about
        return Graph(inputs, tuple(reversed(kept)), outputs, self.batch, self.length, facts).check()
