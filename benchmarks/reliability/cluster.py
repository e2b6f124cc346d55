"""A cluster of processes whose lines go through proxies, so that everything between and in them can be broken."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from benchmarks.reliability.deployment import ROLES, edit
from benchmarks.reliability.processes import LIMIT, Client, Party, Process
from benchmarks.reliability.proxy import Lines, Proxy
from mpcify.cluster.addresses import Address, free_addresses

PAIRS = {"client": ROLES, "helper": ("owner",)}  # who dials whom


class Cluster:
    """Owner and helper at work, and a client when there is one. folder: of the deployment, whose addresses it changes.

    bytes_of: what passes between all parties in each phase, by `measure`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines, self.proxies = folder, Lines(), dict[str, Proxy]()
        self.bytes_of: dict[str, int] = {}
        self.client: Client | None = None
        listening = dict(zip(ROLES, free_addresses(2), strict=True))
        dialled: dict[str, dict[str, str]] = {role: dict(listening) for role in ("client", *ROLES)}
        for caller, peers in PAIRS.items():
            for peer in peers:
                (here,) = free_addresses(1)
                self.proxies[f"{caller}-{peer}"] = Proxy(self.lines, here, listening[peer])
                dialled[caller][peer] = here
        for role, places in dialled.items():
            edit(folder / role, parties=places, listen={"address": listening.get(role, "")})
        self.listening = listening
        self.parties: dict[str, Party] = {}

    def start(self, *roles: str, folders: Mapping[str, Path] | None = None, **options: Any) -> None:
        """Starts parties that do not run, all at once. folders: of those that do not start from their own."""
        threads = []
        for role in roles:

            def begin(role: str = role) -> None:
                self.parties[role] = Party((folders or {}).get(role, self.folder / role), **options)

            threads.append(threading.Thread(target=begin))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def listens(self, role: str) -> None:
        """Waits until a party can be dialled, whose log nobody reads."""
        address, end = Address.parse(self.listening[role]), time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection((address.host, address.port)).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def process(self, role: str) -> Process:
        """The client or a party."""
        found = self.client if role == "client" else self.parties[role]
        assert found is not None
        return found

    def connect(self) -> Client:
        """The client; a new one if there is none, or if it has ended."""
        if self.client is None or self.client.process.poll() is not None:
            self.client = Client(self.folder / "client")
        return self.client

    def leave(self) -> None:
        """Ends the client as it should, and waits until the parties wait for another."""
        if self.client is not None and self.client.process.poll() is None:
            assert self.client.process.stdin is not None
            self.client.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.client.process.wait(LIMIT)
            self.client.kill()
        self.client = None

    def measure(self, text: str) -> None:
        """How many bytes pass in each phase."""
        marks = [self.lines.passed]
        client = self.connect()
        client.connected()
        marks.append(self.lines.passed)
        for _ in range(2):
            client.ask(text)
            marks.append(self.lines.passed)
        handshake, both, request = (b - a for a, b in pairwise(marks))
        self.bytes_of = {"handshake": handshake, "weights": both - request, "inference": request}
        self.leave()

    def signal(self, role: str, part: str, number: signal.Signals) -> None:
        """Sends a signal to a role's process, or to its engine's."""
        process = self.process(role)
        pid = process.pid if part == "process" else process.engine()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.client, *self.parties.values()):
            if process is not None:
                process.kill()
