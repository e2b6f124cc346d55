"""Matrix products in Z_{2^K}: words are int64 and wrap mod 2^64. The fastest way that is there is chosen by measuring.

A kernel is right for rings of up to `widest` bits: above them its words may hold anything.
"""

import ctypes
import importlib
import math
import sys
import time
import warnings
from contextlib import suppress
from functools import cache
from threading import Lock
from typing import Any, final

import numpy as np

from mpcify.engines.ring.kernels.floats import DIGITS, Blas, Cuda
from mpcify.engines.ring.kernels.kernel import Kernel, Prepared, digits_held, fit, oriented
from mpcify.engines.ring.kernels.library import aligned, library, pointer, words
from mpcify.engines.ring.kernels.threads import shared
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.extras import require

# the kinds of products.c, and the widest ring of each; amx: digits of 8 bits in the processor's matrix unit
NATIVE = {"portable": 64, "avx2": 64, "avx512": 64, "ifma": 52, **{f"amx{bits}": bits for bits in (32, 40, 48, 56, 64)}}
INT8 = (32, 40, 48)  # rings; of wider ones the digits are too many
WORD = 8  # bytes
PANEL = 48  # columns, by which a product may be cut: of every kind's panels
LEAST = 1 << 22  # multiply-adds that are worth a thread
SIGNS = -0x7F7F7F7F7F7F7F80  # 0x80…80
SPREAD = 0x1E3779B97F4A7C15  # times whole numbers it gives words of every size
SHAPE = (128, 512, 256)  # of the product that is measured
REPEATS, ENOUGH = 3, 0.1  # how often it is, and after how many seconds no more
SLOW = "without native kernels a product takes several times as long"


