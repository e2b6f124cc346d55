"""SPU's functions in fixed point: right in their ranges, wrong outside, and equal to SPU's own in every bit."""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.engines.plain import evaluate_operation
from mpcify.engines.spu.functions import SpuArithmetic
from mpcify.graph.graph import Operation
from mpcify.numerics import FixedPoint

Arrays = dict[str, np.ndarray]


def apply(ring: int, kind: str, *x: np.ndarray, bits: int | None = None, **attributes: Any) -> np.ndarray:
    """One operation on floats, through a ring with its usual fraction bits unless others are given."""
    number = FixedPoint.of(ring, bits)
    encoded = [number.encode(item).astype(number.dtype) for item in x]
    return number.decode(SpuArithmetic(number).functions()[kind](*encoded, **attributes))


def test_exp_within_its_range_and_outside() -> None:
    x = np.linspace(-8, 1, 1000)
    assert np.abs(apply(64, "exp", x, t=8) - np.exp(x)).max() < 6e-3  # (1 + x/256)^256 is eˣ·(1 − x²/512)
    five, ten = apply(64, "exp", np.array([5.0, 10.0]), t=8) / np.exp([5.0, 10.0])
    assert (five, ten) == (pytest.approx(0.953, abs=2e-3), pytest.approx(0.827, abs=2e-3))
    assert np.abs(apply(64, "exp", np.linspace(-499, -20, 100), t=8)).max() < 1e-4
    assert np.abs(apply(64, "exp", np.array([-1000.0]), t=8)) > 1e6, "below −512 it rises again, and wraps"


@pytest.mark.parametrize("ring", [64, 48])
def test_reciprocal_within_its_range_and_outside(ring: int) -> None:
    number = FixedPoint.of(ring)
    x = np.exp2(np.random.default_rng(0).uniform(-5, 5, 2000))
    # Goldschmidt errs by 1.5e-5; rounding by a step of the input, and by some steps of what is scaled back
    tolerance = 3e-5 / x + number.step * (1 + 2 / x**2 + 4 / x)
    assert (np.abs(apply(ring, "reciprocal", x) - 1 / x) < tolerance).all()
    assert (np.abs(apply(ring, "reciprocal", -x) + 1 / x) < tolerance).all()
    end = number.scale
    assert apply(ring, "reciprocal", np.array([0.0, end, 2 * end])).tolist() == [0, 0, 0]
    assert apply(ring, "reciprocal", np.array([end / 2.6])) * (end / 2.6) == pytest.approx(1, abs=0.3), "coarse"


def rsqrt(ring: int, x: np.ndarray) -> np.ndarray:
    """rsqrt of floats in a ring."""
    number = FixedPoint.of(ring)
    return number.decode(SpuArithmetic(number).rsqrt(number.encode(x).astype(number.dtype)))


@pytest.mark.parametrize(("ring", "tolerance"), [(64, 1.5e-4), (48, 2e-3), (32, 8e-3)])
def test_rsqrt_within_its_range(ring: int, tolerance: float) -> None:
    x = np.exp2(np.random.default_rng(0).uniform(-2, 6, 2000))
    assert np.abs(rsqrt(ring, x) * np.sqrt(x) - 1).max() < tolerance


def test_rsqrt_from_2_to_the_minus_13_to_2_to_the_17_and_not_beyond() -> None:
    ends = np.exp2([-12.9, 16.9])
    assert rsqrt(64, ends) * np.sqrt(ends) == pytest.approx([1, 1], abs=2e-2), "rounding of a step of 2^−18"
    assert rsqrt(64, np.array([0.0, -1.0, -1000.0, 2.0**-14])).tolist() == [0, 0, 0, 0]
    beyond = np.array([2.0**20])
    assert (np.abs(rsqrt(64, beyond) * np.sqrt(beyond) - 1) > 0.1).all()


@pytest.mark.parametrize(("ring", "noise"), [(64, 1e-4), (48, 1e-3), (32, 5e-3)])
def test_tanh_errs_by_5e_3_and_flattens(ring: int, noise: float) -> None:
    x = np.linspace(-6, 6, 2001)
    error = np.abs(apply(ring, "tanh", x) - np.tanh(x)).max()
    assert 3e-3 < error < 4.9e-3 + noise
    assert np.ptp(apply(ring, "tanh", np.array([5.0, 6.0, 50.0]))) == 0


