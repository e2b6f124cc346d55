"""Ranges: what is measured, what is declared, and what is proven to fit a ring."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import RangeRow, headroom, refuse
from mpcify.graph.ranges import RangeRecorder, declare, merge, outside, rounded
from mpcify.numerics import FixedPoint

RING_64, RING_48, RING_32 = (FixedPoint.of(ring) for ring in (64, 48, 32))
ROWS = {"tokens": (2, 4, 3), "heads": (2, 3, 4, 5), "scores": (2, 3, 4, 4), "all": (2, 7)}


def one(
    kind: str, rows: Any = "all", shape: tuple[int, ...] = (2, 4, 3), masked: bool = False, **attributes: Any
) -> Graph:
    """A graph of two requests of four tokens, with one operation `x` in layer 3."""
    builder = Builder(2, 4)
    inputs = tuple(
        builder.input(name, "client", shape) for name in "abc"[: 3 if kind in ("linear", "layernorm") else 1]
    )
    inputs += (builder.input("mask", "client", (2, 4, 1)),) if masked else ()
    builder.operations["x"] = Operation("x", kind, inputs, shape, attributes, 3, "attention", rows)
    return Graph(tuple(builder.inputs.values()), tuple(builder.operations.values()), ("x",), 2, 4)


def record(
    graph: Graph, inputs: dict[str, np.ndarray], operands: tuple[np.ndarray, ...], output: np.ndarray
) -> RangeRecorder:
    """A recorder that has seen the graph's one operation."""
    recorder = RangeRecorder(graph, inputs)
    recorder(graph.operations[0], operands, output)
    return recorder


def range_rows(
    kind: str, number: FixedPoint, masked: bool = False, attributes: Any = None, **ranges: tuple[float, float]
) -> list[RangeRow]:
    """What is said of one operation with these ranges."""
    return headroom(one(kind, masked=masked, **(attributes or {})), {"x": ranges}, SpuRules(number))


@pytest.mark.parametrize("name", ["mask", "share"])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_of_padding_do_not_count(name: str, rows: str) -> None:
    # request 0 has three real tokens, request 1 has one; 1000 stands wherever a padded token has a part
    real = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], float)
    output = np.random.default_rng(0).uniform(-1, 1, ROWS[rows])
    padded = {
        "tokens": ~real.astype(bool)[:, :, None],
        "heads": ~real.astype(bool)[:, None, :, None],
        "scores": ~(real[:, None, :, None] * real[:, None, None, :]).astype(bool),
        "all": np.zeros((2, 1), bool),
    }[rows]
    output = np.where(padded, 1000.0, output)
    recorder = record(one("add", rows, ROWS[rows]), {name: real[:, :, None] * (16 / 3)}, (output,), output)
    kept = output[output < 1000]
    assert recorder.ranges == {"x": {"value": (kept.min(), kept.max())}}
    first = output[0][output[0] < 1000]
    assert recorder.requests[0] == {"x": {"value": (first.min(), first.max())}}


def test_a_row_maximum_counts_for_real_queries_whatever_the_number_of_keys_left() -> None:
    real = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], float)[:, :, None]
    output = np.ones((2, 3, 4, 1))
    output[0, :, 2:] = 1000
    assert record(one("max", "scores", output.shape, axis=3), {"mask": real}, (output,), output).ranges["x"][
        "value"
    ] == (1, 1)


def test_without_a_mask_every_row_is_real() -> None:
    output = np.arange(24.0).reshape(2, 4, 3)
    assert record(one("add", "tokens"), {}, (output,), output).ranges == {"x": {"value": (0, 23)}}


def test_a_value_without_a_batch_belongs_to_every_request() -> None:
    output = np.arange(3.0)
    recorder = record(one("add", shape=(3,)), {}, (output,), output)
    assert recorder.requests[0] == recorder.requests[1] == {"x": {"value": (0, 2)}}


