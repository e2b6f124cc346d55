"""The passes: composites to products and squares, with every public or per-head factor folded into weights.

Each takes a graph and its weights and returns both anew; none changes what the graph computes. The identities stand in
the docstrings; a weight that several layers share is folded once and stays shared.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mpcify.graph.build import Builder, Weights
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.inputs import MASK_SCALE
from mpcify.graph.ranges import UNIT
from mpcify.recipe import has_shift, is_freediv
from mpcify.replacements.attention import RELU_FLOOR

FLOOR = 30.0  # what a padded score loses before the row maximum is taken

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


class Attention:
    """One attention on its way to products: its names, shapes, and the client's mask inputs."""

    def __init__(self, builder: Builder, operation: Operation, linears: Mapping[str, str]) -> None:
        self.builder, self.operation = builder, operation
        self.kind = str(operation.attributes["attention"])
        self.batch, self.heads, self.rows, self.width = operation.shape
        self.count = int(operation.attributes["length"])
        self.masked = "patches" not in builder.inputs
        self.query, self.key, self.value = (linears[name] for name in operation.inputs[:3])
        extra = [builder.weights[name] for name in operation.inputs[3:]]
        self.c = extra.pop(0) if has_shift(self.kind) else None
        self.gamma = np.exp(extra.pop(0)) if is_freediv(self.kind) else None

    def emit(self, name: str, kind: str, *inputs: str, **attributes: object) -> str:
        return self.builder.emit(f"{self.operation.name}.{name}", kind, inputs, **attributes)

    def mask(self) -> str:
        """M, (batch, n, 1)."""
        return self.builder.input("mask", "client", (self.batch, self.count, 1))

    def share(self) -> str:
        """μ = 16·M/m, (batch, n, 1)."""
        return self.builder.input("share", "client", (self.batch, self.count, 1))

    def split(self, x: str, name: str) -> str:
        """(batch, n, heads·d) to (batch, heads, n, d)."""
        parts = self.emit(f"{name}.split", "reshape", x, shape=(self.batch, self.count, self.heads, self.width))
        return self.emit(f"{name}.heads", "transpose", parts, axes=(0, 2, 1, 3))

    def scale_scores(self) -> np.ndarray:
        """The factor on each head's QKᵀ, and with it the scale of what is squared or raised: see `lower_attention`."""
        scaling = np.full(self.heads, float(self.operation.attributes["scaling"]))
        if self.gamma is None:
            return scaling / self.c if self.c is not None else scaling
        return (
            scaling
            * self.root()
            / (2.0 ** int(self.operation.attributes["t"]) if self.kind == "softmax-freediv" else 1)
        )

    def root(self) -> np.ndarray:
        """g: the freeDiv factor γ/16 (γ/n for images) under the power that the scores are raised to."""
        assert self.gamma is not None
        inner = self.gamma / (MASK_SCALE if self.masked else self.count)
        power = {"2quad-freediv": 2, "softmax-freediv": 2 ** int(self.operation.attributes["t"]), "relu-freediv": 1}[
            self.kind
        ]
        return inner ** (1 / power)

    def fold_scale(self, linear: Operation, factor: np.ndarray, names: Mapping[str, str], biased: bool = True) -> str:
        """A linear layer with a factor a head on its output, its bias left out if it is not `biased`."""
        x, w, b = linear.inputs
        columns = np.repeat(factor, self.width)
        w = self.builder.weight(f"{w}/scaled", self.builder.weights[w] * columns)
        b = self.builder.weight(f"{b}/scaled", self.builder.weights[b] * columns * biased)
        return self.builder.emit(linear.name + ".scaled", "linear", (names.get(x, x), w, b))

    def centred(self, key: str) -> str:
        """K − K̄, K̄ = Σⱼ (μⱼ/16) Kⱼ: one 1-by-n product for all heads."""
        if self.masked:
            row = self.emit("share.row", "reshape", self.share(), shape=(self.batch, 1, self.count))
            total, count = self.emit("key.total", "matmul", row, key, transpose=False), MASK_SCALE
        else:
            total, count = self.emit("key.total", "sum", key, axis=1), float(self.count)
        mean = self.emit("key.mean", "scale", total, by=1 / count)
        return self.emit("key.centred", "sub", key, mean)

    def weights(self, scores: str) -> str:
        """What each key weighs: the square, power, ReLU or exponential of its (folded) score."""
        if self.kind == "softmax":
            if self.masked:
                bias = self.emit("floor", "shift", self.emit("floor.scale", "scale", self.mask(), by=FLOOR), by=-FLOOR)
                bias = self.emit("floor.row", "reshape", bias, shape=(self.batch, 1, 1, self.count))
                scores = self.emit("floored", "add", scores, bias)
            top = self.emit("max", "max", scores, axis=3)
            return self.emit("exp", "exp", self.emit("below", "sub", scores, top), t=self.operation.attributes["t"])
        if self.kind in ("2relu", "relu-freediv"):
            return self.emit("relu", "relu", scores)
        shift = np.ones(self.heads) if self.gamma is None else self.root() * (1 if self.c is None else self.c)
        ending = UNIT if self.kind == "softmax-freediv" else ".shift"
        name = self.builder.weight(self.operation.name + ending, shift.reshape(self.heads, 1, 1))
        powered = self.emit("shifted", "add", scores, name)
        for step in range(int(self.operation.attributes["t"]) if self.kind == "softmax-freediv" else 1):
            powered = self.emit(f"square.{step}" if step else "square", "square", powered)
        return powered

    def normalised(self, weights: str) -> str:
        """Σⱼ Mⱼ wᵢⱼ Vⱼ / Σⱼ Mⱼ wᵢⱼ: the mask on V, and as its extra column, so that one product gives both."""
        if self.masked:
            mask = self.share() if self.kind == "2quad" else self.mask()  # μ for 2quad: it cancels, and bounds the sum
            value = self.split(self.emit("value.masked", "mul", self.value, mask), "value")
            column = self.emit("column", "reshape", mask, shape=(self.batch, 1, self.count, 1))
            column = self.emit("column.heads", "broadcast", column, shape=(self.batch, self.heads, self.count, 1))
            both = self.emit(
                "both", "matmul", weights, self.emit("value.extended", "concat", value, column, axis=3), transpose=False
            )
            output = self.emit("numerator", "slice", both, axis=3, start=0, stop=self.width)
            total = self.emit("total", "slice", both, axis=3, start=self.width, stop=self.width + 1)
        else:
            output = self.emit("numerator", "matmul", weights, self.split(self.value, "value"), transpose=False)
            total = self.emit("total", "sum", weights, axis=3)
        if self.kind == "2relu":
            total = self.emit("total.floor", "shift", total, by=RELU_FLOOR)
        return self.emit("output", "mul", output, self.emit("inverse", "reciprocal", total))

    def lower(self, producers: Mapping[str, Operation], names: Mapping[str, str]) -> str:
        """The attention's output (batch, heads, n, d)."""
        factor = self.scale_scores()
        half = np.sqrt(np.abs(factor))
        query = self.fold_scale(producers[self.query], half * np.sign(factor), names)
        # a key's bias adds one number to all scores of a row: softmax does not see it, its row maximum does
        key = self.fold_scale(producers[self.key], half, names, biased=self.kind != "softmax")
        self.value = names.get(self.value, self.value)
        if self.operation.attributes["centre_keys"] and self.kind != "softmax":  # softmax does not notice
            key = self.centred(key)
        if self.kind == "softmax" and self.masked:
            key = self.emit("key.masked", "mul", key, self.mask())
        scores = self.emit("scores", "matmul", self.split(query, "query"), self.split(key, "key"), transpose=True)
        weights = self.weights(scores)
        if self.gamma is None:
            return self.normalised(weights)
        value = self.emit("value.masked", "mul", self.value, self.share()) if self.masked else self.value
        return self.emit("output", "matmul", weights, self.split(value, "value"), transpose=False)