def test_gelus_come_with_spus_errors() -> None:
    x = np.linspace(-10, 10, 2001)
    exact = x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    assert np.abs(apply(64, "gelu", x) - exact).max() < 2e-3  # erf: 5e-4, times x/2 near x = 3√2
    floats = evaluate_operation(Operation("x", "gelu-poly", (), ()), (x,))
    assert np.abs(apply(64, "gelu-poly", x) - floats).max() < 3e-3  # 0.0018x⁶ has 9 bits: 1.3e-3 of 1.3 at x = 3
    assert 1e-3 < np.abs(apply(64, "gelu-tanh", x) - exact).max() < 1.5e-2  # tanh's error, times x/2
    big = np.array([-1e5, 1e5])
    assert apply(64, "gelu-poly", big).tolist() == [0, 1e5], "its powers wrap, and are not chosen"


@pytest.mark.parametrize(
    ("ring", "bits", "tolerance"), [(64, 18, 1.5e-3), (48, 14, 1e-2), (32, 12, 8e-2), (32, 8, 8e-2)]
)
@pytest.mark.parametrize("width", [64, 384, 768])
def test_layernorm_normalises_whatever_its_width(ring: int, bits: int, tolerance: float, width: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, width)) * 1.5 + 1  # in the ring 2^32 a square stays below 64
    g, b = rng.uniform(0.5, 1.5, width), rng.standard_normal(width)
    exact = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * g + b
    # rsqrt's error (see above) times the largest value, about 6
    assert np.abs(apply(ring, "layernorm", x, g, b, bits=bits, eps=1e-12) - exact).max() < tolerance


def test_an_eps_below_a_step_is_zero_and_a_row_without_variance_is_its_bias() -> None:
    x, g, b = np.full((1, 8), 3.0), np.ones(8), np.full(8, 0.5)
    assert apply(64, "layernorm", x, g, b, eps=1e-12).tolist() == [[0.5] * 8]
    assert SpuArithmetic(FixedPoint(64, 18)).constant(1e-12) == 0


SPU_SCRIPT = """
import sys, numpy, jax, spu.libspu as lib
from spu.utils.simulation import Simulator, sim_jax
from mpcify.engines.spu.lowering import rsqrt
from mpcify.numerics import FixedPoint
data, results = dict(numpy.load(sys.argv[1])), {}
functions = {"reciprocal": lambda x: 1 / x, "erf": jax.lax.erf}
functions |= {"exp": jax.numpy.exp, "tanh": jax.numpy.tanh}
for key, x in data.items():
    ring, bits, name = key.split("/")
    field = getattr(lib.FieldType, "FM" + ring)
    config = lib.RuntimeConfig(protocol=lib.ProtocolKind.REF2K, field=field, fxp_fraction_bits=int(bits))
    number = FixedPoint(int(ring), int(bits))
    functions["rsqrt"] = lambda x: rsqrt(x[:, None], number)[:, 0]
    results[key] = numpy.asarray(sim_jax(Simulator(1, config), functions[name])(x))
numpy.savez(sys.argv[2], **results)
"""


@pytest.mark.skipif(importlib.util.find_spec("spu") is None, reason="SPU is not installed")
def test_functions_equal_spus_in_every_bit_bad_ranges_included(tmp_path: Path) -> None:
    # REF2K runs SPU's series without shares and truncates to the nearest integer
    rng = np.random.default_rng(0)
    wide = np.concatenate([rng.uniform(-20, 20, 1000), rng.standard_normal(500) * 300, [0, -1000, 5, -5, 3, -3]])
    data: Arrays = {}
    for ring, bits, names in (
        (64, 18, ("rsqrt", "reciprocal", "exp", "tanh", "erf")),
        (64, 13, ("rsqrt",)),
        (32, 12, ("rsqrt", "exp", "tanh")),
    ):
        positive = np.exp2(rng.uniform(-bits, bits + 2, 1500))
        signed = np.concatenate([positive, -positive[:100], [0]])
        for name in names:
            data[f"{ring}/{bits}/{name}"] = (signed if name in ("rsqrt", "reciprocal") else wide).astype(np.float32)
    np.savez(tmp_path / "data.npz", **data)
    command = [sys.executable, "-c", SPU_SCRIPT, str(tmp_path / "data.npz"), str(tmp_path / "results.npz")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"}, timeout=300)
    results = np.load(tmp_path / "results.npz")
    for key, x in data.items():
        ring, bits, name = key.split("/")
        number = FixedPoint(int(ring), int(bits))
        given = (number.encode(x).astype(number.dtype), *((8,) if name == "exp" else ()))
        found = getattr(SpuArithmetic(number), name)(*given)
        np.testing.assert_array_equal(number.decode(found).astype(np.float32), results[key], err_msg=key)