@pytest.mark.parametrize("kind", ["exp", "reciprocal", "gelu", "gelu-tanh", "gelu-poly"])
def test_functions_record_their_input(kind: str) -> None:
    x = np.linspace(1, 2, 24).reshape(2, 4, 3)
    assert record(one(kind), {}, (x,), x * 10).ranges["x"] == {"value": (10, 20), "input": (1, 2)}


def test_a_linear_layer_records_its_product_without_the_bias() -> None:
    # the ring truncates 70, and only then adds -60
    x, bias = np.full((2, 4, 3), 10.0), np.full(3, -60.0)
    assert record(one("linear"), {}, (x, x, bias), x).ranges["x"] == {"value": (10, 10), "product": (70, 70)}


def test_layernorm_records_its_variance_and_every_product_inside() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 3)) * 5 + 1
    g, b = np.array([3.0, -2.0, 0.1]), np.array([100.0, 0.0, 0.0])
    deviation = x - x.mean(-1, keepdims=True)
    normal = deviation / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    found = record(one("layernorm", eps=1e-5), {}, (x, g, b), normal * g + b).ranges["x"]
    assert found["variance"] == pytest.approx((x.var(-1).min(), x.var(-1).max()))
    products = [x.mean(-1), deviation**2, normal, normal * g]
    assert found["product"] == pytest.approx((min(p.min() for p in products), max(p.max() for p in products)))


def power(times: int, name: str = "g") -> Graph:
    """(S/2ᵗ + 1)·g squared `times` times, for one head; S/2ᵗ·g is the client's."""
    builder = Builder(2, 4)
    scores, g = builder.input("scores", "client", (2, 1, 4, 4)), builder.weight(name, np.full((1, 1, 1), 0.5))
    name = builder.emit("shifted", "add", (scores, g))
    for _ in range(times):
        name = builder.emit("square", "square", (name,))
    return builder.finish(None, [name])


def test_where_exp_t_begins_its_exponent_is_recorded() -> None:
    scores = np.zeros((2, 1, 4, 4))
    scores[0, 0, 1, 2] = -0.75  # S/2ᵗ = −1.5, times g = 0.5
    plain, exponent = {"value": (-0.25, 0.5)}, {"value": (-0.25, 0.5), "exponent": (-1.5, 0)}
    for times, name, expected in ((6, "g", exponent), (1, "g", plain), (1, "attention.unit", exponent)):
        graph = power(times, name)
        recorder = RangeRecorder(graph, {})
        recorder(graph.operations[0], (scores, np.full((1, 1, 1), 0.5)), scores + 0.5)
        assert recorder.ranges["shifted"] == expected, "one square is 2quad's, unless g is exp_t's"


def test_scores_below_where_exp_t_rises_again_are_refused() -> None:
    graph = power(6)
    assert declare(graph, {"shifted": {"exponent": (-0.5, 0.5)}})["shifted"]["exponent"] == (-1, 1)
    assert not headroom(graph, {"shifted": {"exponent": (-1.9, 0.5)}}, SpuRules(RING_64))[0].overflow
    assert headroom(graph, {"shifted": {"exponent": (-2.0, 0.5)}}, SpuRules(RING_64))[0].overflow


def test_merging_keeps_the_least_and_the_largest() -> None:
    a = {"x": {"value": (-1.0, 2.0)}, "y": {"value": (0.0, 1.0)}}
    b = {"x": {"value": (0.0, 3.0), "input": (5.0, 6.0)}, "z": {"value": (7.0, 8.0)}}
    expected = {"x": {"value": (-1, 3), "input": (5, 6)}, "y": {"value": (0, 1)}, "z": {"value": (7, 8)}}
    assert merge(a, b) == merge(b, a) == expected
    assert a["x"] == {"value": (-1, 2)}, "merging changes neither"


