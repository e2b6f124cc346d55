"""Makes and takes shares for the tests, in a process of its own, which a share that SPU trusts wrongly would end.

Started as `python taker.py`: answers frames on stdin with frames on stdout.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from spu import libspu
from spu.api import Io

from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.link import Layout, Layouts, pack, runtime_config
from mpcify.engines.spu.party import Seat
from mpcify.network.frames import read_frame, write_frame
from mpcify.network.memory import connect


class Taker:
    """The parties of ABY3, of whom the owner takes shares, and makers of shares under any settings."""

    def __init__(self) -> None:
        settings = SpuConfig()
        links = connect(settings.parties)
        with ThreadPoolExecutor(3) as pool:
            self.seats = [*pool.map(lambda name: Seat(settings, links[name]), settings.parties)]

    def make(self, protocol: str, ring: int, shape: list[int], dtype: str, chunk: int | None) -> dict:
        """A share of random numbers, and whether its layout is the one that is expected."""
        settings = SpuConfig(protocol, ring)
        config = runtime_config(settings)
        if chunk is not None:
            config.share_max_chunk_size = chunk
        io = Io(len(settings.parties), config)
        array = np.asarray(8 * np.random.default_rng(0).standard_normal(shape), dtype)
        shares = io.make_shares(array, libspu.Visibility.VIS_SECRET)
        layout = Layouts(io, config).layout(shape, np.dtype(dtype))
        message = pack(shares[1])
        unpacked = layout.unpack(message)
        assert (unpacked.meta, [*unpacked.share_chunks]) == (shares[1].meta, [*shares[1].share_chunks])
        heads = [len(layout.meta)]  # where what is checked ends, and contents begin, in turns
        for head, size in layout.chunks:
            heads += [heads[-1] + len(head), heads[-1] + len(head) + size]
        bytes_counted = len(shares[1].meta) + sum(len(part) for part in shares[1].share_chunks)
        return {
            "message": message.hex(),
            "places": heads,
            "counted": bytes_counted,
            "same": Layout.of(shares[1]) == layout,
        }

    def take(self, message: str, shape: list[int], dtype: str) -> dict:
        """What the owner does with a message in which it expects a share: refuses it, or has it in SPU."""
        owner = self.seats[1]
        try:
            share = owner.layouts.layout(shape, np.dtype(dtype)).unpack(bytes.fromhex(message))
        except ValueError as error:
            return {"refused": str(error)}
        owner.runtime.set_var("x", share)
        back = pack(owner.runtime.get_var("x"))
        owner.runtime.del_var("x")
        return {"back": back.hex()}


if __name__ == "__main__":
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # SPU writes to stdout
    taker = Taker()
    while True:
        request, _ = read_frame(source)
        write_frame(sink, getattr(taker, request.pop("do"))(**request))
