"""Processes that die, freeze or end: their peers learn it soon, and nothing hangs."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from mpcify.errors import MpcifyError
from mpcify.network.grpc import GrpcNetwork
from tests.network.network_contract import new_session
from tests.network.parties import Cluster

CLIENT = """
import json, sys, time
from mpcify.errors import MpcifyError
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.links import Limits
from mpcify.network.tls import Credentials

told = json.load(sys.stdin)
credentials = Credentials(*(told[name].encode() for name in ("certificate", "key", "authority")))
network = GrpcNetwork("client", lambda: credentials, peers={"owner": told["owner"]}, dialler="client", listen=None,
                      limits=Limits(1 << 20, 1 << 20), timeout=20)
links = network.dial(told["session"], 15)
links.send("owner", "here", b"")
print("here", flush=True)
time.sleep(told["seconds"])
"""


@contextmanager
def client(cluster: Cluster, seconds: float) -> Iterator[subprocess.Popen]:
    """A client in a process of its own, in a session; it ends after some seconds, without closing anything."""
    known = cluster.credentials["client"]
    told = {"owner": cluster.addresses["owner"], "session": new_session(), "seconds": seconds}
    told |= {name: getattr(known, name).decode() for name in ("certificate", "key", "authority")}
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(told))
        process.stdin.close()
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        process.kill()
        process.wait()


def learns(owner: GrpcNetwork, happens: Callable[[], object]) -> float:
    """Seconds until the owner, which waits for the client, learns that the connection is lost."""
    links = owner.accept(20)
    links.timeout = 30
    links.receive("client", "here")
    happens()
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="closed: the connection to client was lost"):
        links.receive("client", "never")
    return time.monotonic() - began


def test_a_process_that_ends_in_an_open_session_does_not_hang_and_is_missed_at_once(
    cluster: Cluster, owner: GrpcNetwork
) -> None:
    with client(cluster, 0.5) as process:
        assert learns(owner, lambda: process.wait(timeout=5)) < 1
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_party_that_is_killed_is_missed_at_once(cluster: Cluster, owner: GrpcNetwork) -> None:
    with client(cluster, 60) as process:
        assert learns(owner, process.kill) < 1


def test_a_party_that_is_frozen_is_missed_within_seconds(cluster: Cluster, owner: GrpcNetwork) -> None:
    with client(cluster, 60) as process:
        assert learns(owner, lambda: process.send_signal(signal.SIGSTOP)) < 8


def test_a_forwarded_port_of_a_party_that_is_not_there_yet_is_no_refusal(cluster: Cluster) -> None:
    """What forwards it takes the call, and ends it as soon as nobody is found behind."""
    host, port = cluster.addresses["owner"].split(":")
    with socket.create_server((host, int(port))) as forwarder:

        def forward() -> None:
            with suppress(OSError):
                while True:
                    forwarder.accept()[0].close()

        threading.Thread(target=forward, daemon=True).start()
        with pytest.raises(MpcifyError, match="MPC-703 owner: not reached"):
            cluster.network("client").dial(new_session(), 2)
        forwarder.shutdown(socket.SHUT_RDWR)
