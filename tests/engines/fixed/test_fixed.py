"""Fixed point against exact integers, and graphs in it against floats."""

import importlib.util
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.fixed.arithmetic import integer_product
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.fixed.engine import range_report
from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.engines.spu.functions import SpuArithmetic
from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import declare
from mpcify.numerics import FixedPoint
from tests.integers import nearest, wrapped
from tests.makers import transformer, transformer_requests

RINGS = (64, 48, 32)
Arrays = dict[str, np.ndarray]


def integers(ring: int, size: int) -> st.SearchStrategy[list[int]]:
    """Representatives: anywhere in the ring, at its ends, and small ones."""
    half = 1 << (ring - 1)
    return st.lists(
        st.integers(-half, half - 1) | st.sampled_from([-half, half - 1, 0, 1, -1]) | st.integers(-1000, 1000),
        min_size=size,
        max_size=size,
    )


def apply(ring: int, kind: str, *x: np.ndarray, **attributes: Any) -> np.ndarray:
    """One operation on floats, through a ring with its usual fraction bits."""
    number = FixedPoint.of(ring)
    encoded = [number.encode(item).astype(number.dtype) for item in x]
    return number.decode(SpuArithmetic(number).functions()[kind](*encoded, **attributes))


# Products


@given(st.sampled_from(RINGS), st.data())
@settings(deadline=None, max_examples=60)
def test_products_of_matrices_are_exact_in_the_ring(ring: int, data: st.DataObject) -> None:
    number = FixedPoint.of(ring)
    n, p, q = (data.draw(st.integers(1, 5)) for _ in range(3))
    a = np.array(data.draw(integers(ring, n * p)), number.dtype).reshape(n, p)
    b = np.array(data.draw(integers(ring, p * q)), number.dtype).reshape(p, q)
    found = SpuArithmetic(number).functions()["matmul"](a, b, transpose=False)
    exact = a.astype(object) @ b.astype(object)
    assert found.tolist() == [
        [nearest(wrapped(int(item), ring), number.fraction_bits) for item in row] for row in exact
    ]


@given(st.sampled_from(RINGS), st.data())
@settings(deadline=None, max_examples=60)
def test_products_squares_and_scales_are_exact_in_the_ring(ring: int, data: st.DataObject) -> None:
    number = FixedPoint.of(ring)
    table, f = SpuArithmetic(number).functions(), number.fraction_bits
    a, b = (np.array(data.draw(integers(ring, 6)), number.dtype) for _ in range(2))
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    assert table["mul"](a, b).tolist() == [nearest(wrapped(x * y, ring), f) for x, y in pairs]
    assert table["square"](a).tolist() == [nearest(wrapped(x * x, ring), f) for x, _ in pairs]
    by = round(0.3 * 2**f)
    assert table["scale"](a, by=0.3).tolist() == [nearest(wrapped(x * by, ring), f) for x, _ in pairs]


@given(st.sampled_from(RINGS), st.data())
@settings(deadline=None, max_examples=40)
def test_sums_wrap_and_are_not_truncated(ring: int, data: st.DataObject) -> None:
    number = FixedPoint.of(ring)
    table = SpuArithmetic(number).functions()
    a, b = (np.array(data.draw(integers(ring, 6)), number.dtype) for _ in range(2))
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    assert table["add"](a, b).tolist() == [wrapped(x + y, ring) for x, y in pairs]
    assert table["sub"](a, b).tolist() == [wrapped(x - y, ring) for x, y in pairs]
    assert table["sum"](a, axis=0).tolist() == [wrapped(sum(a.tolist()), ring)]
    assert table["shift"](a, by=-1.0).tolist() == [wrapped(x - (1 << number.fraction_bits), ring) for x, _ in pairs]


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_products_of_any_layout_and_leading_axes(dtype: type) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(info.min, info.max, shape, dtype=dtype)

    with np.errstate(over="ignore"):
        x, w = draw(3, 4, 5), draw(5, 6)
        np.testing.assert_array_equal(integer_product(x, w), np.einsum("bnp,pq->bnq", x, w))
        q, k = draw(2, 4, 3, 5).transpose(0, 2, 1, 3), draw(2, 4, 3, 5).transpose(0, 2, 1, 3)  # views, as heads are
        scores = np.einsum("bhid,bhjd->bhij", q, k)
        np.testing.assert_array_equal(integer_product(q, k, transpose=True), scores)
        np.testing.assert_array_equal(integer_product(scores, k), np.einsum("bhij,bhjd->bhid", scores, k))
        frozen = np.broadcast_to(draw(1, 5), (2, 5))  # not writable, not contiguous
        np.testing.assert_array_equal(integer_product(frozen, w), np.einsum("np,pq->nq", frozen, w))


