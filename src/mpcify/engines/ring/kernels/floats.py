"""Products of words by products of floats, which every library of matrices has: in numpy, and on a GPU.

numpy's takes as many threads as that library does.

A word is x = Σ dᵢ·2^(bits·i) with |dᵢ| ≤ 2^(bits−1), so

    a·b = Σ_w 2^(bits·w) · Σ_{i+j=w} aᵢ·bⱼ,   w below the number of digits.

What is prepared has no more digits than its largest word.

A product of two digits' matrices sums up 2^(53 − 2(bits−1)) terms at most: it stays within 2^53 and is exact.
"""

import importlib
from abc import abstractmethod
from typing import Any, final

import numpy as np

from mpcify.engines.ring.kernels.kernel import Kernel, Prepared, digits_held, fit, oriented
from mpcify.engines.ring.kernels.library import words
from mpcify.errors import MpcifyError

DIGITS = {42: 2, 64: 3}  # rings, the narrowest first, and the digits of a word in them


def odd(rows: int, columns: int, bits: int) -> np.ndarray:
    """Words of one digit, negative, odd and about as far from 0 as it may be: a sum of their products takes all the
    bits that it can, and a bit lost shows.
    """
    return 2 * np.arange(rows * columns).reshape(rows, columns) % 64 + 1 - (1 << bits - 1)


class Floats(Kernel):
    """Signed digits, multiplied as float64. Arrays: of the library that does it."""

    def __init__(self, widest: int) -> None:
        self.widest, self.digits = widest, DIGITS[widest]
        self.bits = -(-widest // self.digits)
        self.depth = 1 << 53 - 2 * (self.bits - 1)

    @abstractmethod
    def load(self, array: np.ndarray) -> Any:
        """Words as an array of the library."""

    @abstractmethod
    def store(self, array: Any) -> np.ndarray:
        """Words as they were."""

    @abstractmethod
    def cast(self, array: Any, kind: str) -> Any:
        """An array of another kind: float64, int64 or int32."""

    def prepare(self, right: np.ndarray, bits: int | None = None) -> Prepared:
        digits = self.split(self.load(right), digits_held(right, self.bits, self.digits))
        return Prepared(self.name, right.shape, [self.cast(digit, "int32") for digit in digits])

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        fit(self, left, right)
        return self.times(left, right.words)

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        oriented(left, right, transpose)
        loaded = self.load(right)
        return self.times(left, self.split(loaded.mT if transpose else loaded, self.digits))

    def split(self, rest: Any, digits: int) -> list[Any]:
        """The digits of words, the lowest first; what is above the last is left out."""
        half, found = 1 << self.bits - 1, []
        for _ in range(digits):
            found.append((rest + half & 2 * half - 1) - half)
            rest = rest - found[-1] >> self.bits
        return found

    def times(self, left: np.ndarray, right: list[Any]) -> np.ndarray:
        """left @ right, for a right matrix's digits, or those of many."""
        mine = [self.cast(digit, "float64") for digit in self.split(self.load(left), self.digits)]
        shape = (*left.shape[:-1], right[0].shape[-1])
        output = self.load(np.zeros(shape, np.int64))
        for start in range(0, left.shape[-1], self.depth):
            part = slice(start, start + self.depth)
            for j, digit in enumerate(right):
                theirs = self.cast(digit[..., part, :], "float64")
                for i in range(self.digits - j):
                    output += self.cast(mine[i][..., part] @ theirs, "int64") << self.bits * (i + j)
        return self.store(output)


@final
class Blas(Floats):
    """In numpy, whose products of floats are a library's, and those of integers are not."""

    def __init__(self, widest: int) -> None:
        super().__init__(widest)
        self.name = f"blas{widest}"

    def load(self, array: np.ndarray) -> np.ndarray:
        return words(array)

    def store(self, array: np.ndarray) -> np.ndarray:
        return array

    def cast(self, array: np.ndarray, kind: str) -> np.ndarray:
        return array.astype(kind)


@final
class Cuda(Floats):
    """In torch, on a GPU: what is prepared stays there. device: another of torch's, to try it.

    Raises MPC-501 if its products of floats are not exact.
    """

    def __init__(self, widest: int, device: str = "cuda") -> None:
        super().__init__(widest)
        self.name, self.device = f"{device}{widest}", device
        self._torch = importlib.import_module("torch")
        left, right = odd(8, self.depth, self.bits), odd(self.depth, 8, self.bits)
        if not np.array_equal(self.product(left, self.prepare(right)), left @ right):
            what = "its products of floats are not exact: each should be rounded at 53 bits"
            raise MpcifyError(501, f"device {device}", what, "use --device cpu")

    def load(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(np.require(words(array), requirements=["W"])).to(self.device)

    def store(self, array: Any) -> np.ndarray:
        return array.cpu().numpy()

    def cast(self, array: Any, kind: str) -> Any:
        return array.to(getattr(self._torch, kind))
