"""Lines between parties that can be cut, slowed down or made to swallow what comes: TCP proxies, one a pair."""

import socket
import struct
import threading
import time
from contextlib import suppress
from queue import SimpleQueue

from mpcify.cluster.addresses import Address

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the end is told at once, and what was on its way is lost
PIECE = 1 << 16


class Lines:
    """What all proxies of a cluster share. passed: bytes that went through so far. delay: seconds, each way.

    `hold(after)` stops everything once so many more bytes have passed, which `held` says; `release` lets it go on.
    """

    def __init__(self) -> None:
        self.passed, self.delay = 0, 0.0
        self.lock = threading.Lock()
        self.flowing, self.held = threading.Event(), threading.Event()
        self.limit: int | None = None
        self.flowing.set()

    def hold(self, after: int) -> None:
        """Stops everything once so many more bytes have passed."""
        with self.lock:
            self.limit = self.passed + after
            self.held.clear()

    def release(self) -> None:
        """Lets everything go on, and stops nothing any more."""
        with self.lock:
            self.limit = None
            self.flowing.set()

    def through(self, size: int) -> None:
        """Waits while everything is stopped; counts what passes."""
        self.flowing.wait()
        with self.lock:
            self.passed += size
            if self.limit is not None and self.passed >= self.limit:
                self.limit = None
                self.flowing.clear()
                self.held.set()


class Proxy:
    """Stands at `here`, and passes on what comes to and from `there`. open: whether anybody gets through."""

    def __init__(self, lines: Lines, here: str, there: str) -> None:
        self.lines, self.there, self.open = lines, Address.parse(there), True
        own = Address.parse(here)
        self.server = socket.create_server((own.host, own.port))
        self.ends: set[socket.socket] = set()
        self.silent = threading.Event()  # what comes is swallowed, and nobody is told
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Takes every connection, and makes another for it."""
        while True:
            near, _ = self.server.accept()
            far = None
            if self.open:
                with suppress(OSError):
                    far = socket.create_connection((self.there.host, self.there.port), 5)
            if far is None:
                reset(near)
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.ends.add(end)
            for source, sink in ((near, far), (far, near)):
                pieces: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                threading.Thread(target=self.read, args=(source, pieces), daemon=True).start()
                threading.Thread(target=self.write, args=(sink, source, pieces), daemon=True).start()

    def read(self, source: socket.socket, pieces: "SimpleQueue[tuple[float, bytes]]") -> None:
        """Takes what comes, until its end, which is an empty piece."""
        piece = b"-"
        while piece:
            try:
                piece = source.recv(PIECE)
            except OSError:
                piece = b""
            pieces.put((time.monotonic() + self.lines.delay, piece))

    def write(self, sink: socket.socket, source: socket.socket, pieces: "SimpleQueue[tuple[float, bytes]]") -> None:
        """Passes it on when its time has come; then ends both sides."""
        while True:
            due, piece = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self.lines.through(len(piece))
            if self.silent.is_set():
                continue
            try:
                sink.sendall(piece)
            except OSError:
                piece = b""
            if not piece:
                break
        for end in (sink, source):
            self.ends.discard(end)
            reset(end)

    def cut(self) -> None:
        """Ends the connections that there are; later ones get through."""
        for end in [*self.ends]:
            self.ends.discard(end)
            reset(end)


def reset(end: socket.socket) -> None:
    """Ends a connection as a line does that is pulled out, and wakes who reads from it."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
