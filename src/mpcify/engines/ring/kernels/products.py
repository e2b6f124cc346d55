"""Matrix products in Z_{2^K}: words are int64 and wrap mod 2^64. The fastest way that is there is chosen by measuring.

A kernel is right for rings of up to `widest` bits: above them its words may hold anything.
"""

import ctypes
import importlib
import itertools
import math
import sys
import time
import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, final

import numpy as np

from mpcify.engines.ring.kernels.library import aligned, library, pointer, words
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.extras import require

# the kinds of products.c, and the widest ring of each; amx: digits of 8 bits in the processor's matrix unit
NATIVE = {"portable": 64, "avx2": 64, "avx512": 64, "ifma": 52, **{f"amx{bits}": bits for bits in (32, 40, 48, 56, 64)}}
BLAS = {42: 2, 64: 3}  # rings, and digits of a word in them
SHAPE = (64, 256, 192)  # of the product that is measured
REPEATS = 3
SLOW = "products of floats in place of integers take about five times as long as native code"


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
    def prepare(self, right: np.ndarray) -> Prepared:
        """A right matrix (p, q) for many products; once per weight."""

    @abstractmethod
    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        """left @ right, (m, p) @ (p, q) → (m, q)."""

    @abstractmethod
    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        """left @ right, (…, m, p) @ (…, p, q) → (…, m, q), or left @ rightᵀ, right (…, q, p). Equal leading axes."""


def _fit(kernel: Kernel, left: np.ndarray, right: Prepared) -> None:
    if left.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ValueError(f"{left.shape} does not fit a product with {right.shape}")
    if right.kernel != kernel.name:
        raise ValueError(f"prepared for {right.kernel}, not for {kernel.name}")


def _oriented(left: np.ndarray, right: np.ndarray, transpose: bool) -> tuple[int, ...]:
    """The shape of a batched product."""
    *leading, p, q = (*right.shape[:-2], *right.shape[:-3:-1]) if transpose else right.shape
    if left.ndim < 2 or left.shape[:-2] != tuple(leading) or left.shape[-1] != p:
        raise ValueError(f"{left.shape} does not fit a product with {right.shape}, transpose {transpose}")
    return (*left.shape[:-1], q)


@final
class Native(Kernel):
    """The C of products.c. One thread a call; other threads run meanwhile."""

    def __init__(self, code: ctypes.CDLL, name: str) -> None:
        self.name, self.widest, self._code = name, NATIVE[name], code
        self._kind = ctypes.c_int(code.kind_named(name.encode()))
        code.panel_words.restype = code.block_words.restype = ctypes.c_int64

    def prepare(self, right: np.ndarray) -> Prepared:
        right = words(right)
        p, q = map(ctypes.c_int64, right.shape)
        panels = aligned(self._code.panel_words(self._kind, p, q))
        self._code.pack_right(self._kind, pointer(right), pointer(panels), p, q, 0)
        return Prepared(self.name, right.shape, panels)

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        _fit(self, left, right)
        left, output = words(left), np.empty((left.shape[0], right.shape[1]), np.int64)
        m, p, q = map(ctypes.c_int64, (*left.shape, right.shape[1]))
        scratch = aligned(self._code.block_words(self._kind, m, p))
        self._code.product(self._kind, pointer(left), pointer(right.words), pointer(output), m, p, q, pointer(scratch))
        return output

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        output = np.empty(_oriented(left, right, transpose), np.int64)
        left, right = words(left), words(right)
        count = math.prod(left.shape[:-2])
        sizes = m, p, q = tuple(map(ctypes.c_int64, (*left.shape[-2:], output.shape[-1])))
        scratch = aligned(self._code.panel_words(self._kind, p, q) + self._code.block_words(self._kind, m, p))
        places = pointer(left), pointer(right), pointer(output), ctypes.c_int64(count)
        self._code.products(self._kind, *places, *sizes, int(transpose), pointer(scratch))
        return output


