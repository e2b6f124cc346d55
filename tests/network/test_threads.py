"""Threads that nothing waits for when Python exits."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from mpcify.network.threads import OneThread

SOON = 10.0  # seconds


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_calls_run_in_the_order_in_which_they_came_and_one_that_raises_stops_none() -> None:
    worker, seen = OneThread("in-order"), list[int]()
    failing = worker.submit(lambda: 1 // 0)
    futures = [worker.submit(seen.append, number) for number in range(100)]
    assert isinstance(failing.exception(SOON), ZeroDivisionError)
    assert [future.result(SOON) for future in futures] == [None] * 100
    assert seen == [*range(100)]
    worker.shutdown()
    assert named("in-order") == []


def test_what_has_not_begun_at_its_end_is_cancelled_and_nothing_more_is_taken() -> None:
    worker, begun, over = OneThread("cancelled"), threading.Event(), threading.Event()
    running = worker.submit(lambda: begun.set() or over.wait(SOON))
    waiting = [worker.submit(int) for _ in range(3)]
    assert begun.wait(SOON)
    worker.shutdown(wait=False, cancel_futures=True)
    worker.shutdown(wait=False, cancel_futures=True)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(SOON)
    with pytest.raises(RuntimeError):
        worker.submit(int)
    over.set()
    assert running.result(SOON)
    worker.shutdown()
    assert named("cancelled") == []


def test_a_call_may_end_its_own_thread() -> None:
    worker = OneThread("own")
    worker.submit(worker.shutdown).result(SOON)
    worker.shutdown()
    assert named("own") == []


def test_a_thread_ends_with_what_holds_it() -> None:
    OneThread("forgotten").submit(int).result(SOON)
    gc.collect()
    end = time.monotonic() + SOON
    while named("forgotten"):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_call_that_never_ends_keeps_no_process_alive() -> None:
    code = "from mpcify.network.threads import OneThread; import threading; worker = OneThread('x')"
    code += "; worker.submit(threading.Event().wait); worker.submit(int)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=SOON, text=True)
    assert (done.returncode, done.stderr) == (0, "")
