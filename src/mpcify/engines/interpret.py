"""Walking a graph: its arrays are checked, its operations run in order, watched or timed."""

import time
from collections.abc import Callable, Container, Iterable, Mapping

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Input, Operation
from mpcify.graph.kinds import COMPOSITES

Observe = Callable[[Operation, tuple[np.ndarray, ...], np.ndarray], None]
Evaluate = Callable[[Operation, tuple[np.ndarray, ...]], np.ndarray]


def check_kinds(graph: Graph, table: Container[str], engine: str) -> None:
    """Raises MPC-401 for an operation of a kind that is not in the table."""
    for operation in graph.operations:
        if operation.kind not in table:
            what = f"the {engine} engine has no operation {operation.kind!r}"
            remedy = "lower the graph's composites before compiling it"
            if operation.kind not in COMPOSITES:
                remedy = "use --engine plain, or a recipe without it"
            raise MpcifyError(401, operation.where, what, remedy)


def check_arrays(wanted: Iterable[Input], arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the wanted inputs, in their order. Raises MPC-503 if one is missing or has another shape."""
    chosen = {}
    for item in wanted:
        if item.name not in arrays or np.shape(arrays[item.name]) != item.shape:
            what = f"shape {np.shape(arrays[item.name])}" if item.name in arrays else "nothing"
            raise MpcifyError(
                503,
                f"{item.holder} input {item.name}",
                f"{what} given, shape {item.shape} needed",
                "give what the graph asks for",
            )
        chosen[item.name] = np.asarray(arrays[item.name])
    return chosen


def check_open(closed: bool, engine: str) -> None:
    """Raises MPC-503 for a session that is closed."""
    if closed:
        raise MpcifyError(503, f"{engine} engine", "its session has ended", "compile the model again")


def run_operations(
    graph: Graph, values: dict[str, np.ndarray], evaluate: Evaluate, observe: Observe | None = None
) -> dict[str, np.ndarray]:
    """Runs operations in order from the inputs' values; drops each value after its last use. Gives the outputs."""
    last = {name: operation.name for operation in graph.operations for name in operation.inputs}
    values = dict(values)
    for operation in graph.operations:
        inputs = tuple(values[name] for name in operation.inputs)
        output = values[operation.name] = evaluate(operation, inputs)
        if observe is not None:
            observe(operation, inputs, output)
        for name in dict.fromkeys(operation.inputs):
            if last[name] == operation.name and name not in graph.outputs:
                del values[name]
    return {name: values[name] for name in graph.outputs}


def profile_operations(
    graph: Graph, values: dict[str, np.ndarray], evaluate: Evaluate
) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
    """Runs operations in order; the outputs, and how long each took."""
    costs: dict[str, Cost] = {}

    def timed(operation: Operation, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        start = time.perf_counter()
        output = evaluate(operation, inputs)
        costs[operation.name] = Cost(seconds=time.perf_counter() - start)
        return output

    return run_operations(graph, values, timed), costs


def weights_for(wanted: Iterable[Input], weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The wanted weights by their names, one with an encoding as W/room: in numbers, to be encoded by the engine."""
    found = {}
    for item in wanted:
        if item.name in weights:
            found[item.name] = weights[item.name]
        elif item.encoding is not None and item.encoding.of in weights:
            found[item.name] = weights[item.encoding.of] / item.encoding.room
    return found
