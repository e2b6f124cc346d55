"""What SPU sends over links of ours, and shares as bytes.

SPU copies a share's chunks before it looks at their lengths, and a chunk that is longer than it says ends the process.
So nothing of a peer's share reaches SPU but the contents: everything around them must be, byte for byte, what SPU
writes itself for a share of that type and shape.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from spu import libspu
from spu.api import Io

from mpcify.engines.spu.config import SpuConfig
from mpcify.network.links import Links

# <context>:P2P-<counter>:<from>-><to> and <context>:<counter>:<collective>, a counter a context and direction
COUNTED = re.compile(r"([^:]*:(?:P2P-)?)(\d+)(:.*)", re.DOTALL)
CONTENT = b"\x1a"  # before a chunk's content in its encoding: field 3, bytes with their length

quiet = libspu.logging.LogOptions()
quiet.system_log_path = os.devnull  # else a spu.log in the working directory
quiet.log_level = libspu.logging.LogLevel.ERROR
libspu.logging.setup_logging(quiet)


class SpuChannel(libspu.link.IChannel):
    """Links of ours to one peer behind SPU's interface, whose method names these are.

    SPU uses a key once: each has a counter, which is put at the key's end for `Links`.
    """

    def __init__(self, links: Links, peer: str) -> None:
        super().__init__()
        self.links, self.peer = links, peer

    def SendAsync(self, key: str, value: bytes) -> None:  # noqa: N802
        self.links.send(self.peer, counted(key), value)

    SendAsyncThrottled = Send = SendAsync

    def Recv(self, key: str) -> bytes:  # noqa: N802
        return self.links.receive(self.peer, counted(key))

    def TestSend(self, timeout: int) -> None:  # noqa: N802
        """Nothing to test: links are connected when there are any."""

    def TestRecv(self) -> None:  # noqa: N802
        """See TestSend."""

    def GetRecvTimeout(self) -> int:  # noqa: N802
        return int(self.links.timeout * 1000)

    def SetRecvTimeout(self, milliseconds: int) -> None:  # noqa: N802
        """The links have their own."""

    def WaitLinkTaskFinish(self) -> None:  # noqa: N802
        """What is sent is on its way."""

    def Abort(self) -> None:  # noqa: N802
        self.links.close(f"SPU gave up at {self.links.name}")

    def SetThrottleWindowSize(self, size: int) -> None:  # noqa: N802
        """The links have their own window, or none."""

    def SetChunkParallelSendSize(self, size: int) -> None:  # noqa: N802
        """The links split messages, or do not."""


def counted(key: str) -> str:
    """A key of SPU's with its counter at the end; no two keys become one, and none is a share's."""
    return "spu/" + COUNTED.sub(r"\1\3#\2", key)


def runtime_config(config: SpuConfig) -> Any:
    """SPU's own config."""
    return libspu.RuntimeConfig(
        protocol=getattr(libspu.ProtocolKind, config.protocol.upper()),
        field=getattr(libspu.FieldType, config.field),
        fxp_fraction_bits=config.number.fraction_bits,
    )


def context(links: Links, parties: Sequence[str]) -> tuple[Any, list[SpuChannel | None]]:
    """SPU's end of the links, and its channels: SPU holds no reference to channels made in Python."""
    channels = [None if name == links.name else SpuChannel(links, name) for name in parties]
    description = libspu.link.Desc()
    description.recv_timeout_ms = int(links.timeout * 1000)
    for name in parties:
        description.add_party(name, name)
    return libspu.link.create_with_channels(description, [*parties].index(links.name), channels), channels


def pack(share: Any) -> bytes:
    """A share as one message: its type and shape, then its chunks."""
    return b"".join((share.meta, *share.share_chunks))


@dataclass(frozen=True)
class Layout:
    """What stands in a share around its contents.

    meta: its type, visibility and shape, as SPU encodes them. chunks: for each, what stands before its content (its
    place, and all chunks' total size), and the content's size in bytes.
    """

    meta: bytes
    chunks: tuple[tuple[bytes, int], ...]

    @staticmethod
    def of(share: Any) -> "Layout":
        """The layout of a share that was made here."""
        chunks = []
        for encoded in share.share_chunks:
            chunk = libspu.ValueChunk()
            chunk.ParseFromString(encoded)
            size = len(chunk.content)
            chunks.append((encoded[: len(encoded) - size], size))
        return Layout(share.meta, tuple(chunks))

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.meta) + sum(len(head) + size for head, size in self.chunks)

    def unpack(self, message: bytes) -> Any:
        """The share in a message. Raises ValueError for one of another layout; its contents may be any bytes."""
        if len(message) != self.size:
            raise ValueError(f"it has {len(message)} bytes in place of {self.size}")
        if not message.startswith(self.meta):
            raise ValueError("it has another type, visibility or shape")
        place, chunks = len(self.meta), []
        for head, size in self.chunks:
            end = place + len(head) + size
            if not message.startswith(head, place):
                raise ValueError("the size or place of one of its chunks is wrong")
            chunks.append(message[place:end])
            place = end
        share = libspu.Share()
        share.meta, share.share_chunks = self.meta, chunks
        return share


class Layouts:
    """The layouts of secret shares under some settings."""

    def __init__(self, io: Io, runtime: Any) -> None:
        self.io, self.chunk = io, runtime.share_max_chunk_size

    def layout(self, shape: Sequence[int], dtype: Any) -> Layout:
        """The layout of a share of an array: as of a number of this type, in another shape and size."""
        number = self.io.make_shares(np.zeros((), dtype), libspu.Visibility.VIS_SECRET)[0]
        meta, one = libspu.ValueMeta(), libspu.ValueChunk()
        meta.ParseFromString(number.meta)
        one.ParseFromString(number.share_chunks[0])
        total = one.total_bytes * math.prod(shape)
        if shape:
            meta.shape = [*shape]
        starts = range(0, total, self.chunk)
        chunks = tuple(chunk_of(total, start, min(self.chunk, total - start)) for start in starts)
        return Layout(meta.SerializeToString(), chunks)


def chunk_of(total: int, start: int, size: int) -> tuple[bytes, int]:
    """What stands before the content of a chunk, and the content's size."""
    chunk = libspu.ValueChunk()
    chunk.total_bytes, chunk.chunk_offset = total, start
    return chunk.SerializeToString() + CONTENT + varint(size), size


def varint(number: int) -> bytes:
    """A whole number as Protocol Buffers write it: seven bits a byte, the lowest first."""
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