def test_declared_ranges_have_margins() -> None:
    measured = {"x": {"value": (-3.0, 2.0), "variance": (0.5, 80.0), "product": (-1.0, 9.0), "input": (2.0, 4.0)}}
    assert declare(one("linear"), measured)["x"]["product"] == (-4, 2**5.25), "36 and its quarter octave"
    declared = declare(one("layernorm", eps=0.0), measured)["x"]
    assert declared["variance"] == (0.0625, 2**9.5), "80 · 8 is 640"
    assert declared["product"] == (-8, 2**6.25), "72"
    assert (declared["value"], declared["input"]) == ((-(2**3.75), 8), (0.5, 16)), "-12"


def test_a_negative_largest_value_comes_nearer_to_zero() -> None:
    measured = {"x": {"value": (-8.0, -4.0)}}
    assert declare(one("linear"), measured)["x"]["value"] == (-32, -1)


@example(1.175494351e-38)  # above a power of two by less than a logarithm tells
@given(st.floats(-1e300, 1e300).filter(lambda value: value == 0 or abs(value) > 1e-300))
def test_ranges_are_rounded_outwards_to_quarter_octaves_once(value: float) -> None:
    ((least, largest),) = rounded({"x": {"value": (value, value)}})["x"].values()
    assert least <= value <= largest
    assert value == 0 or max(abs(least / value), abs(value / least), abs(largest / value)) < 2**0.2501
    quarters = [4 * math.log2(abs(end)) for end in (least, largest) if end]
    assert quarters == pytest.approx([round(quarter) for quarter in quarters], abs=1e-9)
    assert rounded({"x": {"value": (least, largest)}}) == {"x": {"value": (least, largest)}}


def test_what_is_not_finite_is_not_rounded() -> None:
    assert rounded({"x": {"value": (-math.inf, math.inf)}}) == {"x": {"value": (-math.inf, math.inf)}}
    assert math.isnan(rounded({"x": {"value": (math.nan, 1.0)}})["x"]["value"][0])


def test_a_declared_row_maximum_may_fall_by_a_few_units() -> None:
    assert declare(one("max", axis=2), {"x": {"value": (0.0, 4.0)}}) == {"x": {"value": (-8, 16)}}


def test_what_leaves_its_declared_range_is_listed() -> None:
    declared = {"x": {"value": (-1.0, 1.0), "input": (0.0, 9.0)}, "y": {"value": (0.0, 1.0)}}
    measured = {
        "x": {"value": (-1.0, 1.5), "input": (1.0, 9.0)},
        "y": {"value": (-0.1, 0.5)},
        "z": {"value": (0.0, 9e9)},
    }
    assert outside(measured, declared) == [("x", "value"), ("y", "value")]
    assert outside({"x": {"value": (math.nan, math.nan)}}, declared) == [("x", "value")]
    assert outside(declared, declared) == []


@pytest.mark.parametrize("kind", ["matmul", "mul", "square", "scale", "exp", "reciprocal"])
@pytest.mark.parametrize("number", [RING_64, RING_48, RING_32])
def test_products_stay_below_the_product_bound(kind: str, number: FixedPoint) -> None:
    bound = number.product_bound
    names = {"matmul": {"transpose": False}, "scale": {"by": 1.0}, "exp": {"t": 8}}.get(kind, {})
    (fits,) = range_rows(kind, number, attributes=names, value=(-0.5 * bound, 0.25 * bound))
    assert (fits.overflow, fits.bound, fits.headroom_bits) == (False, -bound, 1)
    (full,) = range_rows(kind, number, attributes=names, value=(0, bound))
    assert (full.overflow, full.bound, full.headroom_bits) == (True, bound, 0)


@pytest.mark.parametrize("kind", ["add", "sum", "relu", "linear", "layernorm"])
def test_other_values_stay_below_the_value_bound(kind: str) -> None:
    names = {"sum": {"axis": 1}, "layernorm": {"eps": 0.0}}.get(kind, {})
    (fits,) = range_rows(kind, RING_32, attributes=names, value=(-(2.0**17), 0))
    (full,) = range_rows(kind, RING_32, attributes=names, value=(-(2.0**18), 0))
    assert (fits.overflow, full.overflow) == (False, True)


