"""The native library: C for the kernels' inner loops, built where a compiler was there, and optional."""

import ctypes
import importlib.util
import sys
from functools import cache

import numpy as np

NAME = f"{__package__}.native"
LINE = 8  # words in a line of the cache


@cache
def library() -> ctypes.CDLL | None:
    """The library, whose calls let other threads run; None if it was not built, or does not load here."""
    found = importlib.util.find_spec(NAME)
    if found is None or found.origin is None or sys.byteorder != "little":
        return None
    try:
        return ctypes.CDLL(found.origin)
    except OSError:
        return None


def words(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy that is C-contiguous. Raises TypeError unless it holds int64."""
    if array.dtype != np.int64:
        raise TypeError(f"a word of the ring is int64, not {array.dtype}")
    return np.require(array, requirements=["C"])


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Where a contiguous array begins; the caller keeps the array alive."""
    return ctypes.c_void_p(array.ctypes.data)


def aligned(count: int) -> np.ndarray:
    """Room for `count` words that begins on a line of the cache."""
    room = np.empty(count + LINE, np.int64)
    start = -(room.ctypes.data // room.itemsize) % LINE
    return room[start : start + count]
