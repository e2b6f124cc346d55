"""Threads that share one product: its C lets other threads run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from mpcify.processors import threads

Act = Callable[[int, int], None]


@cache
def _others() -> ThreadPoolExecutor:
    """All threads but the one that asks; every product of the process shares them."""
    return ThreadPoolExecutor(threads() - 1, "ring-product")


os.register_at_fork(after_in_child=_others.cache_clear)  # a child has none of its parent's threads


def shared(count: int, unit: int, least: int, act: Act) -> None:
    """act(start, end) for parts of range(count) that begin at multiples of `unit`, each in a thread.

    There are as many parts as threads, but of `least` or more each. The caller does one, and then those that no thread
    has begun. Returns, or raises what one of them raised, when none is being done any more.
    """
    parts = min(threads(), count // max(least, unit))
    if parts < 2:
        act(0, count)
        return
    size = -(-count // (parts * unit)) * unit
    ranges = [(start, min(start + size, count)) for start in range(0, count, size)]
    waiting = [(part, _others().submit(act, *part)) for part in ranges[1:]]
    try:
        act(*ranges[0])
        for part, future in waiting:
            if future.cancel():
                act(*part)
    finally:
        begun = [future for _, future in waiting if not future.cancel()]
        failures = [future.exception() for future in begun]
    for failure in filter(None, failures):
        raise failure