@pytest.mark.parametrize("ring", RINGS)
def test_a_product_errs_by_half_a_step_and_what_its_operands_lost(ring: int) -> None:
    step = FixedPoint.of(ring).step
    a, b = np.random.default_rng(0).uniform(-2, 2, (2, 10_000))
    # encoding loses less than a step of each operand, whose partner is at most 2
    assert np.abs(apply(ring, "mul", a, b) - a * b).max() < (2 + 2 + 0.5) * step + step**2


@pytest.mark.parametrize("ring", RINGS)
def test_a_product_is_right_below_its_bound_and_wraps_at_twice_that(ring: int) -> None:
    bound = FixedPoint.of(ring).product_bound
    root = math.sqrt(bound)
    inside, beyond = apply(ring, "square", np.array([root * 0.999, root * 1.5]))
    assert inside == pytest.approx(0.998 * bound, rel=1e-2)
    assert beyond == pytest.approx(2.25 * bound - 4 * bound, rel=1e-2)  # the ring holds 4 bounds


@pytest.mark.parametrize("ring", RINGS)
def test_relu_and_max_go_by_the_sign_of_the_wrapped_value(ring: int) -> None:
    number = FixedPoint.of(ring)
    table = SpuArithmetic(number).functions()
    x = np.array([[2 ** (ring - 1) - 1, 5, -5]], number.dtype)
    over = table["add"](x, np.ones_like(x))
    assert table["relu"](over).tolist() == [[0, 6, 0]]
    assert table["max"](over, axis=1).tolist() == [[6]]


# Graphs


def compare(graph: Graph, weights: Arrays, inputs: Arrays, ring: int, **options: Any) -> float:
    """The largest difference between fixed and plain."""
    plain, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    with FixedConfig(ring, **options).build().compile(graph).load(weights) as session:
        fixed, cost = session.run(inputs)
    assert cost.seconds > 0
    assert (cost.bytes, cost.rounds) == (0, 0)
    return float(np.abs(fixed["logits"] - plain["logits"]).max())


@pytest.mark.parametrize(("ring", "tolerance"), [(64, 6e-3), (48, 6e-3), (32, 2e-2)])
def test_a_transformer_in_fixed_point_is_near_the_one_in_floats(ring: int, tolerance: float) -> None:
    graph, weights = transformer()
    # tanh alone errs by up to 5e-3, the mean of sixteen by less; in the ring 2^32 rsqrt adds 1 %
    assert max(compare(graph, weights, transformer_requests(seed), ring) for seed in range(3)) < tolerance


def test_more_fraction_bits_bring_the_products_nearer() -> None:
    builder = Builder(1, 4)
    x = builder.input("embeddings", "client", (1, 4, 8))
    rng = np.random.default_rng(0)
    w, b = builder.weight("w", rng.standard_normal((8, 8))), builder.weight("b", rng.standard_normal(8))
    builder.emit("logits", "square", (builder.emit("linear", "linear", (x, w, b)),))
    graph, inputs = builder.finish(None, ["logits"]), {"embeddings": rng.standard_normal((1, 4, 8))}
    errors = [compare(graph, builder.weights, inputs, 64, fraction_bits=bits) for bits in (8, 13, 18, 23)]
    assert all(later < earlier / 10 for earlier, later in pairwise(errors))


