"""Links over plain TCP, for parties on one machine that a measurement keeps apart. They protect nothing: no encryption,
no proof of who the peer is, no bound on what it sends.
"""

import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO

from mpcify.network.frames import read_exactly
from mpcify.network.links import Links

LENGTHS = struct.Struct("<IQ")  # of the key, of the message
CONNECTING = 20.0  # seconds in which every peer must be there


class TcpLinks(Links):
    """A connection to each peer: a party dials those before it in `addresses` and waits for those behind it."""

    def __init__(
        self, name: str, addresses: Mapping[str, tuple[str, int]], session: str, timeout: float = 600.0
    ) -> None:
        super().__init__(name, [peer for peer in addresses if peer != name], session, timeout)
        self.sockets: dict[str, socket.socket] = {}
        streams: dict[str, BinaryIO] = {}
        self.locks = {peer: threading.Lock() for peer in self.peers}
        place = [*addresses].index(name)
        with socket.create_server(addresses[name]) as server:
            server.settimeout(CONNECTING)
            for peer in [*addresses][:place]:
                self.sockets[peer] = dial(addresses[peer])
                streams[peer] = self.sockets[peer].makefile("rb")
                self.write(peer, session, name.encode())
            while len(self.sockets) < len(self.peers):
                line, _ = server.accept()
                line.settimeout(CONNECTING)
                stream = line.makefile("rb")
                theirs, caller = read_message(stream)
                if theirs != session or caller.decode() not in self.peers:
                    raise ConnectionError("the caller belongs to another session")
                self.sockets[caller.decode()], streams[caller.decode()] = line, stream
        for peer, stream in streams.items():
            self.sockets[peer].settimeout(None)
            self.sockets[peer].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.read, args=(peer, stream), daemon=True).start()

    def post(self, peer: str, key: str, message: bytes) -> None:
        try:
            self.write(peer, key, message)
        except OSError:
            raise ConnectionError("the link is closed") from None

    def write(self, peer: str, key: str, message: bytes) -> None:
        """Writes one message; the peer's reading thread takes it at once."""
        text = key.encode()
        with self.locks[peer]:
            self.sockets[peer].sendall(LENGTHS.pack(len(text), len(message)) + text)
            self.sockets[peer].sendall(message)

    def read(self, peer: str, stream: BinaryIO) -> None:
        """Puts what a peer sends into its inbox, until either end is closed."""
        with suppress(OSError, EOFError, ValueError), self.sockets[peer], stream:
            while True:
                self.inboxes[peer].put(*read_message(stream))
        self.inboxes[peer].close()

    def close(self, reason: str = "") -> None:
        for peer, line in self.sockets.items():
            self.inboxes[peer].close(reason)
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def dial(address: tuple[str, int]) -> socket.socket:
    """A connection to an address, as soon as somebody listens there."""
    end = time.monotonic() + CONNECTING
    while True:
        try:
            return socket.create_connection(address)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def read_message(stream: BinaryIO) -> tuple[str, bytes]:
    """The next key and message of a stream."""
    key, message = LENGTHS.unpack(read_exactly(stream, LENGTHS.size))
    return read_exactly(stream, key).decode(), read_exactly(stream, message)
