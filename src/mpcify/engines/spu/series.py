"""Series of our own that SPU runs in place of its own, and that the engine `fixed` runs alike."""

import math

# x^(−1/2) for 2^LEAST ≤ x < 2^LARGEST: a guess by comparisons, then two steps y·((√0.375·xy² − SHIFT)² + 5/6).
LEAST, LARGEST = -13, 17
THRESHOLDS = tuple(2.0**power for power in range(LEAST + 1, LARGEST))
GUESSES = tuple(0.97 * 2.0 ** (-(power + 0.5) / 2) for power in range(LEAST, LARGEST))
SCALE, SHIFT, FLOOR = math.sqrt(0.375), 5 / math.sqrt(24), 5 / 6
STEPS = 2
