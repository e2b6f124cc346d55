"""Sums and products in a ring, the same for every engine's integers; functions are each engine's own."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from mpcify.engines.plain import MOVES
from mpcify.engines.rules import Functions
from mpcify.numerics import FixedPoint

BLOCK = 1 << 14  # elements a function takes at once: its dozens of passes then stay in the cache


def integer_product(a: np.ndarray, b: np.ndarray, transpose: bool = False) -> np.ndarray:
    """a @ b, or a @ bᵀ, in integers that wrap as their type does. a (…, n, p); b (p, q) or (…, p, q).

    By torch: numpy's product of integer matrices is many times slower.
    """
    torch = importlib.import_module("torch")
    left, right = (torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in (a, b))
    right = right.transpose(-1, -2) if transpose else right
    if b.ndim > 2:
        return (left @ right).numpy()
    return (left.reshape(-1, a.shape[-1]) @ right).reshape(*a.shape[:-1], -1).numpy()


def in_blocks(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """An element-wise function, applied block by block."""

    def blocked(x: np.ndarray) -> np.ndarray:
        flat, output = np.ravel(x), np.empty(x.size, x.dtype)
        for start in range(0, x.size, BLOCK):
            output[start : start + BLOCK] = function(flat[start : start + BLOCK])
        return output.reshape(x.shape)

    return blocked


class Arithmetic(ABC):
    """Sums and products of numbers in a ring; every array holds signed representatives of `number.dtype`."""

    number: FixedPoint

    @abstractmethod
    def constant(self, value: float) -> int:
        """A public constant as the engine encodes it."""

    def multiply(self, a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
        """a · b, wrapped and truncated. b: an array, or an encoded constant."""
        return self.number.truncate(self.number.wrap(a * b))

    def add(self, a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
        """a + b, wrapped."""
        return self.number.wrap(a + b)

    def subtract(self, a: np.ndarray | int, b: np.ndarray) -> np.ndarray:
        """a − b, wrapped."""
        return self.number.wrap(a - b)

    def sum(self, x: np.ndarray, axis: int) -> np.ndarray:
        """The sum over one axis, kept with size 1, wrapped."""
        return self.number.wrap(x.sum(axis, dtype=x.dtype, keepdims=True))

    def scale(self, x: np.ndarray, by: float) -> np.ndarray:
        """x · by, a public number."""
        return self.multiply(x, self.number.factor(by))

    def product(self, a: np.ndarray, b: np.ndarray, transpose: bool = False) -> np.ndarray:
        """a @ b, or a @ bᵀ, wrapped and truncated."""
        return self.number.truncate(self.number.wrap(integer_product(a, b, transpose)))

    def common(self) -> Functions:
        """The kinds that need no function of an engine's own."""
        return {
            **MOVES,
            "linear": lambda x, w, b: self.add(self.product(x, w), b),
            "matmul": self.product,
            "mul": self.multiply,
            "square": lambda x: self.multiply(x, x),
            "scale": self.scale,
            "add": self.add,
            "sub": self.subtract,
            "shift": lambda x, by: self.add(x, self.constant(by)),
            "sum": self.sum,
        }
