"""Every function at the ends of what the proof accepts, by ring and fraction bits, against floats."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mpcify.engines.engine import Engine
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.limits import NOT_IN_FM32, bits_needed, erf_power, limits
from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.headroom import prove, refuse_coarse
from mpcify.numerics import FixedPoint

FIXED = [
    *((64, bits) for bits in range(6, 31, 2)),
    *((64, bits) for bits in (9, 17, 25)),
    *((48, bits) for bits in (8, 9, 11, 13, 14, 16, 17, 18, 20, 22)),
    *((32, bits) for bits in range(4, 15)),
]
SPU = [(64, 8), (64, 11), (64, 18), (64, 25), (64, 28), (32, 8), (32, 9), (32, 12)]
WIDTH = 16  # of a layernorm


def half_steps(x: np.ndarray) -> np.ndarray:
    """What half a step on each coefficient of gelu-poly makes, in steps: sixth powers up to 3, cubes down to −4."""
    inner = np.abs(np.clip(x, -4, 3))
    return (inner + inner**2 + inner**3 + inner**4 + np.where(x > -1.95, inner**6, 0)) / 2


# kind, attributes, and how far an answer y of x may be off; s is a step. What a function's series is off by comes first
# (exp_t x²/2^(t+1) of it, tanh 5e-3, erf 6e-4), then float32, then what rounding adds.
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "exp": ("exp", {"t": 8}, lambda x, y, s: y * (1.2 * x**2 / 2**9 + 2**9 * s) + 3 * s),
    "puma-exp": ("exp", {"t": 6}, lambda x, y, s: y * (1.2 * x**2 / 2**7 + 2**7 * s) + 3 * s),
    "reciprocal": ("reciprocal", {}, lambda x, y, s: 0.03 * y + 2 * s),
    "tanh": ("tanh", {}, lambda x, y, s: 6e-3 + 10 * s),
    "relu": ("relu", {}, lambda x, y, s: 1e-7 * y + 2 * s),
    "gelu": ("gelu", {}, lambda x, y, s: 1e-3 + 1e-7 * np.abs(y) + 3 * s),
    "gelu-tanh": ("gelu-tanh", {}, lambda x, y, s: np.maximum(np.abs(x), 1) * (5e-3 + 5 * s)),
    "gelu-poly": ("gelu-poly", {}, lambda x, y, s: 1e-7 * np.abs(y) + s * (8 + half_steps(x))),
    "square": ("square", {}, lambda x, y, s: 1e-6 * y + 2 * s * (1 + np.abs(x))),
    "small-factor": ("scale", {"by": 0.002}, lambda x, y, s: np.abs(y) * (s / 0.002 / 2 + 1e-7) + 2 * s),
    "small-negative-factor": ("scale", {"by": -0.011}, lambda x, y, s: np.abs(y) * (s / 0.011 / 2 + 1e-7) + 2 * s),
    "layernorm": (
        "layernorm",
        {"eps": 1e-12},
        lambda x, y, s: 6e-3 + np.minimum(0.014, s / x**2) + s * (30 + np.abs(x)),
    ),
}


def operation_of(kind: str, attributes: dict[str, Any]) -> Operation:
    """One operation, of a shape that its limits may depend on."""
    return Operation("y", kind, ("x",), (1, WIDTH), attributes)


def points(kind: str, attributes: dict[str, Any], number: FixedPoint) -> np.ndarray:
    """Inputs up to both ends of what is accepted, and between them on a logarithmic scale."""
    operation = operation_of(kind, attributes)
    if kind == "layernorm":  # rows ±σ, of variances from end to end
        low, high = limits(operation, "variance", number)
        high = min(high, number.product_bound)
        return np.sqrt(np.geomspace(1.01 * low, 0.99 * high, 12))[:, None] * np.resize([1.0, -1.0], WIDTH)
    takes = kind in ("exp", "reciprocal", "gelu", "gelu-tanh", "gelu-poly")
    low, high = limits(operation, "input" if takes else "value", number)
    if kind == "square":
        high = math.sqrt(high)
    elif kind == "scale":
        high = min(high / abs(attributes["by"]), number.value_bound)
    if kind == "reciprocal":
        return np.geomspace(1.01 * low, 0.99 * high, 40)
    inner = np.geomspace(min(1e-2, high / 2), 0.99 * high, 30)
    return np.concatenate(
        [np.linspace(0.9999 * low, -20, 30), np.linspace(-20, 0, 30), inner] if kind == "exp" else [-inner, inner]
    )


def graph_of(number: FixedPoint, left_out: tuple[str, ...] = ()) -> tuple[Graph, dict[str, np.ndarray]]:
    """All functions that are not too coarse, each on its own input, and the inputs."""
    builder, inputs = Builder(1, 1), {}
    outputs = []
    for name, (kind, attributes, _) in CASES.items():
        if kind in left_out or number.fraction_bits < bits_needed(operation_of(kind, attributes)):
            continue
        inputs[f"x.{name}"] = points(kind, attributes, number)
        given = [builder.input(f"x.{name}", "client", inputs[f"x.{name}"].shape)]
        if kind == "layernorm":
            for end, value in (("g", 1.0), ("b", 0.0)):
                inputs[f"{end}.{name}"] = np.full(WIDTH, value)
                given.append(builder.input(f"{end}.{name}", "client", (WIDTH,)))
        outputs.append(builder.emit(name, kind, given, **attributes))
    return builder.finish(None, outputs), inputs


def compare(engine: Engine, number: FixedPoint, left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """What an engine gets wrong by more than a case allows."""
    graph, inputs = graph_of(number, left_out)
    with PlainEngine().compile(graph).load({}) as session:
        exact, _ = session.run(inputs)
    with engine.compile(graph).load({}) as session:
        found, _ = session.run(inputs)
    for name in graph.outputs:
        x, y = inputs[f"x.{name}"], exact[name]
        over = np.abs(found[name] - y) / CASES[name][2](x, y, number.step)
        if not over.max() <= 1:
            place = np.unravel_index(over.argmax(), over.shape)
            yield f"{name} of {x[place]:g}: {found[name][place]:g} for {y[place]:g}, {over.max():.2g} times too far"


@pytest.mark.parametrize(("ring", "bits"), FIXED)
def test_integers_are_right_to_the_ends_of_what_is_accepted(ring: int, bits: int) -> None:
    assert list(compare(FixedConfig(ring, bits, force=True).build(), FixedPoint(ring, bits))) == []


@pytest.mark.parametrize(("ring", "bits"), SPU)
def test_spu_is_right_to_the_ends_of_what_is_accepted(ring: int, bits: int) -> None:
    left_out = NOT_IN_FM32 if ring == 32 else ()
    assert list(compare(SpuConfig("aby3", ring, bits, force=True).build(), FixedPoint(ring, bits), left_out)) == []


@pytest.mark.parametrize(
    ("kind", "attributes", "fewest"),
    [("layernorm", {"eps": 1e-12}, 9), ("exp", {"t": 8}, 11), ("scale", {"by": 1 / 197}, 10), ("tanh", {}, 8)],
)
def test_too_few_fraction_bits_are_refused_with_how_many_it_takes(
    kind: str, attributes: dict[str, Any], fewest: int
) -> None:
    builder = Builder(1, 1, layer=2, part="attention")
    names = [builder.input(name, "client", (WIDTH,)) for name in ("x", "g", "b")[: 3 if kind == "layernorm" else 1]]
    graph = builder.finish(None, [builder.emit("there", kind, names, **attributes)])
    message = (
        rf"MPC-402 layer 2 attention \(there\): {fewest - 1} fraction bits are too coarse.*--fraction-bits {fewest}"
    )
    with pytest.raises(MpcifyError, match=message):
        refuse_coarse(graph, SpuRules(FixedPoint(64, fewest - 1)))
    refuse_coarse(graph, SpuRules(FixedPoint(64, fewest)))
    with pytest.raises(MpcifyError, match="MPC-402"):
        FixedConfig(64, fewest - 1).build().compile(graph)


@pytest.mark.parametrize(("ring", "bits", "whole"), [(32, 8, 8), (48, 16, 16), (64, 24, 24)])
def test_erf_is_whole_up_to_the_bits_at_which_its_power_wraps(ring: int, bits: int, whole: int) -> None:
    operation = operation_of("gelu", {})
    assert limits(operation, "input", FixedPoint(ring, bits))[1] > 1000
    _, high = limits(operation, "input", FixedPoint(ring, bits + 1))
    assert high < 3 * math.sqrt(2)
    assert erf_power(high / math.sqrt(2)) == pytest.approx(FixedPoint(ring, bits + 1).product_bound, rel=1e-4)


@pytest.mark.parametrize(
    ("ring", "eps", "variance"),
    [(64, 1e4, (0.01, 0.1)), (64, 1e5, (1.0, 4e4)), (64, 1e6, (1.0, 2.0)), (48, 300.0, (0.003, 0.03))],
)
def test_an_eps_that_leaves_its_variance_no_room_is_refused(
    ring: int, eps: float, variance: tuple[float, float]
) -> None:
    """Small variances are doubled, so that 1e4 and 300 come to 160,000 and 19,200."""
    rules = SpuRules(FixedPoint.of(ring))
    with pytest.raises(MpcifyError, match=r"MPC-402 .*variance ranges from .* is the limit beside its eps"):
        prove(rules.fit(normed(eps, variance)), rules)


def test_beside_a_large_eps_a_layernorm_is_right_up_to_its_limit_and_not_beyond() -> None:
    graph, ones = normed(1e5, (1.0, 2.0)).with_ranges({}), np.ones(WIDTH)
    _, high = limits(graph.operations[0], "variance", FixedPoint.of(64))

    def error(variance: float) -> float:
        inputs = {"x": math.sqrt(variance) * np.resize([1.0, -1.0], WIDTH), "g": ones, "b": 0 * ones}
        with FixedConfig().build().compile(graph).load({}) as session:
            found, _ = session.run(inputs)
        return float(np.abs(found["norm"] - inputs["x"] / math.sqrt(variance + 1e5)).max())

    assert error(0.99 * high) < 6e-3
    assert error(32 * high) > 0.1, "rsqrt has no guess there"


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-3])
def test_a_usual_eps_takes_no_room(eps: float) -> None:
    _, high = limits(operation_of("layernorm", {"eps": eps}), "variance", FixedPoint.of(64))
    assert 2**17 - 2e-3 < high <= 2**17


def normed(eps: float, variance: tuple[float, float]) -> Graph:
    """A LayerNorm of a declared variance."""
    builder = Builder(1, 1)
    names = [builder.input(name, "client", (WIDTH,)) for name in ("x", "g", "b")]
    graph = builder.finish(None, [builder.emit("norm", "layernorm", names, eps=eps)])
    return graph.with_ranges({"norm": {"variance": variance, "value": (-1.0, 1.0), "product": (-1.0, 1.0)}})


def test_a_lower_limit_is_said_to_be_one_and_is_mended_by_more_fraction_bits() -> None:
    graph = normed(1e-12, (1e-3, 1.0))
    message = r"variance ranges from 0.001 to 1, and 0.0254 is the lower limit.*use more fraction bits"
    with pytest.raises(MpcifyError, match=message):
        prove(graph, SpuRules(FixedPoint(32, 10)))
    prove(graph, SpuRules(FixedPoint(64, 18)))
