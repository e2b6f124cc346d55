"""The graph in integers, without shares: what a protocol would give, wrap-around included, and much faster.

An engine's rules say in which ring and with how many fraction bits each operation computes, and what it computes there;
products, truncations, comparisons and functions wrap exactly as that engine's do. Only the rounding of a truncation,
which a protocol leaves to chance, goes to the nearest integer. K = 32 runs in int32, K = 64 and 48 in int64.
"""

import importlib.util
import time
from collections.abc import Iterable

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Program, Session
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.interpret import (
    Observe,
    check_arrays,
    check_kinds,
    check_open,
    profile_operations,
    run_operations,
    weights_for,
)
from mpcify.engines.plain import measure_ranges
from mpcify.engines.rules import Functions, Rules
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import RangeRow, headroom, prove, refuse_undeclared
from mpcify.numerics import FixedPoint


class FixedSession(Session):
    """Weights encoded, ready for requests."""

    def __init__(self, graph: Graph, rules: Rules, weights: Arrays) -> None:
        self.graph, self.rules, self.closed = graph, rules, False
        self.numbers = numbers_of(graph, rules)
        self.functions: dict[FixedPoint, Functions] = {
            number: rules.functions(number) for number in {*self.numbers.values()}
        }
        owned = check_arrays(graph.held_by("owner"), weights)
        self.weights = {name: self.encode(array) for name, array in owned.items()}

    def encode(self, array: np.ndarray) -> np.ndarray:
        """A float array as integers of the inputs' type."""
        number = self.rules.number
        return number.encode(array).astype(number.dtype)

    def evaluate(self, operation: Operation, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """What an operation gives for integer arrays of its inputs' shapes, each as whatever made it left it."""
        number = self.numbers[operation.name]
        given = (
            convert(array, self.numbers[name], number) for name, array in zip(operation.inputs, inputs, strict=True)
        )
        return self.functions[number][operation.kind](*given, **operation.attributes)

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

        def seen(operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> None:
            numbers = (self.numbers[name] for name in operation.inputs)
            given = tuple(number.decode(array) for number, array in zip(numbers, inputs, strict=True))
            observe(operation, given, self.numbers[operation.name].decode(output))

        return seen

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        outputs, costs = profile_operations(self.graph, self.values(inputs), self.evaluate)
        return self.decode(outputs), costs

    def values(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Weights and inputs by name, as integers."""
        check_open(self.closed, FixedConfig.name)
        given = check_arrays((*self.graph.held_by("client"), *self.graph.held_by("public")), inputs)
        return self.weights | {name: self.encode(array) for name, array in given.items()}

    def decode(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs as floats."""
        return {name: self.numbers[name].decode(array) for name, array in outputs.items()}

    def close(self) -> None:
        self.weights, self.closed = {}, True


def numbers_of(graph: Graph, rules: Rules) -> dict[str, FixedPoint]:
    """The fixed point of every value: of inputs the rules' own, of each output its operation's."""
    inputs = {item.name: rules.number for item in graph.inputs}
    return inputs | {operation.name: rules.number_of(operation) for operation in graph.operations}


def convert(integers: np.ndarray, before: FixedPoint, after: FixedPoint) -> np.ndarray:
    """The same numbers in another fixed point: fraction bits that are dropped round to the nearest, the rest wraps."""
    if before == after:
        return integers
    finer, wide = after.fraction_bits - before.fraction_bits, integers.astype(np.int64)
    moved = wide << finer if finer >= 0 else before.truncate(wide, -finer)
    return after.wrap(moved).astype(after.dtype)


class FixedProgram(Program):
    """A graph whose operations are all known, and whose declared ranges fit."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self.graph, self.rules = graph, rules

    def load(self, weights: Arrays, beside: Session | None = None) -> FixedSession:
        return FixedSession(self.graph, self.rules, weights_for(self.graph.held_by("owner"), weights))


class FixedEngine(Engine):
    """Integers by the rules of another engine, without shares.

    force: run although declared ranges overflow. Raises MPC-504 without torch.
    """

    undeclared = "measure"
    reports_ranges = True

    def __init__(self, rules: Rules, *, force: bool = False) -> None:
        self.rules: Rules = rules
        self.config = FixedConfig(rules.number.ring, rules.number.fraction_bits, force=force)
        if importlib.util.find_spec("torch") is None:
            what = "it multiplies integer matrices with torch, which is not installed"
            raise MpcifyError(504, "engine fixed", what, "pip install 'mpcify[train]'")

    def compile(self, graph: Graph) -> FixedProgram:
        """Proves that nothing wraps inside declared ranges, if there are any (unless forced).

        Raises MPC-401, MPC-402, and MPC-406 if some operations declare ranges and others do not.
        """
        check_kinds(graph, self.rules.functions(self.rules.number), self.name)
        if graph.ranges and not self.force:
            refuse_undeclared(graph)
        graph = self.rules.fit(graph)
        if not self.force:
            prove(graph, self.rules)
        return FixedProgram(graph, self.rules)


def range_report(graph: Graph, weights: Arrays, batches: Iterable[Arrays], rules: Rules) -> list[RangeRow]:
    """How close some batches of client inputs come to an engine's limits, from a run in floats beside it.

    One row a quantity of an operation, in the graph's order: its least and largest value over real tokens, the bits of
    headroom, and whether it overflows (`layer` and `where` say on which layer).
    """
    runs = rules.fit_measured(graph, measure_ranges(graph, weights, batches))
    return headroom(runs, runs.ranges, rules)