LIMITS = [  # kind, quantity, a range that is right, ranges that are not; at f = 18 in the ring 2^64
    ("layernorm", "variance", (1e-3, 9e4), [(1.1e-4, 1.0), (1.0, 140_000.0), (0.0, 1.0)]),
    ("layernorm", "product", (-(2.0**25), 2.0**25), [(0.0, 2.0**26)]),
    ("linear", "product", (-(2.0**25), 2.0**25), [(-(2.0**26), 0.0)]),
    ("reciprocal", "input", (1e-3, 1e5), [(9e-5, 1.0), (1.0, 2.0**17), (-1.0, 1.0)]),
    ("exp", "input", (-499.0, 3.9), [(-500.0, 0.0), (-1.0, 4.0)]),  # a step at -499.8; 3 % too small at 3.9
    ("gelu", "input", (-(2.0**25), 2.0**25), [(-(2.0**26), 0.0)]),
    ("gelu-tanh", "input", (-400.0, 400.0), [(0.0, 407.0), (-407.0, 0.0)]),  # 407³ is past 2^26
    ("gelu-poly", "input", (-1e9, 1e9), [(0.0, 2.0**44)]),
]


@pytest.mark.parametrize(("kind", "quantity", "right", "wrong"), LIMITS)
def test_functions_are_right_within_limits_of_their_own(
    kind: str, quantity: str, right: tuple[float, float], wrong: list[tuple[float, float]]
) -> None:
    names = {"layernorm": {"eps": 0.0}, "exp": {"t": 8}}.get(kind, {})
    assert not range_rows(kind, RING_64, attributes=names, **{quantity: right})[0].overflow
    assert all(range_rows(kind, RING_64, attributes=names, **{quantity: range_})[0].overflow for range_ in wrong)


@pytest.mark.parametrize(
    ("number", "largest"),
    [
        (RING_64, 2.0**26 / 768),  # a row's squares are summed before they are truncated
        (FixedPoint(64, 20), 2.0**17),  # they are not, and rsqrt ends there
        (FixedPoint.of(48), 2.0**13),
    ],
)
def test_a_rows_squares_fit_together_if_their_sum_is_truncated(number: FixedPoint, largest: float) -> None:
    graph = one("layernorm", shape=(2, 4, 768), eps=0.0)
    for variance, fits in ((0.99 * largest, True), (1.01 * largest, False)):
        (row,) = headroom(graph, {"x": {"variance": (1.0, variance)}}, SpuRules(number))
        assert row.overflow != fits


def test_gelu_poly_needs_room_for_a_sixth_power_up_to_three() -> None:
    (row,) = range_rows("gelu-poly", RING_32, input=(-1.0, 2.5))  # 2.5⁶ = 244, the bound is 64
    assert (row.overflow, row.bound) == (True, pytest.approx(2))
    assert not range_rows("gelu-poly", RING_48, input=(-1000.0, 1000.0))[0].overflow


def test_a_masked_row_maximum_stays_above_the_masked_scores() -> None:
    assert range_rows("max", RING_64, masked=True, attributes={"axis": 2}, value=(-25.0, 3.0))[0].overflow
    assert not range_rows("max", RING_64, masked=True, attributes={"axis": 2}, value=(-15.0, 3.0))[0].overflow
    assert not range_rows("max", RING_64, attributes={"axis": 2}, value=(-25.0, 3.0))[0].overflow, "nothing is masked"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_range_that_is_not_finite_overflows(value: float) -> None:
    assert range_rows("add", RING_64, value=(value, value))[0].overflow


def test_a_range_of_nothing_has_a_finite_headroom() -> None:
    assert range_rows("add", RING_64, value=(0.0, 0.0))[0].headroom_bits == 44 + 18


