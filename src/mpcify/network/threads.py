"""Threads that nothing waits for when Python exits."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any


class Threads(futures.Executor):
    """Runs each call in a daemon thread of its own: a stream that stays open does not keep the process alive."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future
