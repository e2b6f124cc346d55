"""How a process that runs this engine asks the system for memory."""

import ctypes
from functools import cache

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8  # of glibc's mallopt
KEPT = (1 << 31) - 1  # bytes


@cache
def keep_memory() -> bool:
    """Lets the process keep memory that it frees, in one pool for all threads; whether the system can.

    A request makes hundreds of arrays of a megabyte, and each would otherwise be fresh pages, zeroed by the kernel: a
    quarter of the engine's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    options = ((ARENA_MAX, 1), (MMAP_THRESHOLD, KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, 1 << 26))
    done = [mallopt(option, value) for option, value in options]
    return all(done)
