"""An attention as products and squares, with every public or per-head factor folded into weights.

The client's mask is μ = 16·M/m, so 1/16 joins γ under the power: (S + c)²·γ/16 = (S·g + c·g)², g = √(γ/16); for exp_t
(S/2ᵗ + 1)^(2ᵗ)·γ/16 = (S·g/2ᵗ + g)^(2ᵗ), g = (γ/16)^(1/2ᵗ); for ReLU g = γ/16. The scale of S, 1/√d included, goes half
into W_Q, b_Q and half into W_K, b_K (all of it in one costs up to a factor ten in error). `2quad` is scaled by 1/c,
which cancels and keeps its row sum small. A bias B on scores is scaled as they are. Nothing is normalised per row in
freeDiv, so the mask moves from n×n scores to the n rows of V; the normalised attentions get it there, and their row
sum, from one product.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mpcify.graph.build import Builder
from mpcify.graph.graph import Operation
from mpcify.graph.inputs import MASK_SCALE
from mpcify.graph.ranges import UNIT
from mpcify.replacements.forms import FORMS

FLOOR = 30.0  # what a padded score loses before the row maximum is taken


class Attention:
    """One attention on its way to products: its form, names, shapes, and the client's mask inputs."""

    def __init__(self, builder: Builder, operation: Operation, linears: Mapping[str, str]) -> None:
        self.builder, self.operation = builder, operation
        self.form = FORMS[str(operation.attributes["attention"])]
        self.t = int(operation.attributes["t"])
        self.batch, self.heads, self.rows, self.width = operation.shape
        self.count = int(operation.attributes["length"])
        self.masked = "patches" not in builder.inputs
        self.query, self.key, self.value = (linears[name] for name in operation.inputs[:3])
        extra = [builder.weights[name] for name in operation.inputs[3:]]
        self.bias = extra.pop(0) if extra and extra[0].ndim == 2 else None
        self.c = None if self.form.shift is None else extra.pop(0)
        self.gamma = None if self.form.divides else np.exp(extra.pop(0))

    def emit(self, name: str, kind: str, *inputs: str, **attributes: object) -> str:
        """Appends an operation, named after the attention."""
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

    def root(self) -> np.ndarray:
        """g, one a head: the freeDiv factor γ/16 (γ/n for images) under the power's degree; 1 if the form divides."""
        if self.gamma is None:
            return np.ones(self.heads)
        inner = self.gamma / (MASK_SCALE if self.masked else self.count)
        return inner ** (1 / self.form.power.degree(self.t))

    def scale_scores(self) -> np.ndarray:
        """The factor on each head's S, and with it the scale of what is squared or raised."""
        if self.c is not None and self.form.cancels:
            return 1 / self.c
        return self.root() / self.form.power.divisor(self.t)

    def offset(self) -> np.ndarray | None:
        """What is added to a head's scaled scores before they are squared: c·g, or g for exp_t; None if nothing is."""
        if self.c is None:
            return self.root() if self.form.power.steep else None
        return np.ones(self.heads) if self.form.cancels else self.root() * self.c

    def fold_scale(self, linear: Operation, factor: np.ndarray, names: Mapping[str, str], biased: bool = True) -> str:
        """A linear layer with a factor a head on its output, its bias left out if it is not `biased`."""
        x, w, b = linear.inputs
        columns = np.repeat(factor, self.width)
        w = self.builder.weight(f"{w}/scaled", self.builder.weights[w] * columns)
        b = self.builder.weight(f"{b}/scaled", self.builder.weights[b] * columns * biased)
        return self.builder.emit(linear.name + ".scaled", "linear", (names.get(x, x), w, b))

    def biased(self, scores: str) -> str:
        """The scaled scores with B, scaled alike: a weight of its own in each layer.

        Softmax gets B less its largest value, which it does not see: a padded score then is at most −30.
        """
        if self.bias is None:
            return scores
        bias = self.bias * self.scale_scores()[:, None]
        if self.form.exact:
            bias = bias - np.maximum(bias.max(1, keepdims=True), 0)
        return self.emit("biased", "add", scores, self.spread(bias))

    def spread(self, bias: np.ndarray) -> str:
        """B (heads, n, n) of b (heads, 2N − 1), B[h, i, j] = b[h, N − 1 + j − i], by moves alone.

        The 2n − 1 distances n times in a row, read from the n-th value on in rows of 2n − 2: each row begins one
        distance before the last one.
        """
        n, longest = self.count, (bias.shape[1] + 1) // 2
        x = self.builder.weight(f"{self.operation.name}.bias", bias)
        x = self.emit("bias.near", "slice", x, axis=1, start=longest - n, stop=longest + n - 1)
        x = self.emit("bias.row", "reshape", x, shape=(self.heads, 1, 2 * n - 1))
        x = self.emit("bias.rows", "broadcast", x, shape=(self.heads, n, 2 * n - 1))
        x = self.emit("bias.flat", "reshape", x, shape=(self.heads, n * (2 * n - 1)))
        x = self.emit("bias.cut", "slice", x, axis=1, start=n - 1, stop=n - 1 + n * (2 * n - 2))
        x = self.emit("bias.turned", "reshape", x, shape=(self.heads, n, 2 * n - 2))
        return self.emit("bias.scores", "slice", x, axis=2, start=0, stop=n)

    def centred(self, key: str) -> str:
        """K − K̄, K̄ = Σⱼ (μⱼ/16) Kⱼ: one 1-by-n product for all heads."""
        if self.masked:
            row = self.emit("share.row", "reshape", self.share(), shape=(self.batch, 1, self.count))
            total, count = self.emit("key.total", "matmul", row, key, transpose=False), MASK_SCALE
        else:
            total, count = self.emit("key.total", "sum", key, axis=1), float(self.count)
        mean = self.emit("key.mean", "scale", total, by=1 / count)
        return self.emit("key.centred", "sub", key, mean)

    def normalised(self, weights: str) -> str:
        """Σⱼ Mⱼ wᵢⱼ Vⱼ / Σⱼ Mⱼ wᵢⱼ: the mask on V, and as its extra column, so that one product gives both."""
        if self.masked:
            mask = self.share() if self.form.cancels else self.mask()  # μ, if it cancels: it bounds the sum
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
        if self.form.floor:
            total = self.emit("total.floor", "shift", total, by=self.form.floor)
        return self.emit("output", "mul", output, self.emit("inverse", "reciprocal", total))

    def lower(self, producers: Mapping[str, Operation], names: Mapping[str, str]) -> str:
        """The attention's output (batch, heads, n, d)."""
        factor = float(self.operation.attributes["scaling"]) * self.scale_scores()
        half = np.sqrt(np.abs(factor))
        query = self.fold_scale(producers[self.query], half * np.sign(factor), names)
        # a key's bias adds one number to all scores of a row: softmax does not see it, its row maximum does
        key = self.fold_scale(producers[self.key], half, names, biased=not self.form.exact)
        self.value = names.get(self.value, self.value)
        if self.operation.attributes["centre_keys"] and not self.form.exact:
            key = self.centred(key)
        if self.form.exact and self.masked:
            key = self.emit("key.masked", "mul", key, self.mask())
        scores = self.emit("scores", "matmul", self.split(query, "query"), self.split(key, "key"), transpose=True)
        weights = WEIGHTS[self.form.power.name](self, self.biased(scores))
        if self.form.divides:
            return self.normalised(weights)
        value = self.emit("value.masked", "mul", self.value, self.share()) if self.masked else self.value
        return self.emit("output", "matmul", weights, self.split(value, "value"), transpose=False)

    def floored(self, scores: str) -> str:
        """The scores, 30 less at padding."""
        if not self.masked:
            return scores
        bias = self.emit("floor", "shift", self.emit("floor.scale", "scale", self.mask(), by=FLOOR), by=-FLOOR)
        bias = self.emit("floor.row", "reshape", bias, shape=(self.batch, 1, 1, self.count))
        return self.emit("floored", "add", scores, bias)

    def as_written(self, names: Mapping[str, str]) -> str:
        """Exact attention in JAX's own words: nothing is folded, no mask moves."""
        query, key, value = (names.get(name, name) for name in self.operation.inputs[:3])
        scores = self.emit("scores", "matmul", query, key, transpose=True)
        scores = self.emit("scaled", "scale", scores, by=float(self.operation.attributes["scaling"]))
        if self.bias is not None:
            scores = self.emit("biased", "add", scores, self.spread(self.bias))
        weights = self.emit("softmax", "softmax", self.floored(scores), axis=3)
        return self.emit("output", "matmul", weights, value, transpose=False)


def exponential(attention: Attention, scores: str) -> str:
    """exp(S − max S): the row's largest weight is 1."""
    scores = attention.floored(scores)
    below = attention.emit("below", "sub", scores, attention.emit("max", "max", scores, axis=3))
    return attention.emit("exp", "exp", below, t=attention.operation.attributes["t"])


def relu(attention: Attention, scores: str) -> str:
    """ReLU(S)."""
    return attention.emit("relu", "relu", scores)


def squared(attention: Attention, scores: str) -> str:
    """(S + offset)^(2ᵏ), by k squarings."""
    power, offset = attention.form.power, attention.offset()
    if offset is not None:
        name = attention.operation.name + (UNIT if power.steep else ".shift")
        added = attention.builder.weight(name, offset.reshape(attention.heads, 1, 1))
        scores = attention.emit("shifted", "add", scores, added)
    for step in range(power.squarings_of(attention.t)):
        scores = attention.emit(f"square.{step}" if step else "square", "square", scores)
    return scores


# A power's name: the operations that compute it from the scaled scores.
WEIGHTS: dict[str, Callable[[Attention, str], str]] = {
    "exponential": exponential,
    "square": squared,
    "relu": relu,
    "exp_t": squared,
}