def lower_attention(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Every attention to products, squares and (where it divides) one reciprocal a row.

    The client's mask is μ = 16·M/m, so 1/16 joins γ under the square: (S + c)²·γ/16 = (S·g + c·g)², g = √(γ/16);
    for exp_t (S/2ᵗ + 1)^(2ᵗ)·γ/16 = (S·g/2ᵗ + g)^(2ᵗ), g = (γ/16)^(1/2ᵗ); for ReLU g = γ/16. The scale of S, 1/√d
    included, goes half into W_Q, b_Q and half into W_K, b_K (all of it in one costs up to a factor ten in error).
    `2quad` is scaled by 1/c, which cancels and keeps its row sum small. Nothing is normalised per row in freeDiv, so
    the mask moves from n×n scores to the n rows of V; the normalised attentions get it there, and their row sum, from
    one product.
    """
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
        attention = Attention(builder, operation, {name: name for name in operation.inputs[:3]})
        query, key, value = (names.get(name, name) for name in operation.inputs[:3])
        scores = attention.emit("scores", "matmul", query, key, transpose=True)
        scores = attention.emit("scaled", "scale", scores, by=float(operation.attributes["scaling"]))
        if attention.masked:
            bias = attention.emit("floor.scale", "scale", attention.mask(), by=FLOOR)
            bias = attention.emit("floor", "shift", bias, by=-FLOOR)
            row = attention.emit("floor.row", "reshape", bias, shape=(attention.batch, 1, 1, attention.count))
            scores = attention.emit("floored", "add", scores, row)
        weights = attention.emit("softmax", "softmax", scores, axis=3)
        return attention.emit("output", "matmul", weights, value, transpose=False)

    return rebuild(graph, weights, change)


PASSES: tuple[Pass, ...] = (fold_activations, lower_attention, fuse_products, simplify)


def lower(graph: Graph, weights: Weights, naive: bool = False) -> tuple[Graph, Weights]:
    """All passes in order: a graph that every engine runs. naive: the benchmark's baseline, see `as_written`."""
    for step in (as_written, fold_activations, fuse_products, simplify) if naive else PASSES:
        graph, weights = step(graph, weights)
    return graph, weights
