"""One request at a time; a bounded number waits."""

import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from mpcify.cluster.gateway.refusals import CLOSED, UNAVAILABLE, RefusedError, refused
from mpcify.errors import MpcifyError

T = TypeVar("T")


class Turns:
    """Requests in the order they came. waiting: how many may wait beside the one that runs.

    answered: how many ran to their end. Once it is closed, the request that runs is the last one.
    """

    def __init__(self, waiting: int) -> None:
        self.most, self.inside, self.answered = waiting + 1, 0, 0
        self.seconds, self.closed = 1.0, False
        self.one = anyio.CapacityLimiter(1)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A request's place, from before its body is read. Raises MPC-708 if all are taken."""
        if self.closed or self.inside >= self.most:
            raise self.busy()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, work: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """What `work` returns, run in a thread when its turn comes. gone: whether nobody waits for the answer any more.

        Raises MPC-708 if the gateway ends meanwhile.
        """
        async with self.one:
            if self.closed:
                raise self.busy()
            if await gone():
                raise refused(CLOSED, "its caller went away", "wait for the answer")
            start = time.monotonic()
            found = await anyio.to_thread.run_sync(work)
            self.seconds = time.monotonic() - start
            self.answered += 1
            return found

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return max(0, self.inside - 1)

    def close(self) -> None:
        """Lets no further request begin."""
        self.closed = True

    def busy(self) -> RefusedError:
        """The refusal of a request that may not wait; it may come again when about one more will have been answered."""
        what = "it is ending" if self.closed else f"{self.most - 1} requests wait already"
        error = MpcifyError(708, "gateway", what, "ask again later")
        return RefusedError(UNAVAILABLE, error, {"Retry-After": str(max(1, math.ceil(self.seconds)))})
