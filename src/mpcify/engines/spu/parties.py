"""The simulated parties, in the child: one thread each, our channels between them, shares handed over and counted."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from spu import libspu
from spu.api import Io, Runtime

from mpcify.engines.cost import Cost
from mpcify.engines.engine import OUTPUT
from mpcify.engines.spu.config import CLIENT, STEP, SpuConfig
from mpcify.network.links import PATIENCE, Channel, Sent
from mpcify.network.memory import connect_in_process

T = TypeVar("T")


class SpuChannel(libspu.link.IChannel):
    """A channel of ours behind SPU's interface, whose method names these are."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel

    def SendAsync(self, key: str, value: bytes) -> None:  # noqa: N802
        self.channel.send(key, value)

    SendAsyncThrottled = Send = SendAsync

    def Recv(self, key: str) -> bytes:  # noqa: N802
        return self.channel.receive(key)

    def TestSend(self, timeout: int) -> None:  # noqa: N802
        """Nothing to test: both ends exist from the start."""

    def TestRecv(self) -> None:  # noqa: N802
        """See TestSend."""

    def GetRecvTimeout(self) -> int:  # noqa: N802
        return int(PATIENCE * 1000)

    def SetRecvTimeout(self, milliseconds: int) -> None:  # noqa: N802
        """The channel has its own."""

    def WaitLinkTaskFinish(self) -> None:  # noqa: N802
        """A message is delivered when it is sent."""

    def Abort(self) -> None:  # noqa: N802
        self.channel.close()

    def SetThrottleWindowSize(self, size: int) -> None:  # noqa: N802
        """Mailboxes have no window."""

    def SetChunkParallelSendSize(self, size: int) -> None:  # noqa: N802
        """Messages are not cut."""


class Parties:
    """All parties of a protocol: an SPU runtime each, connected. `cost` is what connecting them took."""

    def __init__(self, settings: SpuConfig) -> None:
        self.names, self.number = settings.parties, settings.number
        config = libspu.RuntimeConfig(
            protocol=getattr(libspu.ProtocolKind, settings.protocol.upper()),
            field=getattr(libspu.FieldType, settings.field),
            fxp_fraction_bits=settings.number.fraction_bits,
        )
        self.io = Io(len(self.names), config)
        self.threads = ThreadPoolExecutor(len(self.names))
        self.mesh = connect_in_process(len(self.names))
        # SPU holds no reference to channels made in Python
        self.adapters = [[SpuChannel(row[peer]) if peer in row else None for peer in self.ranks] for row in self.mesh]
        with self.measured() as costs:
            self.runtimes = self.together(lambda rank: Runtime(self.link(rank), config))
        (self.cost,) = costs
        self.share(STEP, np.asarray(self.number.step, np.float32), None)

    @property
    def ranks(self) -> range:
        """The parties' ranks."""
        return range(len(self.names))

    def link(self, rank: int) -> Any:
        """SPU's link of one party."""
        description = libspu.link.Desc()
        description.recv_timeout_ms = int(PATIENCE * 1000)
        for name in self.names:
            description.add_party(name, name)
        return libspu.link.create_with_channels(description, rank, self.adapters[rank])

    def together(self, action: Callable[[int], T]) -> list[T]:
        """What `action(rank)` gives, in a thread a party at once. The first exception of any party comes out."""
        futures = [self.threads.submit(action, rank) for rank in self.ranks]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            if future.exception() is not None:
                for row in self.mesh:
                    for channel in row.values():
                        channel.close()
                future.result()
        return [future.result() for future in futures]

    @contextmanager
    def measured(self) -> Iterator[list[Cost]]:
        """Appends the cost of the block to the list that it gives."""
        costs: list[Cost] = []
        before, start = self.sent(), time.perf_counter()
        yield costs
        seconds = time.perf_counter() - start
        spent = [now - earlier for now, earlier in zip(self.sent(), before, strict=True)]
        costs.append(
            Cost(
                seconds,
                sum(part.bytes for part in spent),
                max(part.messages for part in spent),
                {name: part.bytes for name, part in zip(self.names, spent, strict=True)},
            )
        )

    def sent(self) -> list[Sent]:
        """What each party has sent so far, shares included."""
        return [sum((channel.sent for channel in row.values()), Sent()) for row in self.mesh]

    def share(self, name: str, array: np.ndarray, holder: int | None) -> None:
        """Sets a variable in every party: secret shares that `holder` sends, or (None) a public value that all know."""
        visibility = libspu.Visibility.VIS_PUBLIC if holder is None else libspu.Visibility.VIS_SECRET
        shares = self.io.make_shares(array, visibility)
        for rank in reversed(self.ranks):
            share = shares.pop()  # dropped as soon as its party has it: all shares of a table would be gigabytes
            if holder is not None and rank != holder:
                self.mesh[holder][rank].count(size_of(share))
            self.runtimes[rank].set_var(name, share)

    def rebuild(self, name: str) -> np.ndarray:
        """A variable from the shares that its parties send to the client; deletes it."""
        shares = [runtime.get_var(name) for runtime in self.runtimes]
        for rank in self.ranks:
            self.runtimes[rank].del_var(name)
            if rank != CLIENT:
                self.mesh[rank][CLIENT].count(size_of(shares[rank]))
        return np.asarray(self.io.reconstruct(shares))

    def run(
        self, executable: Any, inputs: Mapping[str, np.ndarray], public: frozenset[str]
    ) -> tuple[dict[str, np.ndarray], Cost]:
        """One request: the client shares its inputs, all parties run the executable, the client gets the outputs."""
        with self.measured() as costs:
            for name, array in inputs.items():
                self.share(name, array, None if name in public else CLIENT)
            self.together(partial(self.execute, executable))
            outputs = {name: self.rebuild(name) for name in executable.output_names}
        self.forget(inputs)
        return outputs, costs[0]

    def profile(
        self,
        executables: Mapping[str, Any],
        inputs: Mapping[str, np.ndarray],
        public: frozenset[str],
        outputs: Sequence[str],
    ) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """One request, executable after executable: each reads variables and writes the one that it is named by.

        Gives the outputs, and the cost of each input, executable and output.
        """
        costs: dict[str, Cost] = {}
        for name, array in inputs.items():
            with self.measured() as spent:
                self.share(name, array, None if name in public else CLIENT)
            costs[name] = spent[0]
        last = {name: step for step, executable in executables.items() for name in executable.input_names}
        temporary = {*inputs, *executables} - {*outputs}
        for step, executable in executables.items():
            with self.measured() as spent:
                self.together(partial(self.execute, executable))
            costs[step] = spent[0]
            self.forget(name for name in executable.input_names if name in temporary and last[name] == step)
        self.forget(name for name in temporary if name not in last)
        rebuilt = {}
        for name in outputs:
            with self.measured() as spent:
                rebuilt[name] = self.rebuild(name)
            costs[OUTPUT + name] = spent[0]
        return rebuilt, costs

    def execute(self, executable: Any, rank: int) -> None:
        """Runs an executable at one party."""
        self.runtimes[rank].run(executable)

    def forget(self, names: Iterable[str]) -> None:
        """Deletes variables at every party."""
        for name in names:
            for runtime in self.runtimes:
                runtime.del_var(name)


def size_of(share: Any) -> int:
    """The bytes of a share as it would be sent."""
    return len(share.meta) + sum(len(chunk) for chunk in share.share_chunks)
