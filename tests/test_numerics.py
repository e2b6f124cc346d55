"""Fixed point against Python's own integers, which never wrap."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.errors import MpcifyError
from mpcify.numerics import FixedPoint
from tests.integers import wrapped

NUMBERS = [FixedPoint(64, 18), FixedPoint(48, 14), FixedPoint(32, 12), FixedPoint(64, 30), FixedPoint(32, 2)]


def test_usual_fraction_bits_and_bounds() -> None:
    assert [FixedPoint.of(ring).fraction_bits for ring in (64, 48, 32)] == [18, 14, 12]
    assert FixedPoint.of(64, 20) == FixedPoint(64, 20)
    assert FixedPoint() == FixedPoint(64, 18)
    assert FixedPoint(64, 18).product_bound == 2**26
    assert FixedPoint(32, 12).product_bound == 2**6
    assert FixedPoint(32, 8).product_bound == 2**14
    assert FixedPoint(64, 18).value_bound == 2**44
    assert FixedPoint(48, 14).compare_bound == 2**33


@pytest.mark.parametrize(
    ("ring", "fraction_bits"),
    [(128, 18), (16, 4), (64, 31), (48, 23), (32, 15), (64, 1), (64, -3), (64, 18.0), (64, 18.5)],
)
def test_a_ring_without_room_for_a_product_is_refused(ring: int, fraction_bits: float) -> None:
    with pytest.raises(MpcifyError) as error:
        FixedPoint(ring, fraction_bits)  # type: ignore[arg-type]
    assert error.value.code == 501


def test_an_unknown_ring_is_named_without_fraction_bits() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-501.*2\^40"):
        FixedPoint.of(40)


@given(st.sampled_from(NUMBERS), st.floats(-1e15, 1e15))
@settings(deadline=None, max_examples=300)
def test_encoding_rounds_towards_zero_and_clamps(number: FixedPoint, x: float) -> None:
    limit = 1 << (number.ring - 2)
    exact = int(Fraction(x) * (1 << number.fraction_bits))  # int() rounds towards zero
    assert int(number.encode(x)) == max(-limit, min(limit - 1, exact))


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_no_number_encodes_as_spu_does(number: FixedPoint) -> None:
    limit = 1 << (number.ring - 2)
    assert number.encode(np.array([np.nan, np.inf, -np.inf])).tolist() == [0, limit - 1, -limit]


@given(st.sampled_from(NUMBERS), st.floats(-100, 100))
@settings(deadline=None, max_examples=200)
def test_decoding_undoes_encoding_to_one_step(number: FixedPoint, x: float) -> None:
    x = np.clip(x, -0.9 * number.value_bound, 0.9 * number.value_bound)
    assert abs(float(number.decode(number.encode(x))) - x) < number.step


@given(st.sampled_from(NUMBERS), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
@settings(deadline=None, max_examples=200)
def test_wrapping_keeps_the_value_mod_2_to_the_ring(number: FixedPoint, values: list[int]) -> None:
    integers = np.array(values, np.int64)
    assert number.wrap(integers).tolist() == [wrapped(value, number.ring) for value in values]


@pytest.mark.parametrize("number", NUMBERS)
def test_arrays_of_the_ring_type_wrap_in_their_own_arithmetic(number: FixedPoint) -> None:
    largest = np.array([2 ** (number.ring - 1) - 1], number.dtype)
    assert number.wrap(largest + 1).tolist() == [-(2 ** (number.ring - 1))]
    assert number.wrap(largest * largest).tolist() == [1]
    assert number.wrap(largest).dtype == number.dtype


@given(st.sampled_from(NUMBERS), st.data())
@settings(deadline=None, max_examples=300)
def test_truncation_goes_to_the_nearest_integer_over_the_whole_ring(number: FixedPoint, data: st.DataObject) -> None:
    half = 2 ** (number.ring - 1)
    value = data.draw(st.integers(-half, half - 1) | st.integers(-1000, 1000) | st.sampled_from([-half, half - 1]))
    found = int(number.truncate(np.array([value], number.dtype))[0])
    error = found - Fraction(value, 1 << number.fraction_bits)
    assert -Fraction(1, 2) < error <= Fraction(1, 2)  # halves go up


def test_truncation_has_no_bias() -> None:
    # flooring would be off by half a step on average; 2^-13 is the half of one value in 2^12 that rounds up on a tie
    number = FixedPoint(64, 12)
    values = np.arange(-(2**16), 2**16, dtype=np.int64)
    assert np.mean(number.truncate(values) - values / 2**12) == pytest.approx(2**-13, abs=1e-9)


def test_headroom_is_the_bits_left_below_a_bound() -> None:
    number = FixedPoint(64, 18)
    assert number.headroom(2.0, 16.0) == 3
    assert number.headroom(32.0, 16.0) == -1
    assert number.headroom(0.0, 1.0) == 18  # nothing is smaller than a step
    assert number.headroom(np.inf, 1.0) == number.headroom(np.nan, 1.0) == -np.inf


@pytest.mark.parametrize("value", [1e308, -1e308, 10**308])
def test_a_factor_beyond_the_ring_is_its_limit(value: float) -> None:
    """As encoding clamps it; nothing overflows."""
    for number in (FixedPoint(64, 18), FixedPoint(32, 12)):
        assert number.factor(value) == math.copysign(1, value) * 2 ** (number.ring - 2)
