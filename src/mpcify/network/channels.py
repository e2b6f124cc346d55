"""Channels between parties: messages found by key, and a count of what each end sends.

A channel knows no protocol and no serialisation: an engine adapts it to what its library wants. Here all parties share
one process; parties on machines of their own get channels of the same interface.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

# Homomorphic products keep a party silent for minutes, and a party of this process cannot vanish unseen.
PATIENCE = 24 * 3600.0


@dataclass(frozen=True)
class Sent:
    """What was sent: messages, and the bytes of their contents (keys and framing not counted)."""

    messages: int = 0
    bytes: int = 0

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(self.messages + other.messages, self.bytes + other.bytes)

    def __sub__(self, earlier: "Sent") -> "Sent":
        return Sent(self.messages - earlier.messages, self.bytes - earlier.bytes)


class Channel(ABC):
    """One party's end of its link to one peer. Any thread may send and receive.

    Messages of one key arrive in the order in which they were sent; different keys do not wait for each other.
    """

    def __init__(self) -> None:
        self._sent = Sent()
        self._counting = threading.Lock()

    @property
    def sent(self) -> Sent:
        """What this end has sent so far."""
        return self._sent

    def count(self, size: int) -> None:
        """Counts one message of `size` bytes as sent: for what a simulation hands over without sending it."""
        with self._counting:
            self._sent += Sent(1, size)

    @abstractmethod
    def send(self, key: str, message: bytes) -> None:
        """Sends a message, without waiting for the peer to take it. Raises ConnectionError on a closed channel."""

    @abstractmethod
    def receive(self, key: str) -> bytes:
        """Waits for a message of this key and takes it. Raises TimeoutError; ConnectionError on a closed channel."""

    @abstractmethod
    def close(self) -> None:
        """Closes both ends; whoever waits on either gets a ConnectionError."""


class Mailbox:
    """Messages on their way to one end of a link."""

    def __init__(self) -> None:
        self._messages: dict[str, deque[bytes]] = {}
        self._change = threading.Condition()
        self._closed = False

    def put(self, key: str, message: bytes) -> None:
        with self._change:
            if self._closed:
                raise ConnectionError("the channel is closed")
            self._messages.setdefault(key, deque()).append(message)
            self._change.notify_all()

    def take(self, key: str, timeout: float) -> bytes:
        with self._change:
            if not self._change.wait_for(lambda: key in self._messages or self._closed, timeout):
                raise TimeoutError(f"no message within {timeout:g} s")
            if key not in self._messages:
                raise ConnectionError("the channel is closed")
            waiting = self._messages[key]
            message = waiting.popleft()
            if not waiting:
                del self._messages[key]
            return message

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()


class InProcessChannel(Channel):
    """A channel to a party in the same process: two mailboxes, nothing copied. timeout: of `receive`, in seconds."""

    def __init__(self, outbox: Mailbox, inbox: Mailbox, timeout: float = PATIENCE) -> None:
        super().__init__()
        self._outbox, self._inbox, self._timeout = outbox, inbox, timeout

    def send(self, key: str, message: bytes) -> None:
        self._outbox.put(key, message)
        self.count(len(message))

    def receive(self, key: str) -> bytes:
        return self._inbox.take(key, self._timeout)

    def close(self) -> None:
        self._outbox.close()
        self._inbox.close()


def connect_in_process(parties: int, timeout: float = PATIENCE) -> list[dict[int, InProcessChannel]]:
    """Channels between all pairs of parties: for each rank, the channel to each of its peers by the peer's rank."""
    boxes = {(a, b): Mailbox() for a in range(parties) for b in range(parties) if a != b}
    return [
        {
            peer: InProcessChannel(boxes[rank, peer], boxes[peer, rank], timeout)
            for peer in range(parties)
            if peer != rank
        }
        for rank in range(parties)
    ]