@pytest.mark.parametrize("ring", RINGS)
def test_rows_of_padding_may_wrap_and_change_no_answer(ring: int) -> None:
    graph, weights = transformer()
    session = FixedConfig(ring).build().compile(graph).load(weights)
    quiet, loud = (session.run(transformer_requests(padding=padding))[0]["logits"] for padding in (0.0, 1e6))
    np.testing.assert_array_equal(quiet, loud)


def test_outputs_do_not_depend_on_the_order_of_requests() -> None:
    graph, weights = transformer()
    session, inputs = FixedConfig(64).build().compile(graph).load(weights), transformer_requests()
    there, _ = session.run(inputs)
    back, _ = session.run({name: array[::-1] for name, array in inputs.items()})
    np.testing.assert_array_equal(there["logits"], back["logits"][::-1])


def test_declared_ranges_that_overflow_are_refused_with_the_layers_name() -> None:
    graph, weights = transformer(scale=4.0)  # products reach 64 and squares 160, the ring 2^32 holds less
    ranges = declare(graph, measure_ranges(graph, weights, [transformer_requests(seed) for seed in range(3)]))
    declared = graph.with_ranges(ranges)
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 0 attention \(0\.norm\).*ring") as error:
        FixedConfig(32).build().compile(declared)
    assert error.value.code == 402
    assert compare(declared, weights, transformer_requests(), 32, force=True) > 0.1, "forced, it wraps"
    assert compare(declared, weights, transformer_requests(), 64) < 1e-2, "a wider ring holds it"
    FixedConfig(32).build().compile(graph)  # nothing is declared, nothing is proven


def test_inside_ranges_that_are_proven_nothing_wraps() -> None:
    graph, weights = transformer(scale=0.1)
    batches = [transformer_requests(seed) for seed in range(3)]
    ranges = declare(graph, measure_ranges(graph, weights, batches))
    FixedConfig(48).build().compile(graph.with_ranges(ranges))
    assert all(compare(graph.with_ranges(ranges), weights, batch, 48) < 2e-2 for batch in batches)


def test_the_range_report_says_what_overflows_and_on_which_layer() -> None:
    graph, weights = transformer(scale=4.0)
    rows = range_report(
        graph, weights, [transformer_requests(seed, padding=1e6) for seed in range(3)], SpuRules(FixedPoint.of(32))
    )
    measured = measure_ranges(graph, weights, [transformer_requests(seed) for seed in range(3)])
    assert {row.operation for row in rows} == {operation.name for operation in graph.operations}
    for row in rows:
        assert (row.least, row.largest) == pytest.approx(measured[row.operation][row.quantity]), (
            "padding does not count"
        )
        assert row.overflow == (row.headroom_bits <= 0)
    overflowing = {(row.layer, row.operation) for row in rows if row.overflow and row.kind == "square"}
    assert overflowing == {(0, "0.quad"), (1, "1.quad")}
    row = next(row for row in rows if row.operation == "0.quad")
    assert row.headroom_bits == pytest.approx(math.log2(64 / row.largest))
    assert not any(
        row.overflow for row in range_report(graph, weights, [transformer_requests()], SpuRules(FixedPoint.of(64)))
    )


# Settings


@pytest.mark.parametrize(("ring", "fraction_bits"), [(40, None), (32, 15)])
def test_rings_and_fraction_bits_that_do_not_fit_are_refused(ring: int, fraction_bits: int | None) -> None:
    with pytest.raises(MpcifyError, match="MPC-501"):
        FixedConfig(ring, fraction_bits).build()


def test_without_torch_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MpcifyError, match=r"MPC-504 engine fixed.*torch.*pip install"):
        FixedConfig().build()


def test_the_engine_says_what_runs() -> None:
    engine = FixedConfig(48).build()
    assert (engine.name, engine.protocol, engine.ring) == ("fixed", None, 48)


def test_a_closed_session_holds_no_weights() -> None:
    graph, weights = transformer()
    with FixedConfig().build().compile(graph).load(weights) as session:
        pass
    assert session.weights == {}
