"""A lock that threads get in the order in which they asked for it: of many callers none waits for ever."""

import threading
from collections import deque


class Turn:
    """What a thread holds in a `with` block; the thread that holds it may take it again inside."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()
        self._holder: int | None = None
        self._depth = 0

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._waiting)

    def __enter__(self) -> None:
        me, place = threading.get_ident(), object()
        with self._change:
            if self._holder != me:
                self._waiting.append(place)
                try:
                    self._change.wait_for(lambda: self._holder is None and self._waiting[0] is place)
                    self._holder = me
                finally:  # also if the wait is interrupted
                    self._waiting.remove(place)
                    self._change.notify_all()
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._depth -= 1
            if not self._depth:
                self._holder = None
                self._change.notify_all()
