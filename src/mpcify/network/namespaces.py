"""Network namespaces of our own, one a party, over lines of a chosen rate: for measurements on one machine.

Linux alone, and root: `ip` makes the namespaces, `tc` shapes each line by a token bucket, in both directions. If lines
have a round trip, too, a process of ours (`relay`) stands between them: netem, the kernel's own, is missing from many.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from mpcify.errors import MpcifyError

BURST = "2mb"  # what may pass at once: less, and a fast line does not reach its rate
RELAY = Path(__file__).with_name("relay.py")
FASTEST = 1000.0  # Gbit/s of a line that has a round trip and no rate
PATIENCE = "200ms"  # what waits longer is dropped
ECHO = """
import socket, statistics, sys, time
address, what = sys.argv[1:]
with socket.socket(type=socket.SOCK_DGRAM) as line:
    line.settimeout(10)
    if what == "serve":
        line.bind((address, 9460))
        print("ready", flush=True)
        message, peer = line.recvfrom(8)
        while message:
            line.sendto(message, peer)
            message, peer = line.recvfrom(8)
    else:
        turns = []
        for _ in range(51):
            start = time.perf_counter()
            line.sendto(b"x", (address, 9460))
            line.recv(8)
            turns.append(time.perf_counter() - start)
        line.sendto(b"", (address, 9460))
        print(statistics.median(turns))
"""


class Namespaces:
    """Namespaces for some parties, joined by a bridge in one more; gone when the `with` block ends.

    names: of the parties. gigabits: of each party's line, both ways; None: as fast as the machine. wanted: seconds from
    party to party and back, what the machine itself takes included; None: as it comes. Raises MPC-505 if the system
    does not permit it.
    """

    def __init__(self, names: Sequence[str], gigabits: float | None = None, wanted: float | None = None) -> None:
        self.names, self.gigabits, self.wanted = tuple(names), gigabits, wanted
        self.prefix = f"mpcify-{os.getpid()}"
        self.made: list[str] = []
        self.relay: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            hub = self.make("hub")
            if self.wanted is None:
                call("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
                call("ip", "-n", hub, "link", "set", "bridge", "up")
            for index, name in enumerate(self.names):
                self.join(hub, self.make(name), index)
            if self.wanted is not None:
                self.pass_on(0.0)
                self.pass_on(max(0.0, (self.wanted - self.round_trip()) / 2))
        except BaseException:
            self.close()
            raise
        return self

    def make(self, name: str) -> str:
        """A namespace; its full name."""
        full = f"{self.prefix}-{name}"
        call("ip", "netns", "add", full)
        self.made.append(full)
        return full

    def join(self, hub: str, space: str, index: int) -> None:
        """A line from a party's namespace to the bridge, shaped at both ends."""
        far = f"line{index}"
        call("ip", "-n", space, "link", "add", "line", "type", "veth", "peer", "name", far, "netns", hub)
        call("ip", "-n", space, "addr", "add", f"{self.address(index)}/24", "dev", "line")
        call("ip", "-n", hub, "link", "set", far, *(("master", "bridge") if self.wanted is None else ()), "up")
        for device in ("lo", "line"):
            call("ip", "-n", space, "link", "set", device, "up")
        if self.gigabits is not None and self.wanted is None:
            shape = ("root", "tbf", "rate", f"{self.gigabits * 1000:.0f}mbit", "burst", BURST, "latency", PATIENCE)
            call("tc", "-n", space, "qdisc", "add", "dev", "line", *shape)
            call("tc", "-n", hub, "qdisc", "add", "dev", far, *shape)

    def pass_on(self, delay: float) -> None:
        """Passes on what comes to the hub, each frame so many seconds later. Raises MPC-505 if it cannot."""
        self.end_relay()
        devices = [f"line{index}" for index in range(len(self.names))]
        words = [sys.executable, str(RELAY), str(self.gigabits or FASTEST), str(delay), *devices]
        place = ("ip", "netns", "exec", f"{self.prefix}-hub")
        self.relay = subprocess.Popen([*place, *words], stdout=subprocess.PIPE, text=True)
        assert self.relay.stdout is not None
        if not self.relay.stdout.readline():
            raise refused("relay", "it has ended, and says why above")

    def end_relay(self) -> None:
        """Ends what passes on, if it runs."""
        if self.relay is not None:
            with self.relay:
                self.relay.terminate()
            self.relay = None

    def address(self, index: int) -> str:
        """A party's address: private, and in these namespaces alone."""
        return f"10.87.0.{index + 1}"

    def inside(self, index: int, *words: str) -> list[str]:
        """A command line that runs in a party's namespace."""
        return ["ip", "netns", "exec", f"{self.prefix}-{self.names[index]}", *words]

    def round_trip(self) -> float:
        """Seconds from the first party to the second and back, the median of many small messages."""
        words = [sys.executable, "-c", ECHO, self.address(1)]
        with subprocess.Popen(self.inside(1, *words, "serve"), stdout=subprocess.PIPE, text=True) as serving:
            assert serving.stdout is not None
            serving.stdout.readline()
            return float(call(*self.inside(0, *words, "ask")))

    def close(self) -> None:
        """Removes the namespaces; their lines go with them."""
        self.end_relay()
        while self.made:
            subprocess.run(["ip", "netns", "delete", self.made.pop()], capture_output=True, check=False)

    def __exit__(self, *_: object) -> None:
        self.close()


def call(*words: str) -> str:
    """Runs a command; its output. Raises MPC-505 if it is missing or not permitted."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        said = str(getattr(problem, "stderr", "") or problem).strip().splitlines()
        raise refused(" ".join(words[:4]) + " …", said[-1] if said else "no reason given") from None


def refused(what: str, why: str) -> MpcifyError:
    """The error of a command that the system does not permit, or does not have."""
    remedy = "run as root on Linux with iproute2 installed, or use the estimate: mpcify estimate --network RTT,GBIT"
    return MpcifyError(505, "network namespaces", f"`{what}` failed: {why}", remedy)
