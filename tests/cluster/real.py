"""A deployment whose parties are processes, as `mpcify party serve` starts them, on lines that record."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.authority import create_kits
from mpcify.cluster.deploy import write_deployment
from mpcify.engines.config import EngineConfig
from mpcify.graph.exported import write
from tests.cluster.deployments import edit
from tests.graph.bags import Bag

WEIGHT = np.float32(0.718281828)  # every weight of the model
STARTING = 120.0  # seconds


def constant_bag() -> Bag:
    """A model of one length, whose weights are all the same recognisable number."""
    bag = Bag()
    bag.owned = {name: np.full_like(array, WEIGHT) for name, array in bag.owned.items()}
    return bag


class Recorder:
    """Passes connections on, and keeps what went over them. address: where it listens."""

    def __init__(self, target: str) -> None:
        self.target, self.recorded = target, bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        host, port = self.target.split(":")
        with suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                try:
                    called = socket.create_connection((host, int(port)))
                except OSError:
                    caller.close()
                    continue
                for ends in ((caller, called), (called, caller)):
                    threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.recorded += data
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.close()


class RealParties:
    """folder: of the deployment. lines: the recorders, by the party that is dialled. logs: what each process wrote."""

    def __init__(self, folder: Path, kits: Path, lines: dict[str, Recorder]) -> None:
        self.folder, self.kits, self.lines = folder, kits, lines
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def logs(self) -> dict[str, str]:
        return {role: (self.folder / f"{role}.log").read_text() for role in self.processes}

    @property
    def wire(self) -> bytes:
        return b"".join(bytes(line.recorded) for line in self.lines.values())

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes.values())


@contextmanager
def real_parties(place: Path, engine: EngineConfig) -> Iterator[RealParties]:
    """Everything is made, started and stopped; the parties are asked to write all that they can."""
    exported, kits, out = place / "exported", place / "kits", place / "out"
    listening = engine.parties[1:]
    exported.mkdir()
    write(constant_bag(), (4,), exported)
    create_kits(kits, engine.parties)
    addresses = dict(zip(listening, free_addresses(2), strict=True))
    write_deployment(exported, kits, out, engine, addresses)
    lines = {name: Recorder(address) for name, address in addresses.items()}
    for role in engine.parties:
        edit(out / role, health="", **{name: lines[name].address for name in listening})
        if role in listening:
            path = out / role / "cluster.toml"
            path.write_text(
                path.read_text().replace('[listen]\naddress = ""', f'[listen]\naddress = "{addresses[role]}"')
            )
    parties = RealParties(out, kits, lines)
    environment = {**os.environ, "MPCIFY_DEBUG": "1", "GRPC_VERBOSITY": "DEBUG"}
    with ExitStack() as stack:
        for line in lines.values():
            stack.callback(line.close)
        for role in listening:
            log = stack.enter_context((out / f"{role}.log").open("wb"))
            command = [sys.executable, "-P", "-m", "mpcify", "party", "serve", str(out / role)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            parties.processes[role] = process
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        end = time.monotonic() + STARTING
        while not all('"event": "ready"' in log for log in parties.logs.values()):
            assert parties.alive(), parties.logs
            assert time.monotonic() < end, parties.logs
            time.sleep(0.1)
        yield parties
