"""The graph in integers mod 2^K, without shares: what a protocol would give, wrap-around included, and much faster.

Products, truncations, comparisons and SPU's functions wrap exactly as the ring does; only the rounding of a truncation,
which a protocol leaves to chance, goes to the nearest integer. K = 32 runs in int32, K = 64 and 48 in int64.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Program, Session
from mpcify.engines.interpret import Observe, check_arrays, check_kinds, profile_operations, run_operations
from mpcify.engines.plain import MOVES, measure_ranges
from mpcify.engines.spu.fit import fit, fit_met
from mpcify.engines.spu.functions import Arithmetic
from mpcify.engines.spu.limits import check_like, check_ranges, prove
from mpcify.engines.spu.postpone import weights_for
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import RangeRow, refuse_undeclared
from mpcify.numerics import FixedPoint

BLOCK = 1 << 14  # elements a function takes at once: its dozens of passes then stay in the cache


def integer_product(a: np.ndarray, b: np.ndarray, transpose: bool = False) -> np.ndarray:
    """a @ b, or a @ bᵀ, in integers that wrap as their type does. a (…, n, p); b (p, q) or (…, p, q).

    By torch: numpy's product of integer matrices is many times slower.
    """
    torch = importlib.import_module("torch")
    left, right = (torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in (a, b))
    right = right.transpose(-1, -2) if transpose else right
    if b.ndim > 2:
        return (left @ right).numpy()
    return (left.reshape(-1, a.shape[-1]) @ right).reshape(*a.shape[:-1], -1).numpy()


def in_blocks(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """An element-wise function, applied block by block."""

    def blocked(x: np.ndarray) -> np.ndarray:
        flat, output = np.ravel(x), np.empty(x.size, x.dtype)
        for start in range(0, x.size, BLOCK):
            output[start : start + BLOCK] = function(flat[start : start + BLOCK])
        return output.reshape(x.shape)

    return blocked


def kinds(ring: Arithmetic) -> Mapping[str, Callable[..., np.ndarray]]:
    """What each kind of operation computes in a ring."""

    def product(a: np.ndarray, b: np.ndarray, transpose: bool = False) -> np.ndarray:
        return ring.number.truncate(ring.number.wrap(integer_product(a, b, transpose)))

    def of_square(x: np.ndarray, w: np.ndarray, transpose: bool = False, room: int = 1) -> np.ndarray:
        raw = ring.number.wrap(integer_product(ring.number.wrap(x * x), w, transpose))
        return ring.number.truncate(ring.number.wrap(ring.number.truncate(raw) * room))

    return {
        **MOVES,
        "square-linear": lambda x, w, b, room: ring.add(of_square(x, w, room=room), b),
        "square-matmul": of_square,
        "linear": lambda x, w, b: ring.add(product(x, w), b),
        "matmul": product,
        "mul": ring.multiply,
        "square": lambda x: ring.multiply(x, x),
        "scale": ring.scale,
        "add": ring.add,
        "sub": ring.subtract,
        "shift": lambda x, by: ring.add(x, ring.constant(by)),
        "sum": ring.sum,
        "exp": lambda x, t: in_blocks(lambda part: ring.exp(part, t))(x),
        "reciprocal": in_blocks(ring.reciprocal),
        "tanh": in_blocks(ring.tanh),
        "gelu": in_blocks(ring.gelu),
        "gelu-tanh": in_blocks(ring.gelu_tanh),
        "gelu-poly": in_blocks(ring.gelu_poly),
        "layernorm": ring.layernorm,
    }


class FixedSession(Session):
    """Weights encoded, ready for requests."""

    def __init__(self, graph: Graph, number: FixedPoint, weights: Arrays) -> None:
        self.graph, self.number = graph, number
        self.kinds = kinds(Arithmetic(number))
        owned = check_arrays(graph.role("owner"), weights)
        self.weights = {name: self.encode(array) for name, array in owned.items()}

    def encode(self, array: np.ndarray) -> np.ndarray:
        """A float array as integers of the ring's type."""
        return self.number.encode(array).astype(self.number.dtype)

    def evaluate(self, operation: Operation, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """What an operation gives for integer arrays of its inputs' shapes."""
        return self.kinds[operation.kind](*inputs, **operation.attributes)

    @property
    def setup(self) -> Cost:
        return Cost()

    def run(self, inputs: Arrays, observe: Observe | None = None) -> tuple[dict[str, np.ndarray], Cost]:
        """One request; `observe(operation, inputs, output)` is called after each operation, with float64 arrays."""
        start = time.perf_counter()
        seen = None if observe is None else self.in_floats(observe)
        outputs = self.decode(run_operations(self.graph, self.values(inputs), self.evaluate, seen))
        return outputs, Cost(seconds=time.perf_counter() - start)

    def in_floats(self, observe: Observe) -> Observe:
        """An observer of integers that tells another one floats."""
        decode = self.number.decode
        return lambda operation, inputs, output: observe(operation, tuple(map(decode, inputs)), decode(output))

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        outputs, costs = profile_operations(self.graph, self.values(inputs), self.evaluate)
        return self.decode(outputs), costs

    def values(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Weights and inputs by name, as integers."""
        given = check_arrays((*self.graph.role("client"), *self.graph.role("public")), inputs)
        return self.weights | {name: self.encode(array) for name, array in given.items()}

    def decode(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs as floats."""
        return {name: self.number.decode(array) for name, array in outputs.items()}

    def close(self) -> None:
        self.weights = {}


class FixedProgram(Program):
    """A graph whose operations are all known, and whose declared ranges fit the ring."""

    def __init__(self, graph: Graph, number: FixedPoint) -> None:
        self.graph, self.number = graph, number

    def load(self, weights: Arrays, beside: Session | None = None) -> FixedSession:
        return FixedSession(self.graph, self.number, weights_for(self.graph.role("owner"), weights))


class FixedEngine(Engine):
    """Integers mod 2^`ring` (64, 48 or 32) with `fraction_bits` (18, 14, 12 where None), without shares.

    like: the engine whose series stand for exp, division, rsqrt, tanh and erf ("spu"). force: run although declared
    ranges overflow. Raises MPC-501 for a ring, fraction bits or `like` that there are not, MPC-504 without torch.
    """

    name = "fixed"
    protocol = None
    undeclared = "measure"
    reports_ranges = True

    def __init__(
        self, ring: int = 64, fraction_bits: int | None = None, like: str = "spu", force: bool = False
    ) -> None:
        check_like(like)
        self.number = FixedPoint.of(ring, fraction_bits)
        self.ring, self.fraction_bits = ring, self.number.fraction_bits
        self.like, self.force, self.rules = like, force, self.number
        if importlib.util.find_spec("torch") is None:
            what = "it multiplies integer matrices with torch, which is not installed"
            raise MpcifyError(504, "engine fixed", what, "pip install 'mpcify[train]'")

    def compile(self, graph: Graph) -> FixedProgram:
        """Proves that nothing wraps inside declared ranges, if there are any (unless forced).

        Raises MPC-401, MPC-402, and MPC-406 where some operations declare ranges and others do not.
        """
        check_kinds(graph, kinds(Arithmetic(self.number)), self.name)
        if graph.ranges and not self.force:
            refuse_undeclared(graph)
        graph = fit(graph, self.number)
        if not self.force:
            prove(graph, self.number, self.like)
        return FixedProgram(graph, self.number)


def range_report(
    graph: Graph, weights: Arrays, batches: Iterable[Arrays], number: FixedPoint, like: str = "spu"
) -> list[RangeRow]:
    """How close some batches of client inputs come to what a ring holds, from a run in floats beside it.

    One row a quantity of an operation, in the graph's order: its least and largest value over real tokens, the bits of
    headroom, and whether it overflows (`layer` and `where` say on which layer).
    """
    runs = fit_met(graph, number, measure_ranges(graph, weights, batches))
    return check_ranges(runs, runs.ranges, number, like)
