"""Network namespaces of our own, one a party, over lines of a chosen rate: for measurements on one machine.

Linux alone, and root: `ip` makes the namespaces, `tc` shapes each line by a token bucket, in both directions. Delay is
not added (that needs a module, netem, which many kernels lack): what a longer way costs is a round trip a round more.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Self

from mpcify.errors import MpcifyError

BURST = "2mb"  # what may pass at once: less, and a fast line does not reach its rate
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

    names: of the parties. gigabits: of each party's line, both ways; None: as fast as the machine. Raises MPC-505 if
    the system does not permit it.
    """

    def __init__(self, names: Sequence[str], gigabits: float | None = None) -> None:
        self.names, self.gigabits = tuple(names), gigabits
        self.prefix = f"mpcify-{os.getpid()}"
        self.made: list[str] = []

    def __enter__(self) -> Self:
        try:
            hub = self.make("hub")
            call("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
            call("ip", "-n", hub, "link", "set", "bridge", "up")
            for index, name in enumerate(self.names):
                self.join(hub, self.make(name), index)
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
        call("ip", "-n", hub, "link", "set", far, "master", "bridge", "up")
        for device in ("lo", "line"):
            call("ip", "-n", space, "link", "set", device, "up")
        if self.gigabits is not None:
            shape = ("root", "tbf", "rate", f"{self.gigabits * 1000:.0f}mbit", "burst", BURST, "latency", PATIENCE)
            call("tc", "-n", space, "qdisc", "add", "dev", "line", *shape)
            call("tc", "-n", hub, "qdisc", "add", "dev", far, *shape)

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
        while self.made:
            subprocess.run(["ip", "netns", "delete", self.made.pop()], capture_output=True, check=False)

    def __exit__(self, *_: object) -> None:
        self.close()


def call(*words: str) -> str:
    """Runs a command; its output. Raises MPC-505 if it is missing or not permitted."""
    remedy = "run as root on Linux with iproute2 installed, or use the estimate: mpcify estimate --network RTT,GBIT"
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        said = str(getattr(problem, "stderr", "") or problem).strip().splitlines()
        what = f"`{' '.join(words[:4])} …` failed: {said[-1] if said else 'no reason given'}"
        raise MpcifyError(505, "network namespaces", what, remedy) from None
