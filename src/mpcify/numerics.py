"""Fixed point in a ring: how numbers become integers mod 2^K, and how large they may grow before they wrap.

A number x is the integer x·2^f, kept as its signed representative mod 2^K. A product has 2f fraction bits until it is
truncated, so it must stay far below what a value may reach. Nothing is raised if a number wraps: hence the bounds.
"""

import math
from dataclasses import dataclass

import numpy as np

from mpcify.errors import MpcifyError

DEFAULT_FRACTION_BITS = {64: 18, 48: 14, 32: 12}


@dataclass(frozen=True)
class FixedPoint:
    """Numbers with f = `fraction_bits` in the ring of integers mod 2^K, K = `ring` (64, 48 or 32).

    Raises MPC-501 for another ring, or if f leaves no room for a product (2 ≤ f ≤ K/2 − 2).
    """

    ring: int = 64
    fraction_bits: int = 18

    def __post_init__(self) -> None:
        where = "ring and fraction bits"
        if self.ring not in DEFAULT_FRACTION_BITS:
            raise MpcifyError(501, where, f"there is no ring 2^{self.ring}", "use --ring 64, 48 or 32")
        most = self.ring // 2 - 2
        if type(self.fraction_bits) is not int or not 2 <= self.fraction_bits <= most:
            raise MpcifyError(
                501,
                where,
                f"{self.fraction_bits} fraction bits do not fit a product in the ring 2^{self.ring}",
                f"use --fraction-bits from 2 to {most}, or leave it out for {DEFAULT_FRACTION_BITS[self.ring]}",
            )

    @staticmethod
    def of(ring: int, fraction_bits: int | None = None) -> "FixedPoint":
        """The numbers of a ring, with its usual fraction bits (64: 18, 48: 14, 32: 12) if none are given."""
        return FixedPoint(ring, DEFAULT_FRACTION_BITS.get(ring, 0) if fraction_bits is None else fraction_bits)

    @property
    def scale(self) -> float:
        """2^f, the integer that stands for 1."""
        return math.ldexp(1.0, self.fraction_bits)

    @property
    def step(self) -> float:
        """2^−f, the smallest difference."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def product_bound(self) -> float:
        """2^(K−2−2f): if |product|, a dot's whole sum included, stays below it, its truncation is right (ABY3)."""
        return math.ldexp(1.0, self.ring - 2 - 2 * self.fraction_bits)

    @property
    def value_bound(self) -> float:
        """2^(K−2−f): the largest |value|; inputs are clamped to it, and two values below it can be compared."""
        return math.ldexp(1.0, self.ring - 2 - self.fraction_bits)

    @property
    def compare_bound(self) -> float:
        """2^(K−1−f): the largest |x − y| whose sign is right."""
        return math.ldexp(1.0, self.ring - 1 - self.fraction_bits)

    @property
    def dtype(self) -> np.dtype:
        """The narrowest array type whose own arithmetic wraps as the ring does, or (K = 48) holds it."""
        return np.dtype(np.int32 if self.ring == 32 else np.int64)

    def encode(self, x: np.ndarray | float) -> np.ndarray:
        """x·2^f as int64: rounded towards zero, clamped to ±2^(K−2), NaN to 0. Any shape."""
        limit = 1 << (self.ring - 2)
        scaled = np.nan_to_num(np.asarray(x, np.float64) * self.scale, nan=0.0, posinf=np.inf, neginf=-np.inf)
        return np.minimum(np.clip(scaled, -float(limit), float(limit)).astype(np.int64), limit - 1)

    def factor(self, value: float) -> int:
        """The integer nearest to value·2^f, clamped to ±2^(K−2): a public number as a product takes it.

        0 below half a step.
        """
        limit = math.ldexp(1.0, self.ring - 2)
        return round(min(max(value * self.scale, -limit), limit))

    def decode(self, integers: np.ndarray) -> np.ndarray:
        """The numbers (float64) that signed representatives stand for."""
        return np.asarray(integers) / self.scale

    def wrap(self, integers: np.ndarray) -> np.ndarray:
        """The signed representative mod 2^K of each integer (int64, or int32 for K = 32), of the same type."""
        unused = integers.dtype.itemsize * 8 - self.ring
        return integers if unused == 0 else (integers << unused) >> unused

    def truncate(self, integers: np.ndarray, bits: int | None = None) -> np.ndarray:
        """The signed representatives divided by 2^`bits` (default f), to the nearest integer, halves up.

        A protocol rounds up or down by chance, without bias and less than one step away (ABY3); the nearest integer is
        its likeliest answer, while flooring would add half a step of bias at each product. Above `product_bound`, too,
        the likeliest answer is that of the wrapped representative.
        """
        halves = integers >> ((self.fraction_bits if bits is None else bits) - 1)
        halves += 1
        halves >>= 1
        return halves

    def headroom(self, reach: float, bound: float) -> float:
        """log₂(bound / reach), the bits left below a bound; `reach` is at least one step. −∞ if it is not finite."""
        return math.log2(bound / max(reach, self.step)) if math.isfinite(reach) else -math.inf
