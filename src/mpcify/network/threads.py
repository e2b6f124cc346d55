"""Threads that nothing waits for when Python exits."""

import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any


class Threads(futures.Executor):
    """Runs each call in a daemon thread of its own: a stream that stays open does not keep the process alive."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        threading.Thread(target=run, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future


Call = tuple[futures.Future[Any], Callable[[], Any]]


class OneThread(futures.Executor):
    """Runs calls one after the other, in a daemon thread that ends with `shutdown`, or with what holds this."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._lock, self._over = threading.Lock(), False
        self._thread = threading.Thread(target=run_all, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Raises RuntimeError after `shutdown`, as any executor."""
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if self._over:
                raise RuntimeError("it was shut down")
            self._calls.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._over = True
            with suppress(Empty):
                while cancel_futures:
                    if call := self._calls.get_nowait():
                        call[0].cancel()
            self._calls.put(None)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()


def run(future: futures.Future[Any], call: Callable[[], Any]) -> None:
    """Runs a call, and tells its future."""
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


def run_all(calls: "SimpleQueue[Call | None]") -> None:
    """Runs calls until None comes."""
    while (found := calls.get()) is not None:
        future, call = found
        if future.set_running_or_notify_cancel():
            run(future, call)
        del found, future, call  # an idle thread holds nothing of its last call
