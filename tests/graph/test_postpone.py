"""Truncations that wait: which squares join their product, and that nothing but the last bits changes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpcify.engines.fixed import FixedEngine
from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.postpone import divide_weights, postpone_truncations
from mpcify.graph.ranges import check_ranges
from mpcify.numerics import FixedPoint

RING_64 = FixedPoint.of(64)


def squared(kind: str = "linear", readers: int = 1, square_is_output: bool = False) -> Graph:
    """A square that one or several products read."""
    builder = Builder(1, 4)
    x = builder.input("x", "client", (1, 4, 3))
    square = builder.emit("square", "square", (x,))
    given = (builder.weight("w", np.ones((3, 2))), builder.weight("b", np.ones(2)))
    outputs = [square] if square_is_output else []
    for _ in range(readers):
        if kind == "linear":
            outputs.append(builder.emit("y", "linear", (square, *given)))
        else:
            other = builder.input("v", "client", (1, 4, 3))
            outputs.append(builder.emit("y", "matmul", (square, other), transpose=True))
    return builder.finish(None, outputs)


@pytest.mark.parametrize("kind", ["linear", "matmul"])
def test_a_square_joins_the_one_product_that_reads_it(kind: str) -> None:
    graph = postpone_truncations(squared(kind), RING_64)
    (operation,) = graph.operations
    assert [item.name for item in graph.role("owner")] == (["b", "w/4"] if kind == "linear" else [])
    assert (operation.kind, operation.name, operation.inputs[0]) == (f"square-{kind}", "y", "x")
    assert operation.shape == squared(kind).operations[-1].shape


def test_a_square_that_others_need_stays() -> None:
    for graph in (squared(readers=2), squared(square_is_output=True)):
        assert postpone_truncations(graph, RING_64).count() == graph.count()


def test_a_square_as_second_factor_stays() -> None:
    builder = Builder(1, 4)
    x, y = (builder.input(name, "client", (1, 4, 3)) for name in "xy")
    square = builder.emit("square", "square", (x,))
    second = builder.emit("second", "matmul", (y, square), transpose=True)
    both = builder.emit("both", "matmul", (builder.emit("other", "square", (y,)), "other"), transpose=True)
    graph = builder.finish(None, [second, both])
    assert postpone_truncations(graph, RING_64).count() == {"matmul": 2, "square": 2}


@pytest.mark.parametrize(
    ("number", "joined"),
    [
        (RING_64, True),
        (FixedPoint(64, 16), True),
        (FixedPoint(64, 19), False),  # 57 of 62 bits
        (FixedPoint.of(48), False),
        (FixedPoint.of(32), False),
    ],
)
def test_only_a_ring_with_room_for_3f_bits_postpones(number: FixedPoint, joined: bool) -> None:
    assert ("square-linear" in postpone_truncations(squared(), number).count()) == joined


@pytest.mark.parametrize(("kind", "quantity", "room"), [("linear", "product", 1024), ("matmul", "value", 256)])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_product_that_needs_the_room_keeps_its_square_truncated(
    kind: str, quantity: str, room: float, joined: bool, sign: int
) -> None:
    largest = room - joined
    pair = (min(0.0, sign * largest), max(0.0, sign * largest))
    graph = squared(kind).with_ranges({"y": {quantity: pair}, "square": {"value": (0.0, 9.0)}})
    runs = postpone_truncations(graph, RING_64)
    assert (f"square-{kind}" in runs.count()) == joined
    assert not any(row.overflow for row in check_ranges(runs, runs.ranges, RING_64))
    assert ("square" in runs.ranges) != joined


def test_what_is_met_beyond_the_room_is_an_overflow() -> None:
    runs = postpone_truncations(squared(), RING_64)
    (row,) = check_ranges(runs, {"y": {"product": (-1100.0, 1.0)}}, RING_64)
    assert (row.overflow, row.bound) == (True, -1024.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["linear", "matmul"]), st.floats(0.1, 4.0))
def test_a_waiting_truncation_loses_less_than_an_early_one(seed: int, kind: str, spread: float) -> None:
    graph = squared(kind)
    generator = np.random.default_rng(seed)
    inputs = {item.name: np.float32(spread * generator.standard_normal(item.shape)) for item in graph.role("client")}
    weights = {"w": np.float32(generator.standard_normal((3, 2))), "b": np.float32(generator.standard_normal(2))}
    weights = {item.name: weights[item.name] for item in graph.role("owner")}
    exact, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    assume(np.abs(exact["y"]).max() < RING_64.postponed_bound)
    found, _ = FixedEngine().compile(graph).load(weights).run(inputs)
    # an input and a weight err by a step, a sum of three products by that times their sizes; then two truncations
    size = max(np.abs(value).max() for value in (*inputs.values(), *weights.values()))
    # (a weight is held as a quarter: its steps are four times as wide)
    assert np.abs(found["y"] - exact["y"]).max() <= RING_64.step * (2 + 3 * (2 * size**2 + 4 * size**2))


def test_just_below_the_room_a_product_is_right_and_beyond_it_wraps() -> None:
    graph = squared()
    weights = {"w": np.full((3, 2), 1.0, np.float32), "b": np.zeros(2, np.float32)}
    with FixedEngine(force=True).compile(graph).load(weights) as session:
        for value, right in ((18.4, True), (28.0, False)):  # 3 · 18.4² is 1,016; 3 · 28² = 2,352 is past 2¹¹
            outputs, _ = session.run({"x": np.full((1, 4, 3), value)})
            assert bool(np.allclose(outputs["y"], 3 * value**2, atol=1e-3)) == right


def test_weights_are_divided_only_where_a_graph_reads_them_so() -> None:
    weights = {"w": np.full((3, 2), 8.0), "b": np.ones(2), "other": np.ones(3)}
    divided = divide_weights(postpone_truncations(squared(), RING_64), weights)
    assert divided.keys() == {"w/4", "b"}
    np.testing.assert_array_equal(divided["w/4"], np.full((3, 2), 2.0))
    assert divide_weights(squared(), weights).keys() == {"w", "b"}
    assert not divide_weights(squared(), {}), "a weight that is missing is for the engine to name"


def test_the_engine_refuses_what_the_proof_refuses() -> None:
    graph = squared().with_ranges({"y": {"product": (0.0, 2.0**27)}})
    with pytest.raises(MpcifyError, match="MPC-402"):
        FixedEngine().compile(graph)
