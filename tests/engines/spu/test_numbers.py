"""How SPU's ring is used: means, squares that wait, and products that are merged."""

from hypothesis import given
from hypothesis import strategies as st

from mpcify.engines.spu.numbers import mean_power, merged, postponed_bound, postpones
from mpcify.numerics import FixedPoint

NUMBERS = [FixedPoint(64, 18), FixedPoint(48, 14), FixedPoint(32, 12), FixedPoint(64, 30), FixedPoint(32, 2)]


def test_a_means_first_factor_is_a_power_of_two_not_below_its_size_and_never_below_a_step() -> None:
    assert [mean_power(FixedPoint(64, 18), size) for size in (1, 2, 3, 512, 513, 768)] == [1, 2, 4, 512, 1024, 1024]
    assert [mean_power(FixedPoint(32, 8), size) for size in (200, 256, 768)] == [256, 256, 256]


def test_squares_wait_for_their_truncation_if_eight_bits_are_left() -> None:
    assert [number for number in NUMBERS if postpones(number)] == [FixedPoint(64, 18), FixedPoint(32, 2)]
    assert postponed_bound(FixedPoint(64, 18)) == 2**8
    assert not postpones(FixedPoint(64, 19))


@given(count=st.integers(1, 64), work=st.integers(1, 1 << 27))
def test_products_are_merged_by_a_divisor_and_only_small_ones(count: int, work: int) -> None:
    group = merged(count, work)
    assert count % group == 0
    assert group == 1 or group**2 * work <= 1 << 22
