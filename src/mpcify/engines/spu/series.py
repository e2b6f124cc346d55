"""A series of our own that SPU runs in place of its own, and that the engine `fixed` runs alike.

x^(−1/2) for 2^LEAST ≤ x < 2^LARGEST: comparisons with THRESHOLDS choose s and r, so that w = x·s lies around √0.375.
p = (w − SHIFT)² + FLOOR is then w^(−1/2) to the third order, but for a constant factor; a second such step takes w·p²,
and r is what both leave out: r² = s/√0.375. It holds for s as the ring rounds it. Below 2^LEAST, among which a sum of
squares that wrapped may be, r is 0, and so is the answer.
"""

import math

import numpy as np

from mpcify.numerics import FixedPoint

LEAST, LARGEST = -13, 17
THRESHOLDS = tuple(2.0**power for power in range(LEAST, LARGEST))
FLOAT32_STEP = 2.0**-16  # of the larger roots: float32 then holds their differences exactly, and their sum is 0 again
SHIFT, FLOOR = 5 / math.sqrt(24), 5 / 6
CENTRE = math.sqrt(0.375)  # the w of p = 1
MIDDLE = 0.97**2 * math.sqrt(0.5)  # of x in its range, so that both ends err alike


def factors(number: FixedPoint) -> tuple[np.ndarray, np.ndarray]:
    """s and r below, between and above the thresholds, as the ring holds them; an s that would be 0 is one step."""
    wanted = CENTRE * MIDDLE * 2.0 ** -np.arange(LEAST, LARGEST)
    scales = np.maximum(np.floor(wanted * number.scale), 1) * number.step
    roots = np.sqrt(scales / CENTRE)
    grid = np.where(roots >= 1, max(number.step, FLOAT32_STEP), number.step)
    roots = np.floor(roots / grid) * grid
    return np.append(scales[0], scales), np.append(0.0, roots)


def falls(table: np.ndarray) -> tuple[np.float32, np.ndarray]:
    """A table's last entry, and from each entry how far it falls to the next, in float32 as JAX hands them over.

    What lies below the thresholds adds up its falls: small entries come from small numbers, so that each is exact.
    """
    return np.float32(table[-1]), (table[:-1] - table[1:]).astype(np.float32)
