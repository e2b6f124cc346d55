"""All parties in one process: mailboxes in place of lines."""

import threading
from collections import deque

from mpcify.network.links import PATIENCE, Channel


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