@final
class Torch(Kernel):
    """torch's product of int64 tensors on the CPU, where torch is installed."""

    name, widest = "torch", 64

    def __init__(self) -> None:
        self._torch = importlib.import_module("torch")

    def _tensor(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(np.require(words(array), requirements=["W"]))

    def prepare(self, right: np.ndarray) -> Prepared:
        p, q = right.shape
        return Prepared(self.name, (p, q), self._tensor(right))

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        _fit(self, left, right)
        return (self._tensor(left) @ right.words).numpy()

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        _oriented(left, right, transpose)
        other = self._tensor(right)
        return (self._tensor(left) @ (other.mT if transpose else other)).numpy()


@final
class Blas(Kernel):
    """Numpy's product of floats: of signed digits of words, x = Σ dᵢ·2^(bits·i) with |dᵢ| ≤ 2^(bits−1).

        a·b = Σ_w 2^(bits·w) · Σ_{i+j=w} aᵢ·bⱼ,   w below the number of digits,

    where a product of digits sums up at most `depth` terms, which stays within 2^53 and is exact.
    """

    def __init__(self, widest: int, digits: int) -> None:
        self.name, self.widest, self.digits = f"blas{widest}", widest, digits
        self.bits = -(-widest // digits)
        self.depth = 1 << 53 - 2 * (self.bits - 1)

    def prepare(self, right: np.ndarray) -> Prepared:
        return Prepared(self.name, right.shape, self._split(right, np.float32))  # holds 24 bits, in half the room

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        _fit(self, left, right)
        return self._times(left, right.words)

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        _oriented(left, right, transpose)
        return self._times(left, self._split(right.mT if transpose else right, np.float64))

    def _split(self, array: np.ndarray, kind: type[np.floating]) -> np.ndarray:
        """The digits of words, the lowest first: what is above the last is left out."""
        rest, found = words(array), np.empty((self.digits, *array.shape), kind)
        half = 1 << self.bits - 1
        for digit in found:
            low = (rest + half & 2 * half - 1) - half
            digit[...] = low
            rest = rest - low >> self.bits
        return found

    def _times(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """left @ right, for the digits of a right matrix or of many."""
        output = np.zeros((*left.shape[:-1], right.shape[-1]), np.int64)
        mine = self._split(left, np.float64)
        for start in range(0, left.shape[-1], self.depth):
            part = slice(start, start + self.depth)
            theirs = right[..., part, :].astype(np.float64, copy=False)
            for i, j in itertools.product(range(self.digits), repeat=2):
                if i + j < self.digits:
                    output += (mine[i, ..., part] @ theirs[j]).astype(np.int64) << self.bits * (i + j)
        return output


def there() -> list[Kernel]:
    """Every kernel that this machine runs.

    torch takes seconds to import: beside C for the processor's wide registers it is there only if it was imported.
    """
    code = library()
    kernels: list[Kernel] = []
    if code is not None:
        kernels += [Native(code, name) for name in NATIVE if code.kind_named(name.encode()) >= 0]
    if {kernel.name for kernel in kernels} <= {"portable"} or sys.modules.get("torch"):
        with suppress(MpcifyError):
            require("torch")
            kernels.append(Torch())
    return [*kernels, *(Blas(widest, digits) for widest, digits in BLAS.items())]


def _rate(kernel: Kernel) -> float:
    """Billions of multiply-adds a second of a product of SHAPE: the best of a few."""
    m, p, q = SHAPE
    left, right = (np.arange(a * b, dtype=np.int64).reshape(a, b) for a, b in ((m, p), (p, q)))
    prepared, seconds = kernel.prepare(right), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        kernel.product(left, prepared)
        seconds.append(time.perf_counter() - start)
    return math.prod(SHAPE) / min(seconds) / 1e9


@cache
def _measured() -> list[tuple[Kernel, float]]:
    return sorted(((kernel, _rate(kernel)) for kernel in there()), key=lambda rate: rate[1], reverse=True)


_measuring = Lock()


def _fastest_first() -> list[tuple[Kernel, float]]:
    with _measuring:
        return _measured()


def measured() -> dict[str, dict[str, float]]:
    """Of each kernel that is there, the fastest first: the widest ring, and billions of multiply-adds a second."""
    return {kernel.name: {"bits": kernel.widest, "rate": rate} for kernel, rate in _fastest_first()}


def blas_alone() -> bool:
    """Whether there are neither native kernels nor torch."""
    return all(isinstance(kernel, Blas) for kernel, _ in _fastest_first())


def kernel(bits: int, device: str = "cpu") -> Kernel:
    """The fastest kernel for a ring of `bits`, by one short measurement a process. Raises MPC-501 off the CPU."""
    if device != "cpu":
        raise MpcifyError(501, f"device {device}", "products in the ring run on the CPU", "use --device cpu")
    fastest = next(kernel for kernel, _ in _fastest_first() if kernel.widest >= bits)
    if blas_alone():
        warnings.warn(f"{SLOW}. Do this: install a C compiler, then mpcify again", MpcifyWarning, stacklevel=2)
    return fastest