def test_an_overflow_is_refused_with_its_layers_name() -> None:
    rows = range_rows("square", RING_32, value=(0.0, 100.0))
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 3 attention \(x\): its value ranges from 0 to 100, and 64"):
        refuse(rows)
    refuse(range_rows("square", RING_64, value=(0.0, 100.0)))


def test_ranges_survive_the_graphs_json() -> None:
    builder = Builder(2, 4)
    builder.emit("x", "gelu", (builder.input("a", "client", (2, 4, 3)),))
    graph = builder.finish(None, ["x"]).with_ranges({"x": {"value": (-1.5, 2.5), "input": (0.0, 1e-3)}})
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))).ranges == graph.ranges


def test_a_plain_session_feeds_the_recorder() -> None:
    builder = Builder(2, 4)
    x, share = builder.input("embeddings", "client", (2, 4, 3)), builder.input("share", "client", (2, 4, 1))
    builder.emit("x", "mul", (builder.emit("square", "square", (x,)), share))
    graph = builder.finish(None, ["x"])
    inputs = {"embeddings": np.ones((2, 4, 3)), "share": np.zeros((2, 4, 1))}
    inputs["embeddings"][:, 2:] = 1000
    inputs["share"][:, :2] = 8
    recorder = RangeRecorder(graph, inputs)
    PlainEngine().compile(graph).load({}).run(inputs, recorder)
    assert recorder.ranges == {"square": {"value": (1, 1)}, "x": {"value": (8, 8)}}


@pytest.mark.parametrize("case", ["mean", "square", "normal", "scaled"])
def test_each_product_inside_a_layernorm_can_be_the_largest(case: str) -> None:
    small = np.array([-0.1, 0.0, 0.1])
    x, g = {
        "mean": (small - 50, 0.01),
        "square": (small * 300, 0.01),
        "normal": (small, 0.01),
        "scaled": (small, -40.0),
    }[case]
    x, g = np.broadcast_to(x, (2, 4, 3)), np.full(3, g)
    deviation = x - x.mean(-1, keepdims=True)
    normal = deviation / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    products = {"mean": x.mean(-1), "square": deviation**2, "normal": normal, "scaled": normal * g}
    largest = {name: np.abs(values).max() for name, values in products.items()}
    assert max(largest, key=lambda name: largest[name]) == case
    found = record(one("layernorm", eps=1e-5), {}, (x, g, np.zeros(3)), normal * g).ranges["x"]
    assert max(map(abs, found["product"])) == pytest.approx(largest[case])


def test_a_declared_range_holds_what_was_measured_with_its_margin_on_either_side_of_zero() -> None:
    octave = 2**0.25  # the ends may be rounded outwards by a quarter of an octave
    measured = {"x": {"value": (-8.0, -4.0)}}
    least, largest = declare(one("add"), measured)["x"]["value"]
    assert -32 * octave <= least <= -32
    assert -1 <= largest <= -1 / octave
    least, largest = declare(one("add"), {"x": {"value": (4.0, 8.0)}})["x"]["value"]
    assert 1 / octave <= least <= 1
    assert 32 <= largest <= 32 * octave


@pytest.mark.parametrize(("least", "refused"), [(-19.5, False), (-20.5, True)])
def test_no_real_rows_maximum_may_lie_below_minus_twenty(least: float, refused: bool) -> None:
    (row,) = range_rows("max", RING_64, masked=True, attributes={"axis": 2}, value=(least, 1.0))
    assert row.overflow is refused


def test_an_overflow_says_how_many_others_there_are() -> None:
    rows = range_rows("add", RING_32, value=(-1e9, 1e9)) * 3
    with pytest.raises(MpcifyError, match=r"MPC-402 .*\(2 more overflow\)"):
        refuse(rows)


def test_a_single_number_is_recorded() -> None:
    output = np.array(3.0)
    assert record(one("add", shape=()), {}, (output,), output).ranges == {"x": {"value": (3, 3)}}
