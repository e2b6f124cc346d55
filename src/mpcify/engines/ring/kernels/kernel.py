"""What a way to multiply matrices in a ring offers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Prepared:
    """A right matrix, shape (p, q), as the kernel of that name multiplies by it."""

    kernel: str
    shape: tuple[int, int]
    words: Any


class Kernel(ABC):
    """A way to multiply matrices of int64 words mod 2^`widest`. Raises ValueError for shapes that do not fit."""

    name: str
    widest: int

    @abstractmethod
    def prepare(self, right: np.ndarray, bits: int | None = None) -> Prepared:
        """A right matrix (p, q) for many products; once per weight. bits: products right mod 2^bits are enough."""

    @abstractmethod
    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        """left @ right, (m, p) @ (p, q) → (m, q)."""

    @abstractmethod
    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        """left @ right, (…, m, p) @ (…, p, q) → (…, m, q), or left @ rightᵀ, right (…, q, p). Equal leading axes."""


def digits_held(words: np.ndarray, bits: int, most: int) -> int:
    """How many digits hold each word, up to `most`: x = Σ dᵢ·2^(bits·i), −2^(bits−1) ≤ dᵢ < 2^(bits−1).

    An owner's weights have few, what hides them has all. So a product of full words with weights takes fewer products
    of digits.
    """
    half, lowest, highest = 1 << bits - 1, int(words.min(initial=0)), int(words.max(initial=0))
    for count in range(1, most):
        ones = sum(1 << bits * place for place in range(count))
        if -half * ones <= lowest and highest <= (half - 1) * ones:
            return count
    return most


def fit(kernel: Kernel, left: np.ndarray, right: Prepared) -> None:
    """Raises ValueError unless `left` fits what was prepared, and for this kernel."""
    if left.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ValueError(f"{left.shape} does not fit a product with {right.shape}")
    if right.kernel != kernel.name:
        raise ValueError(f"prepared for {right.kernel}, not for {kernel.name}")


def oriented(left: np.ndarray, right: np.ndarray, transpose: bool) -> tuple[int, ...]:
    """The shape of a batched product. Raises ValueError for matrices that do not fit."""
    *leading, p, q = (*right.shape[:-2], *right.shape[:-3:-1]) if transpose else right.shape
    if left.ndim < 2 or left.shape[:-2] != tuple(leading) or left.shape[-1] != p:
        raise ValueError(f"{left.shape} does not fit a product with {right.shape}, transpose {transpose}")
    return (*left.shape[:-1], q)
