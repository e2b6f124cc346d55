"""How SPU's ring is used: means by two factors, squares that wait for their truncation, products that are merged."""

import math

from mpcify.numerics import FixedPoint

OWN_EXP = 8  # t of SPU's own exponential
MERGED = 4  # products at most that are computed as one
MERGED_WORK = 1 << 22  # (products)² · multiplications of each: above it, what merging adds costs more than it saves
POSTPONED_ROOM = 256.0  # attention's outputs stay below it, with their margin


def mean_power(number: FixedPoint, size: int) -> int:
    """2^k for a mean of `size` numbers, by 2^−k and then 2^k/size: the least not below it, and at most 2^f.

    1/size alone has too few bits (1/768 is off by 1e-3 at f = 18); below 2^−f a factor is 0.
    """
    return min(1 << (size - 1).bit_length(), 1 << number.fraction_bits)


def postponed_bound(number: FixedPoint) -> float:
    """2^(K−2−3f): what a product stays below that has 3f fraction bits, as a factor was not truncated before."""
    return math.ldexp(1.0, number.ring - 2 - 3 * number.fraction_bits)


def postpones(number: FixedPoint) -> bool:
    """Whether squares may wait for their truncation: if 3f fraction bits leave 8 bits, as 18 do in 2^64."""
    return postponed_bound(number) >= POSTPONED_ROOM


def merged(count: int, work: int) -> int:
    """How many of `count` products, of `work` multiplications each, are computed as one: the largest such divisor."""
    fitting = (group for group in range(MERGED, 1, -1) if count % group == 0 and group * group * work <= MERGED_WORK)
    return next(fitting, 1)
