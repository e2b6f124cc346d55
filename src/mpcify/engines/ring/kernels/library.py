"""The native library: C for the kernels' inner loops, built where a compiler was there, and optional."""

import ctypes
import hashlib
import importlib.util
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from mpcify.errors import MpcifyWarning

NAME = f"{__package__}.native"
LINE = 8  # words in a line of the cache


@cache
def library() -> ctypes.CDLL | None:
    """The library, whose calls let other threads run; None if it was not built, or does not load here.

    None, with a warning, for one that was not built from the sources beside it: its calls may take other arguments.
    """
    found = importlib.util.find_spec(NAME)
    if found is None or found.origin is None or sys.byteorder != "little":
        return None
    try:
        loaded = ctypes.CDLL(found.origin)
    except OSError:
        return None
    if not is_of(loaded, Path(found.origin).parent):
        what = "the native kernels were built from other sources, and are not used"
        warnings.warn(MpcifyWarning(f"{found.origin}: {what}; install mpcify again"), stacklevel=2)
        return None
    return loaded


def is_of(loaded: ctypes.CDLL, folder: Path) -> bool:
    """Whether a library was built from the sources in a folder, or there are none: a wheel has them not."""
    sources = sorted(folder.glob("*.[ch]"))
    try:
        built = loaded.sources
    except AttributeError:
        return False
    built.restype = ctypes.c_uint64
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return not sources or built() == int(digest, 16)


def words(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy that is C-contiguous. Raises TypeError unless it holds int64."""
    if array.dtype != np.int64:
        raise TypeError(f"a word of the ring is int64, not {array.dtype}")
    return np.require(array, requirements=["C"])


def pointer(array: np.ndarray, first: int = 0) -> ctypes.c_void_p:
    """Where the item `first` of a contiguous array is; the caller keeps the array alive."""
    return ctypes.c_void_p(array.ctypes.data + array.itemsize * first)


def aligned(count: int) -> np.ndarray:
    """Room for `count` words that begins on a line of the cache."""
    room = np.empty(count + LINE, np.int64)
    start = -(room.ctypes.data // room.itemsize) % LINE
    return room[start : start + count]
