"""The float reference: a graph in float64, kind by kind. What every other engine is compared with.

No protocol, no ring: a cost has seconds alone. It needs nothing but numpy.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np

from mpcify.engines.config import PlainConfig
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Program, Session
from mpcify.engines.interpret import Observe, check_arrays, check_kinds, check_open, profile_operations, run_operations
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.ranges import RangeRecorder, Ranges, merge
from mpcify.replacements.forms import GELU_POLY_HIGH, GELU_POLY_LOW, GELU_TANH_CUBE

ERF_STEPS = 512  # table entries a unit
ERF_END = 6.0  # erf(6) is 1 in float64


@cache
def erf_table() -> tuple[np.ndarray, np.ndarray]:
    """erf and its slope at the multiples of 1/ERF_STEPS from −ERF_END to ERF_END."""
    nodes = np.arange(-ERF_END * ERF_STEPS, ERF_END * ERF_STEPS + 1) / ERF_STEPS
    return np.array([math.erf(node) for node in nodes]), 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)


def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) by its Taylor series to the third power around the nearest table entry; error below 1e-12."""
    values, slopes = erf_table()
    x = np.clip(x, -ERF_END, ERF_END)
    index = np.rint(x * ERF_STEPS)
    node = index / ERF_STEPS
    index = np.nan_to_num(index + ERF_END * ERF_STEPS).astype(np.intp)  # a NaN stays one: d is
    d = x - node
    return values[index] + slopes[index] * d * (1 - d * (node - d * (2 * node * node - 1) / 3))


def gelu(x: np.ndarray) -> np.ndarray:
    """x/2 · (1 + erf(x/√2))."""
    return x / 2 * (1 + erf(x / math.sqrt(2)))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x) over its sum along one axis."""
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))."""
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + GELU_TANH_CUBE * x * x * x)))


def gelu_poly(x: np.ndarray) -> np.ndarray:
    """PUMA's piecewise GeLU."""
    inner = np.where(
        x < -1.95, *(np.polynomial.polynomial.polyval(x, part) for part in (GELU_POLY_LOW, GELU_POLY_HIGH))
    )
    return np.where(x < -4, 0.0, np.where(x > 3, x, inner))


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x @ w + b, as one product of two matrices."""
    return (x.reshape(-1, x.shape[-1]) @ w + b).reshape(*x.shape[:-1], w.shape[-1])


def layernorm(x: np.ndarray, g: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
    """(x − mean) · rsqrt(variance + eps) · g + b over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps) * g + b


def slice_axis(x: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    """x from `start` to `stop` along one axis."""
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop),)]


# Kinds that only move or pick values: the same in floats and in a ring.
MOVES: Mapping[str, Callable[..., np.ndarray]] = {
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.transpose(axes),
    "slice": slice_axis,
    "concat": lambda *x, axis: np.concatenate(x, axis),
    "broadcast": lambda x, shape: np.broadcast_to(x, shape),
    "max": lambda x, axis: x.max(axis, keepdims=True),
    "relu": lambda x: np.maximum(x, 0),
}
PLAIN: Mapping[str, Callable[..., np.ndarray]] = {
    **MOVES,
    "linear": linear,
    "matmul": lambda a, b, transpose: a @ (b.swapaxes(-1, -2) if transpose else b),
    "square-linear": lambda x, w, b, room: linear(x * x, room * w, b),
    "square-matmul": lambda a, b, transpose: a * a @ (b.swapaxes(-1, -2) if transpose else b),
    "mul": np.multiply,
    "square": np.square,
    "scale": lambda x, by: x * by,
    "add": np.add,
    "sub": np.subtract,
    "shift": lambda x, by: x + by,
    "sum": lambda x, axis: x.sum(axis, keepdims=True),
    "exp": lambda x, t: np.exp(x),
    "reciprocal": lambda x: 1 / x,
    "tanh": np.tanh,
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "gelu-poly": gelu_poly,
    "layernorm": layernorm,
    "softmax": softmax,
    "gelu-erfc": gelu,
}


def evaluate_operation(operation: Operation, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """What an operation gives in floats, for float arrays of its inputs' shapes."""
    return PLAIN[operation.kind](*inputs, **operation.attributes)


class PlainSession(Session):
    """Weights in float64, ready for requests."""

    def __init__(self, graph: Graph, weights: Arrays) -> None:
        self.graph, self.closed = graph, False
        owned = check_arrays(graph.held_by("owner"), weights)
        self.weights = {name: np.ascontiguousarray(array, np.float64) for name, array in owned.items()}

    @property
    def setup(self) -> Cost:
        return Cost()

    def run(self, inputs: Arrays, observe: Observe | None = None) -> tuple[dict[str, np.ndarray], Cost]:
        """One request; `observe(operation, inputs, output)` is called after each operation, with float64 arrays."""
        start = time.perf_counter()
        values = self.values(inputs)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # what is not finite shows in the outputs
            outputs = run_operations(self.graph, values, evaluate_operation, observe)
        return outputs, Cost(seconds=time.perf_counter() - start)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return profile_operations(self.graph, self.values(inputs), evaluate_operation)

    def values(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Weights and inputs by name."""
        check_open(self.closed, PlainConfig.name)
        given = check_arrays((*self.graph.held_by("client"), *self.graph.held_by("public")), inputs)
        return self.weights | {name: array.astype(np.float64) for name, array in given.items()}

    def close(self) -> None:
        self.weights, self.closed = {}, True


class PlainProgram(Program):
    """A graph whose operations are all known."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def load(self, weights: Arrays, beside: Session | None = None) -> PlainSession:
        return PlainSession(self.graph, weights)


class PlainEngine(Engine):
    """Float64, no ring and no protocol."""

    undeclared = "run"

    def __init__(self, config: PlainConfig | None = None) -> None:
        self.config = config or PlainConfig()

    def compile(self, graph: Graph) -> PlainProgram:
        """Raises MPC-401 for a graph that is not lowered. Declared ranges mean nothing to floats."""
        check_kinds(graph, PLAIN, self.name)
        return PlainProgram(graph)


def measure_ranges(graph: Graph, weights: Arrays, batches: Iterable[Arrays]) -> Ranges:
    """The least and largest value of every quantity over the real tokens of some batches of client inputs, in floats.

    `ranges.declare` adds the margins; `headroom.headroom` says what fits an engine's limits.
    """
    measured: Ranges = {}
    with PlainEngine().compile(graph).load(weights) as session:
        for inputs in batches:
            recorder = RangeRecorder(graph, inputs)
            session.run(inputs, recorder)
            measured = merge(measured, recorder.ranges)
    return measured
