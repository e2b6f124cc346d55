"""Building graphs: an operation list that grows, with shapes inferred and weights beside it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mpcify.graph.about import About
from mpcify.graph.graph import Graph, Holder, Input, Operation, Part, Rows
from mpcify.graph.kinds import KINDS, NOWHERE, Shape, TokenAxes, infer_shape

Weights = dict[str, np.ndarray]


@dataclass
class Builder:
    """A graph under construction: inputs, operations in order, and the owner's weights (float64 until written).

    batch, length: of the graph. axes: which axes of each value run over tokens, see `kinds`. layer, part: of the next
    operations.
    """

    batch: int
    length: int
    inputs: dict[str, Input] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    axes: dict[str, TokenAxes] = field(default_factory=dict)
    layer: int | None = None
    part: Part = "embedding"

    @staticmethod
    def like(graph: Graph, weights: Mapping[str, np.ndarray]) -> "Builder":
        """An empty list of operations over a graph's inputs and weights."""
        builder = Builder(graph.batch, graph.length, weights=dict(weights))
        for item in graph.inputs:
            builder.add(item)
        return builder

    def shape(self, name: str) -> Shape:
        """The shape of an input or an operation's output."""
        return (self.inputs.get(name) or self.operations[name]).shape

    def input(self, name: str, holder: Holder, shape: Shape) -> str:
        """Declares an input, once; returns its name."""
        if name not in self.inputs:
            self.add(Input(name, holder, shape))
        return name

    def add(self, item: Input) -> None:
        """Adds an input. The owner's have no tokens; others are (batch, tokens, width), or have heads before tokens."""
        self.inputs[item.name] = item
        rank = len(item.shape)
        self.axes[item.name] = (
            frozenset({(rank - 2, rank - 1)}) if item.holder != "owner" and rank in (3, 4) else NOWHERE
        )

    def weight(self, name: str, value: np.ndarray) -> str:
        """Adds a weight under this name, or under a free one like it; an equal weight of the name is used again."""
        free, suffix = name, 1
        while free in self.weights and not np.array_equal(self.weights[free], value):
            suffix += 1
            free = f"{name}.{suffix}"
        self.weights[free] = value
        return self.input(free, "owner", tuple(value.shape))

    def emit(self, name: str, kind: str, inputs: Iterable[str], **attributes: Any) -> str:
        """Appends an operation under this name, or a free one like it; returns its name."""
        inputs = tuple(inputs)
        if kind == "reshape":
            attributes["shape"] = resolved(attributes["shape"], math.prod(self.shape(inputs[0])))
        shape = infer_shape(kind, [self.shape(item) for item in inputs], attributes)
        free, suffix = name, 1
        while free in self.operations or free in self.inputs:
            suffix += 1
            free = f"{name}.{suffix}"
        return self.append(Operation(free, kind, inputs, shape, attributes, self.layer, self.part))

    def copy(self, operation: Operation, names: Mapping[str, str]) -> str:
        """Appends an operation of another graph as it is, its inputs under their new names."""
        return self.append(replace(operation, inputs=tuple(names.get(name, name) for name in operation.inputs)))

    def append(self, operation: Operation) -> str:
        """Appends an operation, and finds out which of its axes run over tokens."""
        axes = [self.axes[name] for name in operation.inputs]
        shapes = [self.shape(name) for name in operation.inputs]
        self.axes[operation.name] = KINDS[operation.kind].rows(axes, shapes, operation.shape, operation.attributes)
        self.operations[operation.name] = operation
        return operation.name

    def at(self, operation: Operation) -> None:
        """The next operations belong where this one does."""
        self.layer, self.part = operation.layer, operation.part

    def finish(self, graph: Graph | None, outputs: Iterable[str], about: About | None = None) -> Graph:
        """The graph, without the operations and inputs that no output needs. `graph`: whose facts it keeps."""
        outputs = tuple(outputs)
        needed, kept = set(outputs), []
        for operation in reversed(self.operations.values()):
            if operation.name in needed:
                rows = rows_word(
                    self.axes[operation.name], operation.shape, self.length
                )  # only now is the length known
                kept.append(replace(operation, rows=rows))
                needed.update(operation.inputs)
        inputs = tuple(item for item in self.inputs.values() if item.name in needed)
        for name in set(self.weights) - needed:
            del self.weights[name]
        facts = about if graph is None else graph.about
        return Graph(inputs, tuple(reversed(kept)), outputs, self.batch, self.length, facts).check()


def rows_word(axes: TokenAxes, shape: Shape, length: int) -> Rows:
    """The word for a value's token axes; "all" if no word fits them, or if they are not all n tokens.

    An image's patches, before its extra tokens join them, are fewer.
    """
    words: dict[TokenAxes, Rows] = {frozenset({(1, 2)}): "tokens"}
    if len(shape) == 4:
        words |= {frozenset({(2, 3)}): "heads", frozenset({(2, 3), (3, 4)}): "scores"}
    complete = all(math.prod(shape[start:stop]) == length for start, stop in axes)
    return words.get(axes, "all") if complete else "all"


def resolved(shape: Shape, size: int) -> Shape:
    """A shape of which one axis may be −1: as long as the size asks for."""
    known = -math.prod(shape)
    return tuple(size // known if axis == -1 else axis for axis in shape)
