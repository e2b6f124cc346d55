"""A width and a fraction an operation, against Python's own integers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.fixed.arithmetic import Arithmetic
from mpcify.engines.fixed.engine import FixedEngine, convert
from mpcify.engines.interpret import run_operations
from mpcify.engines.rules import Functions, Rules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import headroom, prove
from mpcify.numerics import FixedPoint
from tests.integers import nearest, wrapped

NUMBERS = [FixedPoint(64, 18), FixedPoint(64, 30), FixedPoint(48, 14), FixedPoint(48, 3), FixedPoint(32, 12)]
WIDTH = 3


@dataclass(frozen=True)
class Exact(Arithmetic):
    """Sums and products alone."""

    number: FixedPoint

    def constant(self, value: float) -> int:
        return self.number.factor(value)


@dataclass(frozen=True)
class Widths(Rules):
    """Each operation in a fixed point of its own."""

    number: FixedPoint = field(default_factory=FixedPoint)
    widths: Mapping[str, FixedPoint] = field(default_factory=dict)
    bits: int = 0

    def number_of(self, operation: Operation) -> FixedPoint:
        return self.widths.get(operation.name, self.number)

    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        bound = self.number_of(operation).product_bound
        return -bound, bound

    def bits_needed(self, operation: Operation) -> int:
        return self.bits

    def functions(self, number: FixedPoint) -> Functions:
        return Exact(number).common()


def converted(value: int, before: FixedPoint, after: FixedPoint) -> int:
    """The same number in another fixed point."""
    finer = after.fraction_bits - before.fraction_bits
    return wrapped(value << finer if finer >= 0 else nearest(value, -finer), after.ring)


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.data())
@settings(deadline=None, max_examples=200)
def test_a_number_that_changes_its_width_is_shifted_to_the_nearest_and_wrapped(
    before: FixedPoint, after: FixedPoint, data: st.DataObject
) -> None:
    half = 1 << (before.ring - 1)
    values = data.draw(st.lists(st.integers(-half, half - 1) | st.integers(-9, 9), min_size=1, max_size=5))
    found = convert(np.array(values, before.dtype), before, after)
    assert found.dtype == after.dtype
    assert found.tolist() == [converted(value, before, after) for value in values]


def step(kind: str, number: FixedPoint, given: list[list[int]]) -> list[int]:
    """What an operation gives, element by element, from exact integers of its own fixed point."""
    ring, bits, one = number.ring, number.fraction_bits, 1 << number.fraction_bits
    pairs = list(zip(given[0], given[-1], strict=True))
    exact = {
        "add": lambda a, b: wrapped(a + b, ring),
        "sub": lambda a, b: wrapped(a - b, ring),
        "mul": lambda a, b: nearest(wrapped(a * b, ring), bits),
        "square": lambda a, _: nearest(wrapped(a * a, ring), bits),
        "scale": lambda a, _: nearest(wrapped(a * round(0.3 * one), ring), bits),
        "shift": lambda a, _: wrapped(a - round(1.5 * one), ring),
        "relu": lambda a, _: max(a, 0),
    }
    return [exact[kind](a, b) for a, b in pairs]


ATTRIBUTES: Mapping[str, dict[str, Any]] = {"scale": {"by": 0.3}, "shift": {"by": -1.5}}


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_graphs_of_mixed_widths_are_exact_in_each_ring(data: st.DataObject) -> None:
    rules = Widths(data.draw(st.sampled_from(NUMBERS)), {})
    builder, widths = Builder(1, 1), {}
    values = {name: data.draw(st.lists(st.floats(-9, 9), min_size=WIDTH, max_size=WIDTH)) for name in ("x", "y")}
    for name in values:
        builder.input(name, "client", (WIDTH,))
    names = list(values)
    for place in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["add", "sub", "mul", "square", "scale", "shift", "relu"]))
        read = [data.draw(st.sampled_from(names)) for _ in range(2 if kind in ("add", "sub", "mul") else 1)]
        names.append(builder.emit(f"{place}", kind, read, **ATTRIBUTES.get(kind, {})))
        widths[names[-1]] = data.draw(st.sampled_from(NUMBERS))
    graph = builder.finish(None, names[2:])
    rules = Widths(rules.number, widths)
    integers = {name: [int(rules.number.encode(value)) for value in row] for name, row in values.items()}
    numbers = {**dict.fromkeys(values, rules.number), **widths}
    for operation in graph.operations:
        own = widths[operation.name]
        read = [[converted(value, numbers[name], own) for value in integers[name]] for name in operation.inputs]
        integers[operation.name] = step(operation.kind, own, read)
    with FixedEngine(rules, force=True).compile(graph).load({}) as session:
        given = {name: np.array(row) for name, row in values.items()}
        found = run_operations(graph, session.values(given), session.evaluate)
        outputs, _ = session.run(given)
    for name in graph.outputs:
        assert found[name].dtype == widths[name].dtype
        assert found[name].tolist() == integers[name]
        np.testing.assert_array_equal(outputs[name], np.array(integers[name]) / widths[name].scale)


def products() -> Graph:
    """Two squares, one after the other, with ranges up to 100 and 10,000."""
    builder = Builder(1, 1)
    first = builder.emit("first", "square", (builder.input("x", "client", (WIDTH,)),))
    graph = builder.finish(None, [builder.emit("second", "square", (first,))])
    return graph.with_ranges({"first": {"value": (0.0, 100.0)}, "second": {"value": (0.0, 1e4)}})


def test_headroom_is_that_of_the_operations_own_width() -> None:
    narrow, wide = FixedPoint(32, 10), FixedPoint(48, 14)  # products stay below 2^10 and 2^18
    rows = headroom(products(), products().ranges, Widths(narrow, {"second": wide}))
    assert [(row.operation, row.bound, row.overflow) for row in rows] == [
        ("first", 2**10, False),
        ("second", 2**18, False),
    ]
    assert rows[1].headroom_bits == pytest.approx(np.log2(2**18 / 1e4))
    prove(products(), Widths(narrow, {"second": wide}))
    with pytest.raises(MpcifyError, match=r"MPC-402 embedding \(second\)"):
        prove(products(), Widths(narrow, {}))
    with pytest.raises(MpcifyError, match=r"MPC-402 embedding \(first\): 10 fraction bits are too coarse"):
        prove(products(), Widths(narrow, {"second": wide}, bits=12))


def test_an_observer_sees_floats_whatever_the_widths() -> None:
    seen = {}
    rules = Widths(FixedPoint(64, 18), {"first": FixedPoint(32, 12)})
    with FixedEngine(rules, force=True).compile(products()).load({}) as session:
        session.run({"x": np.full(WIDTH, 1.5)}, lambda operation, x, y: seen.update({operation.name: (x[0], y)}))
    np.testing.assert_array_equal(seen["first"][1], np.full(WIDTH, 2.25))
    np.testing.assert_array_equal(seen["second"][0], np.full(WIDTH, 2.25))
    np.testing.assert_array_equal(seen["second"][1], np.full(WIDTH, 2.25**2))
