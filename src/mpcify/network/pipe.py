"""The links of a child process, which its parent relays: the parent has links to the peers, the child has sockets.

A lane is a socket between the two that one thread of the parent serves, one request after the other. The child has a
lane to send to each peer, so that peers do not wait for each other, and one for each `receive` that waits at the same
time. Nothing is buffered here: a message comes when the child asks for its key, and one that the parent's links do not
take yet keeps the child's next one waiting. So what a peer may leave is bounded by the parent's links alone.
"""

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import closing, suppress

from mpcify.network.links import Links

HEAD = struct.Struct("<BBIQ")  # what it is, the peer's place, bytes of the key, bytes of the content
PATIENCE = struct.Struct("<d")  # the content of RECEIVE: how long it waits, in seconds
SEND, RECEIVE, FLUSH, CLOSE = range(4)  # what a child asks for; there is no reply to SEND
DONE, LATE, CLOSED, REFUSED = range(4)  # what the parent replies
KEY_LIMIT = 1 << 16
CONTENT_LIMIT = 1 << 36
BUFFER = 1 << 16  # bytes read at once; what is larger is read where it stays
GONE = "the process that relays has ended"
ERRORS: dict[int, type[Exception]] = {LATE: TimeoutError, CLOSED: ConnectionError, REFUSED: ValueError}

Frame = tuple[int, int, str, bytes]


class Lane:
    """One end of a lane. Reading and writing raise OSError or EOFError if the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.stream = open(end.fileno(), "rb", buffering=BUFFER, closefd=False)  # noqa: SIM115
        self.lock = threading.Lock()  # of who writes, and reads the reply

    def write(self, word: int, peer: int = 0, key: str = "", content: bytes = b"") -> None:
        """Writes a frame."""
        text = key.encode()
        head = HEAD.pack(word, peer, len(text), len(content)) + text
        if len(content) < BUFFER:
            self.end.sendall(head + content)
        else:
            self.end.sendall(head)
            self.end.sendall(content)

    def read(self) -> Frame:
        """The next frame. Raises EOFError also for one above the limits, before it allocates anything."""
        word, peer, key, content = HEAD.unpack(self.exactly(HEAD.size))
        if key > KEY_LIMIT or content > CONTENT_LIMIT:
            raise EOFError("a frame is above the limits")
        return word, peer, self.exactly(key).decode(), self.exactly(content)

    def exactly(self, size: int) -> bytes:
        """So many bytes. Raises EOFError if the lane ends before."""
        data = self.stream.read(size) if size else b""
        if len(data) < size:
            raise EOFError("the lane ended")
        return data

    def ask(self, word: int, peer: int = 0, key: str = "", content: bytes = b"") -> None:
        """Writes what the parent is asked for. Raises ConnectionError if it is gone."""
        try:
            self.write(word, peer, key, content)
        except OSError:
            raise ConnectionError(GONE) from None

    def reply(self) -> bytes:
        """What the parent replies. Raises what its links raised, or ConnectionError if it is gone."""
        try:
            word, _, _, content = self.read()
        except (OSError, EOFError):
            raise ConnectionError(GONE) from None
        if word != DONE:
            raise ERRORS[word](content.decode())
        return content

    def close(self) -> None:
        """Ends the lane; whoever waits at its other end is woken."""
        self.stream.close()
        self.end.close()


class PipeLinks(Links):
    """The child's end.

    opener: a Unix socket, whose other end a `Relay` has; it gets one end of each lane.
    """

    def __init__(self, name: str, peers: Sequence[str], session: str, timeout: float, opener: socket.socket) -> None:
        super().__init__(name, peers, session, timeout)
        self.opener = opener
        self.places = {peer: place for place, peer in enumerate(self.peers)}
        self.outgoing = {peer: self.open() for peer in self.peers}
        self.idle: list[Lane] = []  # for receiving
        self.reason: str | None = None  # why this end was closed, if it was

    @property
    def closed(self) -> str | None:
        """Why this end was closed, None if it was not; of the parent's links `receive` tells."""
        return self.reason

    def open(self) -> Lane:
        """A new lane. Raises ConnectionError if the parent is gone."""
        mine, theirs = socket.socketpair()
        try:
            socket.send_fds(self.opener, [b"+"], [theirs.fileno()])
        except OSError:
            mine.close()
            raise ConnectionError(GONE) from None
        finally:
            theirs.close()
        return Lane(mine)

    def post(self, peer: str, key: str, message: bytes) -> None:
        if self.reason is not None:
            raise super().broken(peer, ConnectionError(self.reason))
        lane = self.outgoing[peer]
        with lane.lock:
            lane.ask(SEND, self.places[peer], key, message)

    def receive(self, peer: str, key: str, timeout: float | None = None) -> bytes:
        self.check(peer)
        patience = PATIENCE.pack(self.timeout if timeout is None else timeout)
        try:
            lane = self.idle.pop()
        except IndexError:
            lane = self.open()
        try:
            lane.ask(RECEIVE, self.places[peer], key, patience)
            return lane.reply()
        finally:
            self.idle.append(lane)

    def broken(self, peer: str, why: ConnectionError) -> ConnectionError:
        """What the parent's links said."""
        return why

    def flush(self) -> None:
        """Waits until all that was sent is with the parent's links. Raises ConnectionError if they are closed."""
        for lane in self.outgoing.values():
            with lane.lock:
                lane.ask(FLUSH)
                lane.reply()

    def close(self, reason: str = "") -> None:
        if self.reason is None:
            self.reason = reason
            with suppress(ConnectionError):
                lane = self.open()
                lane.ask(CLOSE, content=reason.encode())
                lane.reply()


class Relay:
    """The parent's end: it does with its links what the child asks for, and closes them if the child ends.

    ended: what the peers are told then.
    """

    def __init__(self, links: Links, opener: socket.socket, ended: str) -> None:
        self.links, self.opener, self.ended = links, opener, ended
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Serves each lane that the child opens, in a thread, until the child is gone."""
        with self.opener, suppress(OSError):
            while ends := socket.recv_fds(self.opener, 1, 1)[1]:
                lane = Lane(socket.socket(fileno=ends[0]))
                threading.Thread(target=self.serve, args=(lane,), daemon=True).start()
        self.links.close(self.ended)

    def serve(self, lane: Lane) -> None:
        """Does what is asked on a lane until it ends."""
        lost: Exception | None = None  # why a message could not be sent
        with closing(lane), suppress(OSError, EOFError):
            while True:
                word, peer, key, content = lane.read()
                try:
                    if word != SEND:
                        lane.write(DONE, content=self.answer(word, peer, key, content, lost))
                    elif lost is None:
                        self.links.send(self.links.peers[peer], key, content)
                except (TimeoutError, ConnectionError, ValueError) as error:
                    if word == SEND:
                        lost = error
                        self.links.close(str(error))  # nobody can go on without it
                    else:
                        lane.write(word_of(error), content=str(error).encode())

    def answer(self, word: int, peer: int, key: str, content: bytes, lost: Exception | None) -> bytes:
        """The reply to what is asked. Raises as the links do, and for FLUSH why a message was lost."""
        if word == RECEIVE:
            return self.links.receive(self.links.peers[peer], key, *PATIENCE.unpack(content))
        if word == CLOSE:
            self.links.close(content.decode())
        elif lost is not None:
            raise lost
        return b""


def word_of(error: Exception) -> int:
    """The reply for what the links raised."""
    return next(word for word, kind in ERRORS.items() if isinstance(error, kind))
