"""Graphs in which a value is read in a form that it does not have elsewhere: each answers right, or is refused."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mpcify.engines.plain import measure_ranges
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from tests.engines.ring.models import Arrays, Model, scene_of

LENGTH, WIDTH = 3, 4
RANDOM = np.random.default_rng(0)
Drawing = tuple[Builder, Sequence[str], Arrays]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape)


def linear(b: Builder, x: str, p: int, q: int) -> str:
    return b.emit("linear", "linear", (x, b.weight("w", normal(p, q) / np.sqrt(p)), b.weight("c", np.zeros(q))))


def layernorm(b: Builder, x: str, width: int, size: float = 1.0, eps: float = 1e-12) -> str:
    return b.emit("ln", "layernorm", (x, b.weight("g", np.full(width, size)), b.weight("o", np.zeros(width))), eps=eps)


def mean(b: Builder, x: str, axis: int) -> str:
    """x less its mean along an axis."""
    total = b.emit("sum", "sum", (x,), axis=axis)
    return b.emit("less", "sub", (x, b.emit("mean", "scale", (total,), by=1 / b.shape(x)[axis])))


def shares(*real: int, length: int = LENGTH) -> np.ndarray:
    """16/m for each of m real tokens."""
    return np.stack([np.where(np.arange(length) < m, 16 / m, 0.0)[:, None] for m in real])


def started(batch: int = 1, length: int = LENGTH, width: int = WIDTH) -> tuple[Builder, str]:
    """A graph's first layer, and the client's x (batch, length, width)."""
    builder = Builder(batch, length)
    x = builder.input("x", "client", (batch, length, width))
    builder.layer, builder.part = 0, "linear"
    return builder, x


def far_from_zero(width: int) -> Drawing:
    b, x = started(width=width)
    total = b.emit("add", "add", (x, b.weight("v", normal(1, 1, width) / 10)))
    return b, [layernorm(b, total, width)], {"x": 10 + normal(1, LENGTH, width) / 10}


def broadcast_linear() -> Drawing:
    b, x = started()
    y = b.input("y", "client", (1, 1, WIDTH))
    total = b.emit("add", "add", (linear(b, y, WIDTH, WIDTH), x))
    return b, [layernorm(b, total, WIDTH)], {"x": normal(1, LENGTH, WIDTH), "y": normal(1, 1, WIDTH)}


def heads_centred_over_heads() -> Drawing:
    b, x = started(width=12)

    def heads(value: str) -> str:
        return b.emit("t", "transpose", (b.emit("r", "reshape", (value,), shape=(1, LENGTH, 2, 6)),), axes=(0, 2, 1, 3))

    keys = mean(b, heads(linear(b, x, 12, 12)), 1)
    return b, [b.emit("p", "matmul", (heads(x), keys), transpose=True)], {"x": normal(1, LENGTH, 12)}


def fewer_matrices_than_keys() -> Drawing:
    b, x = started(batch=2)
    a = b.input("a", "client", (5, WIDTH))
    keys = mean(b, linear(b, x, WIDTH, WIDTH), 1)
    return b, [b.emit("p", "matmul", (a, keys), transpose=True)], {"x": normal(2, LENGTH, WIDTH), "a": normal(5, WIDTH)}


def scaled_input() -> Drawing:
    b, x = started(width=64)
    total = b.emit(
        "add", "add", (linear(b, b.emit("s", "scale", (x,), by=2.0**-10), 64, 64), b.weight("v", normal(64)))
    )
    return b, [total, layernorm(b, total, 64)], {"x": 1024 * normal(1, LENGTH, 64)}


def small_variances(by: float) -> Drawing:
    b, x = started()
    return b, [layernorm(b, b.emit("s", "scale", (x,), by=by), WIDTH)], {"x": normal(1, LENGTH, WIDTH)}


def large_eps() -> Drawing:
    b, x = started()
    return b, [layernorm(b, x, WIDTH, 1e3, eps=1e6)], {"x": normal(1, LENGTH, WIDTH)}


def computed_weights() -> Drawing:
    b, x = started()
    g, o = (b.input(name, "client", (WIDTH,)) for name in ("g", "o"))
    out = b.emit("ln", "layernorm", (x, g, o), eps=1e-12)
    return b, [out], {"x": normal(1, LENGTH, WIDTH), "g": np.full(WIDTH, 3.0), "o": np.full(WIDTH, -3.0)}


def shared_values(b: Builder, x: str, width: int, batch: int, length: int) -> str:
    share = b.input("share", "client", (batch, length, 1))
    return b.emit("vs", "mul", (linear(b, x, width, width), share))


def values_that_are_an_output_too() -> Drawing:
    b, x = started(length=64)
    values = shared_values(b, x, WIDTH, 1, 64)
    scores = b.emit("p", "scale", (b.emit("s", "matmul", (x, x), transpose=True),), by=1 / 16)
    out = b.emit("o", "matmul", (scores, values), transpose=False)
    return b, [out, values], {"x": normal(1, 64, WIDTH), "share": shares(64, length=64)}


def values_as_both_factors() -> Drawing:
    b, x = started(length=32, width=32)
    values = shared_values(b, x, 32, 1, 32)
    out = b.emit("o", "matmul", (values, values), transpose=False)
    return b, [out], {"x": normal(1, 32, 32), "share": shares(32, length=32)}


def requests_moved_from_the_first_axis() -> Drawing:
    b, x = started(batch=3)
    values = b.emit("t", "transpose", (shared_values(b, x, WIDTH, 3, LENGTH),), axes=(1, 0, 2))
    a = linear(b, b.emit("u", "transpose", (x,), axes=(1, 0, 2)), WIDTH, 3)
    out = linear(b, b.emit("o", "matmul", (a, values), transpose=False), WIDTH, 2)
    return b, [out], {"x": normal(3, LENGTH, WIDTH), "share": shares(1, 2, 3)}


def whole_numbers_and_a_weight() -> Drawing:
    b = Builder(1, LENGTH)
    x = b.input("segment", "client", (1, LENGTH, 1))
    b.layer, b.part = 0, "linear"
    return b, [b.emit("shift", "shift", (x,), by=-0.4)], {"segment": np.array([0.0, 1, 1]).reshape(1, LENGTH, 1)}


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "rows far from zero, 12 wide": lambda: far_from_zero(12),
    "rows far from zero, 768 wide": lambda: far_from_zero(768),
    "a linear of one row, added to rows": broadcast_linear,
    "keys centred over heads": heads_centred_over_heads,
    "fewer matrices than keys": fewer_matrices_than_keys,
    "an input scaled before a linear": scaled_input,
    "values that are an output, too": values_that_are_an_output_too,
    "values as both factors": values_as_both_factors,
    "requests moved from the first axis": requests_moved_from_the_first_axis,
    "whole numbers and a weight": whole_numbers_and_a_weight,
    "a layernorm with computed weights": computed_weights,
    "variances of 1e-4": lambda: small_variances(2.0**-7),
}


def model_of(drawn: Drawing) -> Model:
    """A model whose ranges are what is measured, and a variance's eighth."""
    builder, outputs, inputs = drawn
    graph = builder.finish(None, list(outputs))
    ranges = measure_ranges(graph, builder.weights, [inputs])
    for entry in ranges.values():
        if "variance" in entry:
            entry["variance"] = entry["variance"][0] / 8, entry["variance"][1] * 8  # type: ignore[index]
    return Model(graph.with_ranges(ranges), builder.weights, inputs)


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
@pytest.mark.parametrize("inputs", ["client", "delegated"])
def test_a_value_is_right_in_whatever_form_it_is_read(draw: Callable[[], Drawing], inputs: str) -> None:
    model = model_of(draw())
    program = model.compile(inputs=inputs)
    for number in range(1, 5):
        scene = scene_of(program, *model.held, number=number).run()
        for step in program.plan.outputs:
            found, wanted = scene.client.values[step.index], model.plain[step.name]
            if inputs == "delegated":
                found = step.joined(found, scene.owner.values[step.index])
            np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-3 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("draw", [lambda: small_variances(2.0**-13), large_eps], ids=["variances", "eps"])
def test_digits_that_a_root_would_not_have_are_refused(draw: Callable[[], Drawing]) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 0 linear \(ln\)"):
        model_of(draw()).compile()
