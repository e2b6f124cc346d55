"""All parties that serve, as processes of this machine: for a first try, for tests and for measurements."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.authority import create_kits
from mpcify.cluster.config import refuse
from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.logs import readable
from mpcify.cluster.session import CLIENT
from mpcify.engines.config import EngineConfig
from mpcify.errors import MpcifyError

STARTING, STOPPING = 120.0, 60.0  # seconds until a party is ready, and until it has stopped
LOOPBACK = "127.0.0.1"
# `mpcify party serve` of the words that follow, in a process that does not outlive this one
SERVE = (
    "from mpcify.cluster.local import end_with_starter; end_with_starter(); from mpcify.__main__ import main; main()"
)


def deploy_here(parties: str | Path, out: str | Path, engine: EngineConfig) -> Path:
    """Fills OUT, a new folder, for parties that are all on this machine, at ports that are free now; OUT/deployment.

    parties: what `export` wrote. Nobody is asked for health, so that several clusters can stand beside each other.
    Raises what `create_kits` and `write_deployment` raise.
    """
    out, names = Path(out), engine.parties
    create_kits(out / "kits", names)
    listening = [name for name in names if name != CLIENT]
    addresses = dict(zip(listening, free_addresses(len(listening)), strict=True))
    urls = {name: f"http://{place}" for name, place in zip(("delegate", "owner"), free_addresses(2), strict=True)}
    made = out / "deployment"
    write_deployment(parties, out / "kits", made, engine, addresses, {}, urls if engine.delegated else None)
    return made


def end_with_starter() -> None:
    """Ends this process as SIGTERM does once its stdin ends, which whoever started it holds open while it lives."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


class LocalParties:
    """A process for each party but the client, over the folders of one deployment, from `start` until `stop`.

    They are what runs on machines of their own, with the same keys. next_step: the command that uses them. folder: that
    `party init` wrote. tell: gets each line of their logs, for people. Raises MPC-701 for another folder, MPC-703 for a
    party that does not start.
    """

    def __init__(self, folder: str | Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.tell = Path(folder), tell
        client = read_deployment(self.folder / CLIENT, CLIENT)
        self.roles = tuple(name for name in client.engine.parties if name != CLIENT)
        verb = "gateway {}" if client.engine.delegated else "infer --cluster {} TEXT"
        self.next_step = f"mpcify {verb.format(self.folder / CLIENT)}"
        for role in self.roles:
            if not (self.folder / role).is_dir():
                refuse(self.folder / role, "there is no such folder", "name the folder that mpcify party init wrote")
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ready = {role: threading.Event() for role in self.roles}
        self.failed: dict[str, str] = {}  # the last line of a party that ended by itself

    def start(self) -> None:
        """Starts them, and returns when all are ready."""
        try:
            for role in self.roles:
                words = [sys.executable, "-P", "-c", SERVE, "party", "serve", str(self.folder / role)]
                self.processes[role] = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # Ctrl-C is for whoever started them, who stops them
                )
                threading.Thread(target=self.follow, args=(role, self.processes[role].stderr), daemon=True).start()
            for role, ready in self.ready.items():
                if not ready.wait(STARTING) or role in self.failed:
                    what = self.failed.get(role, f"it is not ready after {STARTING:.0f} s")
                    raise MpcifyError(703, f"party {role}", what, f"see why: mpcify party serve {self.folder / role}")
        except BaseException:
            self.stop()
            raise

    def follow(self, role: str, stream: IO[str] | None) -> None:
        """Reads a party's log: passes it on, and notes when it is ready, or has ended before."""
        last = "it ended"
        for line in stream or ():
            try:
                facts = json.loads(line)
                self.tell(readable(facts))
                if facts["event"] == "ready":
                    self.ready[role].set()
            except (ValueError, KeyError, TypeError):  # an error before the log began
                last = line.strip()
                self.tell(f"{role}: {last}")
        if stream is not None:
            stream.close()
        if not self.ready[role].is_set():
            self.failed[role] = last
            self.ready[role].set()

    def wait(self) -> str:
        """Returns when one has ended by itself: which."""
        while True:
            for role, process in self.processes.items():
                try:
                    process.wait(0.2)
                    return role
                except subprocess.TimeoutExpired:
                    continue

    def stop(self) -> None:
        """Stops them, each after the request that runs; a second call does nothing."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self.processes = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
