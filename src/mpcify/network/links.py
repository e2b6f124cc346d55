"""Channels between parties: messages found by key, and a count of what each end sends.

A channel knows no protocol and no serialisation: an engine adapts it to what its library wants. Here all parties share
one process; parties on machines of their own get channels of the same interface.
"""

import threading
from abc import ABC, abstractmethod
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
