"""How messages stand in the stream to a peer, and the checks on what comes out of one, before it takes memory.

A stream is a row of frames, each a kind (one byte) and its contents:

    LET_IN     the first frame of the party that was dialled, alone: the others of the session are awaited
    STANDS     its second frame, alone: all are there. Now both sides send
    MESSAGE    key length (u32), message length (u64), key, the message's first PART bytes
    MORE       the next PART bytes of that message (all but the last frame of a message are full)
    GOODBYE    a reason: the stream's last frame, also in the middle of a message
"""

import struct
from collections.abc import Iterator

from mpcify.network.links import Limits
from mpcify.network.mailbox import Keys

VERSION = "1"  # parties that speak different ones refuse each other
PART = 1 << 20  # bytes of a message in one frame
HEAD = struct.Struct("<BIQ")
LET_IN, STANDS, MESSAGE, MORE, GOODBYE = (bytes([kind]) for kind in range(5))
REASON = 300  # characters of a reason


class WireError(Exception):
    """What no peer that follows the protocol sends. The text never repeats what came."""


def frames(key: str, message: bytes) -> Iterator[bytes]:
    """The frames of a message; each byte is copied once."""
    text, view = key.encode(), memoryview(message)
    yield b"".join((HEAD.pack(MESSAGE[0], len(text), len(view)), text, view[:PART]))
    for start in range(PART, len(view), PART):
        yield b"".join((MORE, view[start : start + PART]))


def goodbye(reason: str) -> bytes:
    """The frame that ends a stream."""
    return GOODBYE + one_line(reason).encode()


def one_line(text: str, limit: int = REASON) -> str:
    """Any text as one line that can be printed: what cannot be printed becomes a question mark or a space."""
    words = " ".join(text[: 4 * limit].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def largest_frame(limits: Limits) -> int:
    """Bytes of the largest frame that a peer may send: a letter takes four bytes at most."""
    return HEAD.size + 4 * limits.key + PART


class Goodbye(str):
    """The reason with which a peer ended the stream."""

    __slots__ = ()


class Reader:
    """Makes messages of one peer's frames. It holds the message that is coming in, and which keys came."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.keys = Keys()
        self.key, self.missing = "", 0  # of the message that is coming in
        self.parts: list[memoryview] = []

    def read(self, frame: bytes) -> tuple[str, bytes] | Goodbye | None:
        """The message that is whole with this frame, with its key; the peer's goodbye; None if more has to come.

        Raises WireError.
        """
        kind, rest = frame[:1], memoryview(frame)[1:]
        if kind == GOODBYE:
            if len(rest) > 4 * REASON:
                raise WireError("its reason is too long")
            return Goodbye(one_line(str(rest, "utf-8", "replace")))
        if kind == MESSAGE:
            rest = self.begin(frame)
        elif kind != MORE:
            raise WireError("a frame is of no known kind")
        elif not self.missing:
            raise WireError("a message goes on that has not begun")
        if len(rest) != min(PART, self.missing):
            raise WireError("a frame has another length than it should")
        self.parts.append(rest)
        self.missing -= len(rest)
        if self.missing:
            return None
        message, self.parts = b"".join(self.parts), []
        return self.key, message

    def begin(self, frame: bytes) -> memoryview:
        """Reads the head of a message's first frame, and returns what stands behind it."""
        if self.missing:
            raise WireError("a message begins inside another")
        if len(frame) < HEAD.size:
            raise WireError("a frame ends inside its head")
        _, length, size = HEAD.unpack_from(frame)
        end = HEAD.size + length
        if length > 4 * self.limits.key or end > len(frame):
            raise WireError("a key is longer than allowed, or than its frame")
        if size > self.limits.message:
            raise WireError(f"a message of {size} bytes is larger than allowed ({self.limits.message})")
        try:
            key = frame[HEAD.size : end].decode()
        except UnicodeDecodeError:
            raise WireError("a key is no text") from None
        if len(key) > self.limits.key:
            raise WireError("a key is longer than allowed")
        if not self.keys.add(key):
            raise WireError("a key came twice")
        if len(self.keys) > self.limits.keys:
            raise WireError(f"there are more different keys than allowed ({self.limits.keys})")
        self.key, self.missing = key, size
        return memoryview(frame)[end:]
