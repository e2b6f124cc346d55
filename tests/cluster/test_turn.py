"""Turns: one thread at a time, in the order of asking."""

import threading
import time
from collections.abc import Callable

import pytest

from mpcify.cluster.turn import Turn

PATIENCE = 10.0


def queued(turn: Turn, work: Callable[[], object]) -> threading.Thread:
    """A thread that waits for its turn, in which it works."""

    def run() -> None:
        with turn:
            work()

    before, thread = turn.waiting, threading.Thread(target=run, daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE
    while turn.waiting == before and time.monotonic() < end:
        time.sleep(0.001)
    assert turn.waiting == before + 1
    return thread


def test_who_asked_first_is_first_and_who_has_had_a_turn_queues_again() -> None:
    turn, order = Turn(), list[int]()
    with turn:
        threads = [queued(turn, lambda number=number: order.append(number)) for number in range(20)]
    with turn:
        assert order == [*range(20)]
    for thread in threads:
        thread.join(PATIENCE)
    assert turn.waiting == 0


def test_a_thread_that_holds_it_may_take_it_again_and_keeps_it_until_the_end() -> None:
    turn, order = Turn(), list[str]()
    with turn:
        with turn:
            thread = queued(turn, lambda: order.append("other"))
        order.append("holder")
    thread.join(PATIENCE)
    assert order == ["holder", "other"]


def test_who_is_interrupted_while_waiting_leaves_the_queue() -> None:
    turn = Turn()
    told = threading.Event()

    def wait() -> None:
        with pytest.raises(KeyboardInterrupt), turn:
            pass
        told.set()

    with turn:
        turn._change.wait_for = interrupted  # type: ignore[method-assign]
        threading.Thread(target=wait, daemon=True).start()
        assert told.wait(PATIENCE)
        del turn._change.wait_for  # type: ignore[attr-defined]
        assert turn.waiting == 0
        order = list[str]()
        thread = queued(turn, lambda: order.append("next"))
    thread.join(PATIENCE)
    assert order == ["next"]


def interrupted(_: Callable[[], bool]) -> bool:
    raise KeyboardInterrupt
