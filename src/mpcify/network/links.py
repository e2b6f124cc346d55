"""Links between parties: messages found by key, each key once, and a count of what each end sends.

Links know no protocol and no serialisation: an engine adapts them to what its library wants. The same interface stands
between the parties of one process (`memory`) and between machines.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from mpcify.network.mailbox import Keys, Mailbox


@dataclass(frozen=True)
class Sent:
    """What was sent: messages, and the bytes of their contents (keys and framing not counted)."""

    messages: int = 0
    bytes: int = 0

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(self.messages + other.messages, self.bytes + other.bytes)

    def __sub__(self, earlier: "Sent") -> "Sent":
        return Sent(self.messages - earlier.messages, self.bytes - earlier.bytes)


@dataclass(frozen=True)
class Limits:
    """What one peer may leave at this end, in one session, before it is read.

    message: bytes of a message at most. waiting: bytes of all messages that wait; one more than fits is let in only for
    a reader that waits. key: characters of a key. keys: how many, where a run of whole numbers at the end of the same
    text is one.
    """

    message: int
    waiting: int
    key: int = 256
    keys: int = 4096


class Links(ABC):
    """One party's end of its links to all its peers, in one session. Any thread may send and receive.

    name: of this party. peers: the names of the others. session: its id; links of another session neither see its
    messages nor know its keys. timeout: of `receive`, in seconds; also of `send`, if the peer leaves too
    much unread.

    A key stands for one message to one peer in a session. It is any text; if a counter stands at its end, the keys that
    were used take no more memory however many they are (see `Keys`). A message waits until its key is asked for, so
    those of different keys do not wait for each other.

    Inboxes and used keys grow as a peer likes. An implementation over a network bounds for each peer the length of a
    key, the size of a message, the bytes that wait and the number of keys, before it allocates anything, and closes the
    link to a peer that goes beyond.
    """

    def __init__(self, name: str, peers: Iterable[str], session: str, timeout: float) -> None:
        self.name, self.peers, self.session, self.timeout = name, tuple(peers), session, timeout
        self.inboxes = {peer: Mailbox() for peer in self.peers}  # where an implementation puts what a peer sends
        self._used = {peer: Keys() for peer in self.peers}
        self._sent = Sent()
        self._lock = threading.Lock()

    @property
    def sent(self) -> Sent:
        """What this end has sent so far, to all its peers."""
        return self._sent

    @property
    def closed(self) -> str | None:
        """Why a link was closed ("": nobody said), None if all are open."""
        return next((box.closed for box in self.inboxes.values() if box.closed is not None), None)

    def send(self, peer: str, key: str, message: bytes) -> None:
        """Sends a message, without waiting for the peer to take it: over a network only as long as no more waits than
        its limits let.

        Raises ValueError for a name that is no peer's, for a key that was used towards this peer before and for what is
        above the limits, TimeoutError if the peer takes nothing (the key is used then), ConnectionError if the link is
        closed.
        """
        self.check(peer)
        with self._lock:
            if not self._used[peer].add(key):
                raise ValueError(f"{self.name} has sent {key!r} to {peer} before")
        try:
            self.post(peer, key, message)
        except ConnectionError as error:
            raise self.broken(peer, error) from None
        with self._lock:
            self._sent += Sent(1, len(message))

    def receive(self, peer: str, key: str, timeout: float | None = None) -> bytes:
        """Waits for a peer's message of this key, and takes it.

        timeout: in seconds, if it is not that of the links. Raises TimeoutError (the message may be asked for again),
        ConnectionError if the link is closed and the message has not arrived, ValueError for a name that is no peer's
        and for a key that was taken before.
        """
        self.check(peer)
        patience = self.timeout if timeout is None else timeout
        try:
            return self.inboxes[peer].take(key, patience)
        except TimeoutError:
            raise TimeoutError(f"{peer} sent {self.name} no {key!r} within {patience:g} s") from None
        except ConnectionError as error:
            raise self.broken(peer, error) from None

    def broken(self, peer: str, why: ConnectionError) -> ConnectionError:
        """The error for a link that is closed, with the reason that was given."""
        return ConnectionError(f"the link between {self.name} and {peer} is closed{f': {why}' if str(why) else ''}")

    def check(self, peer: str) -> None:
        """Raises ValueError for a name that is no peer's."""
        if peer not in self.inboxes:
            raise ValueError(f"{self.name} has no link to {peer!r}")

    @abstractmethod
    def post(self, peer: str, key: str, message: bytes) -> None:
        """Puts a message on its way to a peer, whose inbox for this party gets it; for `send` alone.

        Raises ConnectionError if the link is closed.
        """

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """Closes both ends of every link; whoever waits at either gets a ConnectionError that gives the reason.

        Only the first call counts. The peers read the reason: no input, share or key stands in it.
        """
