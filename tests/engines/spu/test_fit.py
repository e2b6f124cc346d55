"""A graph as a ring runs it: small variances are raised before LayerNorm, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.fixed.engine import range_report
from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.engines.spu.fit import fit
from mpcify.engines.spu.rules import SpuRules
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import headroom
from mpcify.graph.ranges import declare
from mpcify.numerics import FixedPoint

WIDTH = 24


def normed(eps: float = 1e-12) -> tuple[Graph, dict[str, np.ndarray]]:
    """A sum and the LayerNorm that reads it."""
    builder = Builder(1, 4)
    x, y = (builder.input(name, "client", (1, 4, WIDTH)) for name in "xy")
    g, b = builder.weight("g", np.linspace(0.5, 1.5, WIDTH)), builder.weight("b", np.linspace(-1, 1, WIDTH))
    norm = builder.emit("norm", "layernorm", (builder.emit("sum", "add", (x, y)), g, b), eps=eps)
    return builder.finish(None, [norm]), builder.weights


def request(spread: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Two inputs of a size."""
    generator = np.random.default_rng(seed)
    return {name: spread * generator.standard_normal((1, 4, WIDTH)) for name in "xy"}


def declared(spread: float, eps: float = 1e-12) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph with the ranges of some requests of a size."""
    graph, weights = normed(eps)
    measured = measure_ranges(graph, weights, [request(spread, seed) for seed in range(20)])
    return graph.with_ranges(declare(graph, measured)), weights


def test_a_small_variance_is_doubled_until_its_middle_is_around_1() -> None:
    graph, _ = declared(0.01)
    runs = fit(graph, FixedPoint.of(64))
    before, after = (np.array(one.ranges["norm"]["variance"]) for one in (graph, runs))
    count = runs.count()["add"] - 1
    assert 0.5 <= np.sqrt(after.prod()) <= 2
    np.testing.assert_array_equal(after, before * 4**count)
    assert runs.operations[-1].attributes["eps"] == 1e-12 * 4**count


@pytest.mark.parametrize("spread", [0.3, 1.0, 30.0])
def test_other_variances_stay(spread: float) -> None:
    graph, _ = declared(spread)
    assert fit(graph, FixedPoint.of(64)) == graph


def test_without_declared_ranges_nothing_is_doubled() -> None:
    graph, _ = normed()
    assert fit(graph, FixedPoint.of(64)) == graph


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 0.1), st.integers(0, 1000), st.sampled_from([1e-12, 1e-5]))
def test_the_answer_in_floats_is_the_same(spread: float, seed: int, eps: float) -> None:
    graph, weights = declared(spread, eps)
    inputs = request(spread, seed)
    before, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    after, _ = PlainEngine().compile(fit(graph, FixedPoint.of(64))).load(weights).run(inputs)
    np.testing.assert_allclose(after["norm"], before["norm"], atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.floats(2e-3, 0.1), st.integers(0, 1000))
def test_ranges_that_follow_hold_what_is_measured(spread: float, seed: int) -> None:
    graph, weights = declared(spread)
    inputs = request(spread, seed)
    runs = fit(graph, FixedPoint.of(64))
    measured = measure_ranges(runs, weights, [inputs])["norm"]
    met_before = measure_ranges(graph, weights, [inputs])["norm"]
    for quantity, (least, largest) in met_before.items():
        inside = graph.ranges["norm"][quantity]
        if not inside[0] <= least <= largest <= inside[1]:
            return  # this request leaves what was declared
    for quantity, (least, largest) in measured.items():
        low, high = runs.ranges["norm"][quantity]
        assert low <= least <= largest <= high, quantity


def test_a_small_variance_keeps_its_bits_in_a_narrow_ring() -> None:
    graph, weights = declared(0.04)  # a variance of 0.003: three steps of 2^-10
    inputs = request(0.04, seed=99)
    exact, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    errors = []
    for ranges in ({}, graph.ranges):
        engine = FixedConfig(ring=32, fraction_bits=10, force=True).build()
        found, _ = engine.compile(graph.with_ranges(ranges)).load(weights).run(inputs)
        errors.append(np.abs(found["norm"] - exact["norm"]).max())
    assert errors[1] < 0.05 < 4 * errors[1] < errors[0]


def test_the_proof_counts_what_runs() -> None:
    graph, weights = declared(0.04)
    number = FixedPoint(48, 14)
    assert any(row.overflow and row.quantity == "variance" for row in headroom(graph, graph.ranges, SpuRules(number)))
    runs = fit(graph, number)
    assert not any(row.overflow for row in headroom(runs, runs.ranges, SpuRules(number)))
    (row,) = (
        row for row in range_report(graph, weights, [request(0.04)], SpuRules(number)) if row.quantity == "variance"
    )
    assert 0.5 < row.largest < 8


@pytest.mark.parametrize("offset", [5.0, -5.0])
def test_products_inside_a_doubled_layernorm_grow_with_it(offset: float) -> None:
    """Means grow 2ᵏ times, squares 4ᵏ times: without a margin to hide it, the ranges that follow still hold."""
    graph, weights = normed()
    level = np.full((1, 4, WIDTH), offset)
    spike = np.zeros((1, 4, WIDTH))
    spike[..., 0] = 0.2  # one square is nearly all of its row's variance
    for inputs in ({"x": level, "y": request(0.02)["y"]}, {"x": spike, "y": request(0.001)["y"]}):
        declared = graph.with_ranges(measure_ranges(graph, weights, [inputs]))
        runs = fit(declared, FixedPoint.of(64))
        count = runs.count()["add"] - 1
        assert count > 1
        least, largest = measure_ranges(runs, weights, [inputs])["norm"]["product"]
        low, high = runs.ranges["norm"]["product"]
        assert low <= least <= largest <= high
        mean = abs(offset) * 2**count if inputs["x"] is level else 0.0
        assert max(-least, largest) >= 0.9 * mean, "the mean is reached"
