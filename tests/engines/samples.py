"""One small case of every kind of operation, and a model whose shapes are drawn."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Input
from mpcify.graph.kinds import COMPOSITES, KINDS

Arrays = dict[str, np.ndarray]

# kind: the shapes of its inputs, and its attributes
CASES: Mapping[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "linear": (((2, 3), (3, 4), (4,)), {}),
    "matmul": (((2, 3, 4), (2, 5, 4)), {"transpose": True}),
    "mul": (((2, 3), (2, 1)), {}),
    "square": (((2, 3),), {}),
    "scale": (((2, 3),), {"by": 0.25}),
    "square-linear": (((2, 3), (3, 4), (4,)), {"room": 1}),
    "square-matmul": (((2, 3, 4), (2, 5, 4)), {"transpose": True}),
    "add": (((2, 3), (1, 3)), {}),
    "sub": (((2, 3), (2, 1)), {}),
    "shift": (((2, 3),), {"by": 0.5}),
    "sum": (((2, 3),), {"axis": 1}),
    "reshape": (((2, 3),), {"shape": (3, 2)}),
    "transpose": (((2, 3, 4),), {"axes": (2, 0, 1)}),
    "slice": (((2, 5),), {"axis": 1, "start": 1, "stop": 3}),
    "concat": (((2, 3), (2, 1)), {"axis": 1}),
    "broadcast": (((2, 1),), {"shape": (2, 3)}),
    "max": (((2, 4),), {"axis": 1}),
    "exp": (((2, 3),), {"t": 8}),
    "reciprocal": (((2, 3),), {}),
    "tanh": (((2, 3),), {}),
    "relu": (((2, 3),), {}),
    "gelu": (((2, 3),), {}),
    "gelu-tanh": (((2, 3),), {}),
    "gelu-poly": (((2, 3),), {}),
    "layernorm": (((2, 8), (8,), (8,)), {"eps": 1e-12}),
    "softmax": (((2, 4),), {"axis": 1}),
    "gelu-erfc": (((2, 3),), {}),
}
LOWERED = [kind for kind in KINDS if kind not in COMPOSITES]


def one_of_each(kinds: list[str]) -> tuple[Graph, Arrays]:
    """A graph in which each of these kinds reads inputs of its own, and the inputs, all between 0.5 and 1.5."""
    builder, inputs = Builder(1, 1), {}
    generator = np.random.default_rng(0)
    for kind in kinds:
        shapes, attributes = CASES[kind]
        names = [builder.input(f"{kind}.{index}", "client", shape) for index, shape in enumerate(shapes)]
        inputs |= {
            name: generator.uniform(0.5, 1.5, shape).astype(np.float32)
            for name, shape in zip(names, shapes, strict=True)
        }
        builder.emit(f"{kind}.out", kind, names, **attributes)
    return builder.finish(None, list(builder.operations)), inputs


def drawn_model(seed: int, length: int | None = None) -> tuple[Graph, Arrays]:
    """A linear layer, a square, a product with a public input, a residual and a LayerNorm, of drawn sizes; its weights.

    length: as given, else drawn; weights do not depend on it.
    """
    generator = np.random.default_rng(seed)
    width, inner, outputs, batch = (
        int(generator.integers(low, high)) for low, high in ((4, 12), (2, 9), (1, 5), (1, 3))
    )
    drawn = int(generator.integers(1, 6))
    length = drawn if length is None else length
    builder = Builder(batch, length)

    def weight(name: str, *shape: int) -> str:
        return builder.weight(name, (generator.standard_normal(shape) / math.sqrt(shape[0])).astype(np.float32))

    x = builder.input("x", "client", (batch, length, width))
    builder.layer, builder.part = 0, "linear"
    hidden = builder.emit("up", "linear", (x, weight("up.w", width, inner), weight("up.b", inner)))
    hidden = builder.emit("gated", "mul", (hidden, builder.input("gate", "public", (batch, length, 1))))
    hidden = builder.emit("squared", "square", (hidden,))
    hidden = builder.emit("down", "linear", (hidden, weight("down.w", inner, width), weight("down.b", width)))
    hidden = builder.emit("residual", "add", (x, hidden))
    hidden = builder.emit("norm", "layernorm", (hidden, weight("g", width), weight("b", width)), eps=1e-12)
    builder.layer, builder.part = None, "head"
    builder.emit("logits", "linear", (hidden, weight("head.w", width, outputs), weight("head.b", outputs)))
    return builder.finish(None, ["logits"]), builder.weights


def drawn_request(graph: Graph, seed: int, size: float = 1.0) -> Arrays:
    """Inputs of a drawn model. size: of the client's."""
    generator = np.random.default_rng(seed)

    def values(item: Input) -> np.ndarray:
        wanted = (
            generator.uniform(0.5, 1.0, item.shape)
            if item.holder == "public"
            else generator.standard_normal(item.shape)
        )
        return (wanted if item.holder == "public" else size * wanted).astype(np.float32)

    return {item.name: values(item) for item in (*graph.held_by("client"), *graph.held_by("public"))}


def in_numpy(weights: Arrays, inputs: Arrays) -> np.ndarray:
    """What a drawn model answers, written out in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    x = inputs["x"].astype(np.float64)
    hidden = ((x @ w["up.w"] + w["up.b"]) * inputs["gate"]) ** 2
    x = x + hidden @ w["down.w"] + w["down.b"]
    normal = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    return (normal * w["g"] + w["b"]) @ w["head.w"] + w["head.b"]
