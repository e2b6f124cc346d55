"""Which session a party that accepts is in: one that is coming together, one that stands, one that it works in."""

import threading
import time
from collections import deque
from collections.abc import Collection, Mapping

from mpcify.network.links import Links
from mpcify.network.stream import LINGER, Stream

REMEMBERED = 4096  # session ids that are not accepted again


class GrpcLinks(Links):
    """Links over a stream to each peer. `send` waits while a peer leaves too much unread, as `receive` does for it."""

    def __init__(self, name: str, session: str, timeout: float, streams: Mapping[str, Stream]) -> None:
        super().__init__(name, streams, session, timeout)
        self.streams = dict(streams)
        self.inboxes = {peer: stream.inbox for peer, stream in streams.items()}

    @property
    def whole(self) -> bool:
        """Whether no link has ended."""
        return all(stream.reason is None for stream in self.streams.values())

    def post(self, peer: str, key: str, message: bytes) -> None:
        self.streams[peer].send(key, message, self.timeout)

    def close(self, reason: str = "") -> None:
        for stream in self.streams.values():
            stream.end(reason)
        deadline = time.monotonic() + LINGER
        for stream in self.streams.values():
            stream.join(deadline)


class RefusedError(Exception):
    """A caller is not let in: gRPC's code, and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


class Sessions:
    """Streams come in by themselves and become sessions; `accept` hands these out, one at a time.

    name: of this party. peers: all others. dialler: the one that opens sessions; with its stream goes all that has
    gathered.
    """

    def __init__(self, name: str, peers: Collection[str], dialler: str, timeout: float) -> None:
        self.name, self.peers, self.dialler, self.timeout = name, peers, dialler, timeout
        self._coming: dict[str, Stream] = {}
        self._standing: GrpcLinks | None = None  # all have joined it, nobody has taken it yet
        self._taken: GrpcLinks | None = None
        self._used: deque[str] = deque(maxlen=REMEMBERED)
        self._change = threading.Condition()
        self._closed = False

    def join(self, stream: Stream) -> None:
        """Lets a stream into the session that it is for; the last that joins makes it stand. Raises RefusedError."""
        with self._change:
            if self._closed:
                raise RefusedError("UNAVAILABLE", f"{self.name} is stopping")
            if stream.session in self._used:
                raise RefusedError("FAILED_PRECONDITION", "this session was there before")
            if self._connected(stream.peer):
                raise RefusedError("ALREADY_EXISTS", f"{stream.peer} is connected")
            if stream.peer == self.dialler:
                self._drop_others(stream.session)
            elif any(other.session != stream.session for other in self._coming.values()):
                raise RefusedError("UNAVAILABLE", "another session is coming together")
            stream.ended = self._left
            self._coming[stream.peer] = stream
            if stream.reason is not None:
                self._left(stream)
            elif self._coming.keys() == {*self.peers}:
                self._standing = GrpcLinks(self.name, stream.session, self.timeout, self._coming)
                self._used.append(stream.session)
                self._coming = {}
                for each in self._standing.streams.values():
                    each.stand()
                self._change.notify_all()

    def _connected(self, peer: str) -> bool:
        """Whether a stream of this peer goes on."""
        known = [links.streams[peer] for links in (self._standing, self._taken) if links is not None]
        return peer in self._coming or any(stream.reason is None for stream in known)

    def _drop_others(self, session: str) -> None:
        """Ends what the dialler has left behind for a new session."""
        reason = f"{self.dialler} opened another session"
        old = [stream for stream in self._coming.values() if stream.session != session]
        for links in (self._standing, self._taken):
            old += [] if links is None else links.streams.values()
        for stream in old:
            stream.end(reason)

    def _left(self, stream: Stream) -> None:
        """A stream has ended: if its session has not come together yet, forgets it."""
        with self._change:
            if self._coming.get(stream.peer) is stream:
                del self._coming[stream.peer]
                if stream.peer == self.dialler:
                    for other in [*self._coming.values()]:
                        other.end(f"{self.dialler} has gone: {stream.reason}")
            self._change.notify_all()

    def accept(self, timeout: float | None) -> GrpcLinks:
        """See `Network.accept`."""
        if self._taken is not None:
            self._taken.close(f"{self.name} waits for the next session")
        with self._change:
            if not self._change.wait_for(lambda: self._closed or self._next() is not None, timeout):
                raise TimeoutError(f"no session within {timeout:g} s")
            links = self._next()
            if self._closed or links is None:
                raise ConnectionError("the network is closed")
            self._taken, self._standing = links, None
            return links

    def _next(self) -> GrpcLinks | None:
        """The session that stands; one that broke before anybody took it is forgotten."""
        if self._standing is not None and not self._standing.whole:
            for stream in self._standing.streams.values():
                stream.end(f"the session broke before {self.name} took it up")
            self._standing = None
        return self._standing

    def close(self, reason: str) -> None:
        """Ends everything, and refuses what comes."""
        with self._change:
            self._closed = True
            coming = [*self._coming.values()]
            sessions = [links for links in (self._standing, self._taken) if links is not None]
            self._change.notify_all()
        for stream in coming:
            stream.end(reason)
        for links in sessions:
            links.close(reason)
