"""SPU against floats, kind by kind, and what each kind costs."""

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mpcify.engines.cost import Cost
from mpcify.engines.plain import evaluate_operation
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.engine import SpuSession
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Input
from mpcify.graph.kinds import COMPOSITES, KINDS

generator = np.random.default_rng(0)
STEP = 2.0**-18
SHARE = 16  # bytes of an element's share in ring 2^64 under ABY3: two ring elements
FRAMING = 64  # bytes, at most, around a share (its type and shape)

Case = tuple[tuple[np.ndarray, ...], dict[str, Any], float]


def normal(*shape: int) -> np.ndarray:
    """Standard normal numbers."""
    return generator.standard_normal(shape)


def between(low: float, high: float, *shape: int) -> np.ndarray:
    """Uniform numbers."""
    return generator.uniform(low, high, shape)


# kind: inputs, attributes, and the largest error. An input errs by a step (2^-18), a truncation by another; a product
# of two inputs by a step times their size, a dot by as much a term, at random. Functions err by what SPU's series do.
CASES: dict[str, Case] = {
    "linear": ((normal(2, 16, 24), normal(24, 12), normal(12)), {}, 24 * 2 * STEP),
    "matmul": ((normal(2, 3, 8, 6), normal(2, 3, 8, 6)), {"transpose": True}, 6 * 4 * STEP),
    "mul": ((normal(2, 16, 8), normal(2, 16, 1)), {}, 6 * STEP),
    "square": ((between(-8, 8, 64, 16),), {}, 18 * STEP),
    "scale": ((normal(64, 16),), {"by": 0.375}, 2 * STEP),
    # a square of numbers below 4 that err by a step, times a number: 24 terms of a step times 2·4·3 at random; 4w
    "square-linear": ((between(-4, 4, 2, 16, 24), normal(24, 12), normal(12)), {"room": 4}, 4 * 24 * 8 * STEP),
    "square-matmul": ((between(-4, 4, 2, 3, 8, 6), normal(2, 3, 8, 6)), {"transpose": True}, 6 * 24 * STEP),
    "add": ((normal(4, 8), normal(1, 8)), {}, 2 * STEP),
    "sub": ((normal(4, 8), normal(4, 1)), {}, 2 * STEP),
    "shift": ((normal(4, 8),), {"by": -3.5}, STEP),
    "sum": ((normal(4, 8),), {"axis": 1}, 8 * STEP),
    "reshape": ((normal(4, 8),), {"shape": (2, 16)}, STEP),
    "transpose": ((normal(2, 3, 4),), {"axes": (2, 0, 1)}, STEP),
    "slice": ((normal(2, 9, 4),), {"axis": 1, "start": 3, "stop": 5}, STEP),
    "concat": ((normal(2, 3), normal(2, 4), normal(2, 1)), {"axis": 1}, STEP),
    "broadcast": ((normal(2, 1, 3),), {"shape": (2, 4, 3)}, STEP),
    "max": ((normal(16, 8),), {"axis": 1}, STEP),
    "relu": ((normal(1024),), {}, STEP),
    "exp": ((between(-20, 0, 1024),), {"t": 8}, 2e-3),  # (1 + x/256)^256
    "reciprocal": ((np.exp(between(-4, 4, 1024)),), {}, 2e-2),  # 2e-4 of the largest, 1/e^-4
    "tanh": ((between(-8, 8, 1024),), {}, 6e-3),
    "gelu": ((between(-8, 8, 1024),), {}, 1e-3),
    "gelu-tanh": ((between(-8, 8, 1024),), {}, 1.3e-2),
    "gelu-erfc": ((between(-8, 8, 1024),), {}, 5e-3),
    "softmax": ((between(-3, 3, 8, 16),), {"axis": 1}, 5e-3),
    "gelu-poly": ((between(-8, 8, 1024),), {}, 3e-3),  # a sixth power times a coefficient of 474 steps
    "layernorm": ((between(-12, 12, 32, 48) + 1, normal(48), normal(48)), {"eps": 1e-12}, 2e-3),
}


def graph_of(kind: str, case: Case, roles: str = "client") -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one operation, and its inputs."""
    builder = Builder(1, 1)
    arrays = {f"{kind}.{index}": array for index, array in enumerate(case[0])}
    names = [builder.input(name, roles, array.shape) for name, array in arrays.items()]  # type: ignore[arg-type]
    return builder.finish(None, [builder.emit("y", kind, names, **case[1])]), arrays


def shared(graph: Graph) -> int:
    """The bytes of the shares that a client sends and gets."""
    elements = sum(math.prod(item.shape) for item in (*graph.inputs, graph.operations[-1]))
    return 2 * SHARE * elements


@pytest.fixture(scope="module")
def aby3() -> Iterator[SpuSession]:
    """A session to which the tests attach their graphs, so that SPU starts once."""
    with SpuConfig(force=True).build().compile(graph_of("add", CASES["add"])[0]).load({}) as session:
        yield session


def run(session: SpuSession, graph: Graph, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, Cost]:
    """The first output of a graph under ABY3, and the cost."""
    outputs, cost = session.attach(SpuConfig(force=True).build().compile(graph), {}).run(inputs)
    return outputs[graph.outputs[0]], cost


def test_every_kind_has_a_case() -> None:
    assert CASES.keys() == KINDS.keys() - set(COMPOSITES)


def test_every_kind_is_computed() -> None:
    script = """
