"""What goes wrong between and in the parties of a process, on purpose: lost messages, time that passes, crashes."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mpcify.network import links, memory
from mpcify.network.mailbox import Mailbox
from tests.cluster.conftest import Cluster

SLICE = 0.005  # seconds between two looks at the clock


class Clock:
    """Monotonic seconds, and those that a test lets pass. rushing: whoever waits lets a second pass with each look."""

    def __init__(self) -> None:
        self.skipped, self.rushing = 0.0, False

    def __call__(self) -> float:
        return time.monotonic() + self.skipped

    def look(self) -> float:
        self.skipped += self.rushing
        return self()


class Lines:
    """All lines of a process: what was posted on them, and which message gets lost."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.posted: dict[memory.MemoryLinks, Counter[tuple[str, str]]] = {}  # by the sender's end: peer and key
        self.losing: tuple[str, int] | None = None  # a sender, and how many of its messages arrive before

    def lose(self, sender: str, after: int) -> None:
        """Loses a message that a party sends from now on."""
        self.losing = sender, after

    def takes(self, end: memory.MemoryLinks, peer: str, key: str) -> bool:
        """Whether a message arrives. Once one was lost, those who wait for it wait no longer than they must."""
        self.posted.setdefault(end, Counter())[peer, key] += 1
        if self.losing is None or self.losing[0] != end.name:
            return True
        if self.losing[1]:
            self.losing = end.name, self.losing[1] - 1
            return True
        self.losing, self.clock.rushing = None, True
        return False

    def weights_shared(self, prefix: str) -> list[int]:
        """How many messages of weights, whose keys begin with a prefix, the owner sent in each session."""
        return [
            sum(count for (_, key), count in posted.items() if key.startswith(prefix))
            for end, posted in self.posted.items()
            if end.name == "owner"
        ]

    def keys_used(self) -> set[int]:
        """How often keys were used towards a peer in a session."""
        return {count for posted in self.posted.values() for count in posted.values()}


@contextmanager
def faulty_lines() -> Iterator[Lines]:
    """While open, the lines of memory lose what they are told to, and time is what their clock says."""
    lines, post = Lines(), memory.MemoryLinks.post

    class TimedMailbox(Mailbox):
        def take(self, key: str, timeout: float) -> bytes:
            end = lines.clock() + timeout
            while True:
                try:
                    return super().take(key, SLICE)
                except TimeoutError:
                    if lines.clock.look() >= end:
                        raise

    def posting(end: memory.MemoryLinks, peer: str, key: str, message: bytes) -> None:
        if lines.takes(end, peer, key):
            post(end, peer, key, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "Mailbox", TimedMailbox)
        patch.setattr(memory.MemoryLinks, "post", posting)
        yield lines


def crash_at_the_next_order(running: Cluster, role: str, done: bool) -> None:
    """Lets a party vanish when it is given its next order. done: after it has done it, before it says so."""
    service = running.services[role]
    obey = service.obey

    def dying(*order: object) -> object:
        costs = obey(*order) if done else {}  # type: ignore[arg-type]
        service.stop()
        service.network.close()
        return costs

    service.obey = dying  # type: ignore[method-assign, assignment]
