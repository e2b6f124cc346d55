"""The owner's desk: halves of thin clients' requests wait here until the delegate orders their answers."""

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from mpcify.cluster.halves import Half
from mpcify.cluster.metrics import Metrics
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError


class Held:
    """A half, and what becomes of it: the party's half of the answer with its cost, or an error."""

    def __init__(self, half: Half) -> None:
        self.half = half
        self.answer: Future[tuple[bytes, Cost]] = Future()

    def give(self, answer: bytes, cost: Cost) -> None:
        """The answer is there; lost if its caller has gone."""
        with suppress(InvalidStateError):
            self.answer.set_result((answer, cost))

    def fail(self, error: MpcifyError) -> None:
        """There will be none."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)


class Desk:
    """Halves by the ids of their requests; each is taken once. Any thread may ask.

    metrics: hear how many wait. How many may wait, and that none comes twice, is seen to by whoever reads them.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics
        self.change = threading.Condition()
        self.waiting: dict[str, Held] = {}
        self.closed = False

    def put(self, half: Half) -> Held:
        """Lets a half wait. Raises MPC-708 once the desk is closed."""
        with self.change:
            if self.closed:
                raise ending()
            held = self.waiting[half.id] = Held(half)
            self.changed()
            return held

    def take(self, id: str, length: int, seconds: float) -> Held | None:
        """The half of a request of this length, for which it waits so long; None if it does not come."""
        with self.change:
            self.change.wait_for(lambda: id in self.waiting or self.closed, seconds)
            found = self.waiting.get(id)
            if found is None or found.half.length != length:
                return None
            del self.waiting[id]
            self.changed()
            return found

    def withdraw(self, held: Held) -> bool:
        """Forgets a half that still waits; whether it did."""
        with self.change:
            found = self.waiting.pop(held.half.id, None) is not None
            self.changed()
            return found

    def expire(self, held: Held) -> bool:
        """Forgets a half that waited too long; False if it does not wait any more."""
        expired = self.withdraw(held)
        if expired and self.metrics:
            self.metrics.half_expired()
        return expired

    def close(self) -> None:
        """Takes no more, and sends away those that wait."""
        with self.change:
            self.closed = True
            left = [*self.waiting.values()]
            self.waiting.clear()
            self.changed()
        for held in left:
            held.fail(ending())

    def changed(self) -> None:
        """Tells whoever waits for a half, and the metrics."""
        self.change.notify_all()
        if self.metrics:
            self.metrics.halves_waiting(len(self.waiting))


def ending() -> MpcifyError:
    """The error for a half that comes too late."""
    return MpcifyError(708, "desk", "it is ending", "ask again later")