from mpcify.engines.spu.lowering import functions
from mpcify.numerics import FixedPoint
print(*functions(FixedPoint(64, 18), 2.0**-18), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # torch is here
    assert set(done.stdout.splitlines()) == CASES.keys()


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_equals_floats(aby3: SpuSession, kind: str) -> None:
    graph, inputs = graph_of(kind, CASES[kind])
    output, _ = run(aby3, graph, inputs)
    expected = evaluate_operation(graph.operations[0], CASES[kind][0])
    assert output.shape == graph.operations[0].shape == expected.shape
    np.testing.assert_allclose(output, expected, rtol=0, atol=CASES[kind][2])


def test_a_layernorm_near_the_limit_of_its_sum_of_squares(aby3: SpuSession) -> None:
    width, variance = 768, 85_000.0  # 2^26 / 768 is 87,381
    signs = np.where(np.arange(width) % 2, 1.0, -1.0)
    case = (np.tile(signs * math.sqrt(variance), (2, 1)), np.ones(width), np.zeros(width))
    graph, inputs = graph_of("layernorm", (case, {"eps": 1e-12}, 0.0))
    output, _ = run(aby3, graph, inputs)
    # rsqrt of so large a variance has 2^-18 / 0.0034 of itself as a step: 1e-3; the series errs by as much
    np.testing.assert_allclose(output, np.tile(signs, (2, 1)), atol=5e-3)


# What each kind costs an output element, over all parties: a product 24 bytes, a truncation 28; the rest is SPU's own.
@pytest.mark.parametrize(
    "kind, size",
    [
        ("reshape", 0),
        ("sum", 0),
        ("add", 0),
        ("scale", 28),
        ("mul", 52),
        ("square", 52),
        ("linear", 52),
        ("matmul", 52),
        ("relu", 172),
        ("exp", 444),
        ("reciprocal", 1336),
        ("gelu", 1944 + 52 + 2 * 28),  # erf, a product, two constants; with erfc it would be above 5000
    ],
)
def test_bytes_are_those_of_the_protocol(aby3: SpuSession, kind: str, size: int) -> None:
    graph, inputs = graph_of(kind, CASES[kind])
    output, cost = run(aby3, graph, inputs)
    framing = 2 * FRAMING * (len(inputs) + 1)
    assert 0 <= cost.bytes - shared(graph) - size * output.size <= framing
    assert cost.bytes == sum(cost.bytes_per_party.values())
    assert list(cost.bytes_per_party) == ["client", "owner", "helper"]


def test_rounds_are_the_messages_of_the_busiest_party(aby3: SpuSession) -> None:
    _, free = run(aby3, *graph_of("add", CASES["add"]))
    _, product = run(aby3, *graph_of("square", CASES["square"]))
    assert free.rounds == 4  # the client sends two inputs to two peers
    assert 4 <= product.rounds <= 2 + 3  # one input, and three messages of a product and its truncation


def test_a_division_by_a_row_sum_costs_one_reciprocal_a_row(aby3: SpuSession) -> None:
    builder = Builder(1, 1)
    x = builder.input("x", "client", (32, 64))
    inverse = builder.emit("inverse", "reciprocal", [builder.emit("total", "sum", [x], axis=1)])
    graph = builder.finish(None, [builder.emit("y", "mul", [x, inverse])])
    values = between(0.5, 1, 32, 64)
    output, cost = run(aby3, graph, {"x": values})
    assert cost.bytes - shared(graph) < 52 * output.size + 1336 * 32 + 4 * FRAMING
    np.testing.assert_allclose(output, values / values.sum(1, keepdims=True), atol=1e-4)


def test_a_public_input_is_not_shared(aby3: SpuSession) -> None:
    builder = Builder(1, 1)
    names = [builder.input("x", "client", (32, 8)), builder.input("known", "public", (32, 8))]
    graph = builder.finish(None, [builder.emit("y", "mul", names)])
    values = {"x": normal(32, 8), "known": normal(32, 8)}
    output, cost = run(aby3, graph, values)
    np.testing.assert_allclose(output, values["x"] * values["known"], atol=6 * STEP)
    assert cost.bytes <= (4 * SHARE + 28) * output.size + 4 * FRAMING  # a product with a public factor is local


def test_inputs_that_nothing_reads_do_not_disturb(aby3: SpuSession) -> None:
    graph, inputs = graph_of("square", CASES["square"])
    unused = replace(graph, inputs=(Input("idle", "client", (3,)), *graph.inputs))
    output, _ = run(aby3, unused, {"idle": np.zeros(3), **inputs})
    np.testing.assert_allclose(output, CASES["square"][0][0] ** 2, atol=18 * STEP)