@final
class Native(Kernel):
    """The C of products.c, in as many threads as `shared` takes."""

    def __init__(self, code: ctypes.CDLL, name: str) -> None:
        self.name, self.widest, self._code = name, NATIVE[name], code
        self._kind = ctypes.c_int(code.kind_named(name.encode()))
        code.panel_words.restype = code.block_words.restype = ctypes.c_int64

    def prepare(self, right: np.ndarray, bits: int | None = None) -> Prepared:
        right, held = words(right), digits_held(right, 8, WORD)
        if self._code.few_bits(self._kind, held) < (bits or self.widest):
            held = WORD
        p, q = map(ctypes.c_int64, right.shape)
        panels = aligned(self._code.panel_words(self._kind, held, p, q))
        self._code.pack_right(self._kind, held, pointer(right), pointer(panels), p, q, 0)
        return Prepared(self.name, right.shape, (panels, ctypes.c_int(held)))

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        fit(self, left, right)
        left, output = words(left), np.empty((left.shape[0], right.shape[1]), np.int64)
        m, p, q = map(ctypes.c_int64, (*left.shape, right.shape[1]))
        panels, held = right.words

        def columns(start: int, end: int) -> None:
            places, scratch = map(pointer, (left, panels, output)), aligned(self._code.block_words(self._kind, m, p))
            part = ctypes.c_int64(start), ctypes.c_int64(end)
            self._code.product(self._kind, held, *places, m, p, q, *part, pointer(scratch))

        shared(right.shape[1], PANEL, LEAST // max(left.size, 1), columns)
        return output

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        output = np.empty(oriented(left, right, transpose), np.int64)
        left, right = words(left), words(right)
        sizes = m, p, q = tuple(map(ctypes.c_int64, (*left.shape[-2:], output.shape[-1])))
        room = self._code.panel_words(self._kind, WORD, p, q) + self._code.block_words(self._kind, m, p)

        def some(start: int, end: int) -> None:
            places = (pointer(x, start * math.prod(x.shape[-2:])) for x in (left, right, output))
            count, scratch = ctypes.c_int64(end - start), aligned(room)
            self._code.products(self._kind, *places, count, *sizes, int(transpose), pointer(scratch))

        each = max(math.prod(output.shape[-2:]) * left.shape[-1], 1)
        shared(math.prod(left.shape[:-2]), 1, LEAST // each, some)
        return output


class Torch(Kernel):
    """torch's product of int64 tensors on the CPU, where torch is installed."""

    name, widest = "torch", 64

    def __init__(self) -> None:
        self._torch = importlib.import_module("torch")

    def _tensor(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(np.require(words(array), requirements=["W"]))

    def prepare(self, right: np.ndarray, bits: int | None = None) -> Prepared:
        p, q = right.shape
        return Prepared(self.name, (p, q), self._tensor(right))

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        fit(self, left, right)
        return (self._tensor(left) @ right.words).numpy()

    def products(self, left: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
        oriented(left, right, transpose)
        other = self._tensor(right)
        return (self._tensor(left) @ (other.mT if transpose else other)).numpy()


@final
class Int8(Torch):
    """torch's product of 8-bit integers, of signed digits: fast where a processor multiplies those in hardware.

    Σ_w 2^8w · (a₀ … a_w)·(b_w … b₀)ᵀ, digits side by side along the inner axis: a sum of 32 bits has at most 2^17 − 1
    products of two digits. Many products of small matrices, of which each would be split anew, are those of int64.
    """

    def __init__(self, widest: int) -> None:
        super().__init__()
        self.name, self.widest, self.digits = f"torch{widest}", widest, widest // 8
        self.depth = ((1 << 17) - 1) // self.digits

    def _split(self, array: np.ndarray) -> Any:
        """The digits of words, the lowest first, along a new last axis: x = Σ dᵢ·2^8i, −128 ≤ dᵢ < 128."""
        signs = np.int64(SIGNS)
        return self._torch.from_numpy(((words(array) + signs) ^ signs).view(np.int8).reshape(*array.shape, WORD))

    def _stacked(self, right: np.ndarray) -> list[Any]:
        """A right matrix's digits below each other, the highest first; a part for each `depth` of its rows."""
        held = digits_held(right, 8, self.digits)
        digits, starts = self._split(right), range(0, right.shape[0], self.depth)
        return [
            self._torch.cat([digits[start : start + self.depth, :, i] for i in reversed(range(held))])
            for start in starts
        ]

    def _times(self, left: np.ndarray, right: list[Any], columns: int) -> np.ndarray:
        output = self._torch.zeros(left.shape[0], columns, dtype=self._torch.int64)
        digits = self._split(left)
        for number, stack in enumerate(right):
            part = digits[:, number * self.depth : (number + 1) * self.depth]
            mine = self._torch.cat([part[..., i] for i in range(self.digits)], 1)
            depth, total = part.shape[1], self._torch.zeros_like(output)
            held = stack.shape[0] // depth
            for w in reversed(range(self.digits)):
                least = max(w - held + 1, 0)  # below it the left digit has no partner
                theirs = stack[(held - 1 - w + least) * depth :]
                total.mul_(256).add_(self._torch._int_mm(mine[:, least * depth : (w + 1) * depth].contiguous(), theirs))
            output += total
        return output.numpy()

    def prepare(self, right: np.ndarray, bits: int | None = None) -> Prepared:
        return Prepared(self.name, right.shape, self._stacked(right))

    def product(self, left: np.ndarray, right: Prepared) -> np.ndarray:
        fit(self, left, right)
        return self._times(left, right.words, right.shape[1])


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
            kernels += [Torch(), *map(Int8, INT8)]
    return [*kernels, *map(Blas, DIGITS)]


def _rate(kernel: Kernel) -> float:
    """Billions of multiply-adds a second of a product of SHAPE, of words of all digits: the best of a few."""
    m, p, q = SHAPE
    left, right = (np.arange(a * b, dtype=np.int64).reshape(a, b) * SPREAD for a, b in ((m, p), (p, q)))
    prepared, seconds = kernel.prepare(right), list[float]()
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
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


def measured(device: str = "cpu") -> dict[str, dict[str, float]]:
    """Of each kernel that is there, the fastest first, but those of a GPU before: the widest ring, and billions of
    multiply-adds a second. Raises MPC-501 for a GPU that is not there, MPC-504 for torch.
    """
    beside = [] if device == "cpu" else [(kernel, _rate(kernel)) for kernel in map(_on_gpu, DIGITS)]
    return {kernel.name: {"bits": kernel.widest, "rate": rate} for kernel, rate in (*beside, *_fastest_first())}


def blas_alone() -> bool:
    """Whether there are neither native kernels nor torch."""
    return all(isinstance(kernel, Blas) for kernel, _ in _fastest_first())


@cache
def _on_gpu(widest: int) -> Kernel:
    """Raises MPC-501 if there is no GPU that multiplies exactly, MPC-504 if torch is missing."""
    require("torch")
    if not importlib.import_module("torch").cuda.is_available():
        raise MpcifyError(501, "device cuda", "torch finds no GPU here", "use --device cpu, or a build of torch for it")
    return Cuda(widest)


def kernel(bits: int, device: str = "cpu") -> Kernel:
    """The fastest kernel for a ring of `bits`, by one short measurement a process; on a GPU the one that it has.

    Raises MPC-501 if there is no GPU, MPC-504 if torch is missing.
    """
    if device != "cpu":
        return _on_gpu(next(widest for widest in DIGITS if widest >= bits))
    fastest = next(kernel for kernel, _ in _fastest_first() if kernel.widest >= bits)
    if blas_alone():
        warnings.warn(f"{SLOW}. Do this: install a C compiler, then mpcify again", MpcifyWarning, stacklevel=2)
    return fastest
