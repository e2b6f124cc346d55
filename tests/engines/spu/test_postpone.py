"""Truncations that wait: which squares join their product, and that nothing but the last bits changes."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.fixed.engine import FixedProgram
from mpcify.engines.interpret import weights_for
from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.encoding import shareable
from mpcify.engines.spu.postpone import postpone_truncations
from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Encoding, Graph, Input
from mpcify.graph.headroom import headroom
from mpcify.numerics import FixedPoint
from tests.makers import declared

RING_64 = FixedPoint.of(64)
WEIGHTS = {"w": np.ones((3, 2), np.float32), "b": np.zeros(2, np.float32)}


def squared(kind: str = "linear", readers: int = 1, square_is_output: bool = False, columns: int = 2) -> Graph:
    """A square (4 × 3) that one or several products (4 × columns) read."""
    builder = Builder(1, 4)
    x = builder.input("x", "client", (1, 4, 3))
    square = builder.emit("square", "square", (x,))
    given = (builder.weight("w", np.ones((3, columns))), builder.weight("b", np.ones(columns)))
    outputs = [square] if square_is_output else []
    for _ in range(readers):
        if kind == "linear":
            outputs.append(builder.emit("y", "linear", (square, *given)))
        else:
            other = builder.input("v", "client", (1, columns, 3))
            outputs.append(builder.emit("y", "matmul", (square, other), transpose=True))
    return builder.finish(None, outputs)


@pytest.mark.parametrize("kind", ["linear", "matmul"])
def test_a_square_joins_the_one_product_that_reads_it(kind: str) -> None:
    graph = postpone_truncations(squared(kind), RING_64)
    (operation,) = graph.operations
    assert [item.name for item in graph.held_by("owner")] == (["b", "w/raw4"] if kind == "linear" else [])
    assert (operation.kind, operation.name, operation.inputs[0]) == (f"square-{kind}", "y", "x")
    assert operation.shape == squared(kind).operations[-1].shape


def test_a_square_that_others_need_stays() -> None:
    for graph in (squared(readers=2), squared(square_is_output=True)):
        assert postpone_truncations(graph, RING_64).count() == graph.count()


@pytest.mark.parametrize("kind", ["linear", "matmul"])
@pytest.mark.parametrize(("columns", "joined"), [(2, True), (3, False), (4, False)])
def test_a_square_stays_if_its_product_has_no_fewer_elements(kind: str, columns: int, joined: bool) -> None:
    graph = postpone_truncations(squared(kind, columns=columns), RING_64)
    assert (f"square-{kind}" in graph.count()) == joined


def test_a_weight_that_is_not_the_owners_stays_as_it_is() -> None:
    builder = Builder(1, 4)
    x, w, b = (builder.input(name, "client", shape) for name, shape in (("x", (1, 4, 3)), ("w", (3, 2)), ("b", (2,))))
    graph = builder.finish(None, [builder.emit("y", "linear", (builder.emit("square", "square", (x,)), w, b))])
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


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("kind", "quantity", "largest", "room"),
    [
        ("linear", "product", 255.0, 1),
        ("linear", "product", 256.0, 4),  # W/4
        ("linear", "product", 1023.0, 4),
        ("linear", "product", 1024.0, None),
        ("matmul", "value", 255.0, 1),
        ("matmul", "value", 256.0, None),
    ],
)
def test_a_product_takes_the_room_that_it_needs_or_keeps_its_square_truncated(
    kind: str, quantity: str, largest: float, room: int | None, sign: int
) -> None:
    pair = (min(0.0, sign * largest), max(0.0, sign * largest))
    graph = squared(kind).with_ranges({"y": {quantity: pair}, "square": {"value": (0.0, 9.0)}})
    runs = postpone_truncations(graph, RING_64)
    operation = runs.operations[-1]
    assert (operation.kind == f"square-{kind}") == (room is not None)
    if kind == "linear":
        assert operation.attributes.get("room") == room
        assert operation.inputs[1] == ("w" if room is None else f"w/raw{room}")
    assert not any(row.overflow for row in headroom(runs, runs.ranges, SpuRules(RING_64)))
    assert ("square" in runs.ranges) == (room is None)


def test_what_is_measured_beyond_the_room_is_an_overflow() -> None:
    runs = postpone_truncations(squared(), RING_64)
    (row,) = headroom(runs, {"y": {"product": (-1100.0, 1.0)}}, SpuRules(RING_64))
    assert (row.overflow, row.bound) == (True, -1024.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["linear", "matmul"]), st.sampled_from([1, 4]))
def test_a_truncation_that_waits_loses_what_an_early_one_does_and_a_quarter_its_bits(
    seed: int, kind: str, room: int
) -> None:
    declared = {1: 200.0, 4: 1000.0}[room] if kind == "linear" else 200.0
    quantity = {"linear": "product", "matmul": "value"}[kind]
    graph = squared(kind).with_ranges({"y": {quantity: (-declared, declared)}})
    generator = np.random.default_rng(seed)
    inputs = {item.name: generator.standard_normal(item.shape) for item in graph.held_by("client")}
    weights = {item.name: generator.standard_normal(item.shape) for item in graph.held_by("owner")}
    exact, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    assume(np.abs(exact["y"]).max() < 200)
    waiting, _ = FixedConfig(force=True).build().compile(graph).load(weights).run(inputs)
    early, _ = FixedProgram(graph, SpuRules(RING_64)).load(weights).run(inputs)
    size = max(np.abs(value).max() for value in (*inputs.values(), *weights.values()))
    error, before = (np.abs(found["y"] - exact["y"]).max() for found in (waiting, early))
    # an early truncation moves each of three terms by half a step; a quarter of a weight errs by four steps, not by one
    assert error <= before + RING_64.step * (1 + 3 * size / 2 + 3 * (room - 1) * size**2)


@pytest.mark.parametrize("protocol", ["aby3", "semi2k"])
def test_just_below_its_room_a_product_is_right_under_spu(protocol: str) -> None:
    engine = SpuConfig(protocol, trust_first_party=True, force=True).build()
    with engine.compile(squared()).load(WEIGHTS) as session:
        outputs, _ = session.run({"x": np.full((1, 4, 3), 18.4)})
        np.testing.assert_allclose(outputs["y"], 3 * 18.4**2, atol=1e-3)  # 1,016 of 1,024
        program = engine.compile(squared("matmul"))
        for sign in (1, -1):
            given = {"x": np.full((1, 4, 3), 9.1), "v": np.full((1, 2, 3), float(sign))}
            outputs, _ = session.attach(program, {}).run(given)
            np.testing.assert_allclose(outputs["y"], sign * 3 * 9.1**2, atol=1e-3)  # 248 of 256


def test_beyond_its_room_a_product_wraps() -> None:
    with FixedConfig(force=True).build().compile(squared()).load(WEIGHTS) as session:
        outputs, _ = session.run({"x": np.full((1, 4, 3), 28.0)})  # 3 · 28² = 2,352 is past 2¹¹
    assert np.abs(outputs["y"] - 3 * 28.0**2).max() > 1000


def test_weights_are_divided_only_if_a_graph_reads_them_so() -> None:
    weights = {"w": np.full((3, 2), 8.0), "b": np.ones(2), "other": np.ones(3)}
    divided = weights_for(postpone_truncations(squared(), RING_64).held_by("owner"), weights)
    assert divided.keys() == {"w/raw4", "b"}
    np.testing.assert_array_equal(divided["w/raw4"], np.full((3, 2), 2.0))
    assert weights_for(squared().held_by("owner"), weights).keys() == {"w", "b"}
    again = weights_for(postpone_truncations(squared(), RING_64).held_by("owner"), divided)
    np.testing.assert_array_equal(again["w/raw4"], divided["w/raw4"])
    assert not weights_for(squared().held_by("owner"), {}), "a weight that is missing is for the engine to name"


def test_the_engine_refuses_what_the_proof_refuses() -> None:
    graph = declared(squared(), y={"product": (0.0, 2.0**27)})
    with pytest.raises(MpcifyError, match="MPC-402"):
        FixedConfig().build().compile(graph)


def test_the_divided_weight_says_which_weight_it_is_and_by_what_it_is_divided() -> None:
    graph = postpone_truncations(squared(), RING_64)
    (item,) = (item for item in graph.inputs if item.encoding is not None)
    assert item == Input("w/raw4", "owner", (3, 2), Encoding("w", 4))
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    assert all("encoding" not in item for item in squared().to_json()["inputs"])


def test_a_name_alone_says_nothing() -> None:
    plain = Input("w/raw4", "owner", (3, 2))
    assert not weights_for([plain], {"w": np.ones((3, 2))})
    renamed = Input("halved", "owner", (3, 2), Encoding("w", 2))
    np.testing.assert_array_equal(weights_for([renamed], {"w": np.ones((3, 2))})["halved"], np.full((3, 2), 0.5))
    assert shareable(plain, {"w/raw4": np.ones((3, 2))}, RING_64)["w/raw4"].dtype == np.float32
    assert shareable(renamed, {"w": np.ones((3, 2))}, RING_64)["halved"].dtype == np.int32
