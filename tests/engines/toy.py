"""An engine that a test brings: floats, noise on every product, rules and a setting of its own."""

import time
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mpcify.engines.config import EngineConfig, setting
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Program, Session
from mpcify.engines.interpret import check_arrays, check_kinds, check_open, profile_operations, run_operations
from mpcify.engines.plain import PLAIN, evaluate_operation
from mpcify.engines.rules import Rules, Work
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import prove
from mpcify.numerics import FixedPoint

LIMIT = 1e6
PRODUCTS = ("linear", "matmul", "mul", "square")


class ToyRules(Rules):
    """Nothing may grow beyond a million, and a product costs its multiplications."""

    number = FixedPoint(64, 18)

    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        return -LIMIT, LIMIT

    def work(self, graph: Graph) -> dict[str, Work]:
        shapes = graph.shapes()
        inner = {operation.name: shapes[operation.inputs[0]][-1] for operation in graph.operations}
        return {
            operation.name: Work(multiplications=float(np.prod(operation.shape)) * inner[operation.name])
            for operation in graph.operations
        }


@dataclass(frozen=True)
class ToyConfig(EngineConfig):
    """noise: the standard deviation of what is added to each element of a product."""

    name = "toy"

    noise: float = setting(0.0, "toy: noise on every product. Default: 0.", "SIGMA")

    def rules(self) -> ToyRules:
        return ToyRules()

    def build(self) -> "ToyEngine":
        return ToyEngine(self)

    def for_made_up_numbers(self) -> Self:
        return replace(self, force=True)


class ToyEngine(Engine):
    """Floats with noise."""

    undeclared = "run"
    reports_ranges = True

    def __init__(self, config: ToyConfig) -> None:
        self.config: ToyConfig = config
        self.rules: Rules = config.rules()

    def compile(self, graph: Graph) -> "ToyProgram":
        check_kinds(graph, PLAIN, self.name)
        if not self.force:
            prove(graph, self.rules)
        return ToyProgram(graph, self.config.noise)


class ToyProgram(Program):
    """A graph, and how much noise it gets."""

    def __init__(self, graph: Graph, noise: float) -> None:
        self.graph, self.noise = graph, noise

    def load(self, weights: Arrays, beside: Session | None = None) -> "ToySession":
        return ToySession(self.graph, weights, self.noise)


class ToySession(Session):
    """Weights, and where the noise comes from."""

    def __init__(self, graph: Graph, weights: Arrays, noise: float) -> None:
        self.graph, self.noise, self.closed = graph, noise, False
        self.weights = check_arrays(graph.held_by("owner"), weights)
        self.generator = np.random.default_rng(0)

    @property
    def setup(self) -> Cost:
        return Cost()

    def evaluate(self, operation: Operation, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        output = evaluate_operation(operation, inputs)
        if operation.kind not in PRODUCTS:
            return output
        return output + self.noise * self.generator.standard_normal(output.shape)

    def values(self, inputs: Arrays) -> dict[str, np.ndarray]:
        check_open(self.closed, "toy")
        given = check_arrays((*self.graph.held_by("client"), *self.graph.held_by("public")), inputs)
        return {name: array.astype(np.float64) for name, array in {**self.weights, **given}.items()}

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            outputs = run_operations(self.graph, self.values(inputs), self.evaluate)
        return outputs, Cost(seconds=time.perf_counter() - start)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        return profile_operations(self.graph, self.values(inputs), self.evaluate)

    def close(self) -> None:
        self.closed = True
