"""Threads that share one product: its C lets other threads run."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import pairwise

from mpcify.processors import threads

Act = Callable[[int, int], None]


@cache
def _others() -> ThreadPoolExecutor:
    """All threads but the one that asks; every product of the process shares them."""
    return ThreadPoolExecutor(threads() - 1, "ring-product")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_others.cache_clear)  # a child has none of its parent's threads


def shared(count: int, unit: int, least: int, act: Act) -> None:
    """act(start, end) for parts of range(count) that begin at multiples of `unit`, each once and in any thread.

    There are as many parts as threads, but of about `least` or more each. The caller does those that no other thread
    does: all, if there is none to be had. Returns, or raises what one of them raised, when none is done any more,
    but for an interrupt: so `act` keeps alive what it writes to. When one of the caller's own has failed none is begun.
    """
    parts = max(min(threads(), count // max(least, unit)), 1)
    pieces = -(-count // unit)
    left = deque(pairwise(min(pieces * part // parts * unit, count) for part in range(parts + 1)))

    def work() -> None:
        while True:
            try:
                part = left.popleft()
            except IndexError:
                return
            act(*part)

    helping: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # no more threads, or the interpreter ends
            for _ in range(parts - 1):
                helping.append(_others().submit(work))
        work()
    finally:
        left.clear()
        failures = [future.exception() for future in helping if not future.cancel()]
    for failure in filter(None, failures):
        raise failure
