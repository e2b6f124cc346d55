"""Namespaces: parties reach each other in them and nobody else, at the rate that was asked for."""

import os
import subprocess
import sys

import pytest

from mpcify.errors import MpcifyError
from mpcify.network import namespaces
from mpcify.network.namespaces import Namespaces, call

SEND = """
import socket, sys, time
if sys.argv[1] == "serve":
    with socket.create_server((sys.argv[2], 9123)) as server:
        print("ready", flush=True)
        peer, _ = server.accept()
        start, count = time.perf_counter(), 0
        while data := peer.recv(1 << 20):
            count += len(data)
        print(count / (time.perf_counter() - start))
else:
    with socket.create_connection((sys.argv[2], 9123)) as peer:
        for _ in range(12):
            peer.sendall(bytes(1 << 20))
"""


def permitted() -> bool:
    """Whether this system lets us make namespaces and shape lines."""
    try:
        with Namespaces(("a", "b"), 1.0) as spaces:
            return spaces.round_trip() < 1
    except MpcifyError:
        return False


can = pytest.mark.skipif(not permitted(), reason="network namespaces are not permitted here")


def known() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def measured(spaces: Namespaces) -> float:
    """Bits a second from the first namespace to the second."""
    words = [sys.executable, "-c", SEND]
    serving = subprocess.Popen(spaces.inside(1, *words, "serve", spaces.address(1)), stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    serving.stdout.readline()
    subprocess.run(spaces.inside(0, *words, "send", spaces.address(1)), check=True)
    return float(serving.communicate()[0]) * 8


@can
def test_a_line_has_the_rate_that_was_asked_for_and_all_is_removed_afterwards() -> None:
    with Namespaces(("a", "b"), 0.1) as spaces:
        rate = measured(spaces)
        assert f"mpcify-{os.getpid()}-a" in known()
    assert 0.05e9 < rate < 0.14e9
    assert f"mpcify-{os.getpid()}" not in known()


@can
def test_lines_with_a_round_trip_have_it_and_their_rate() -> None:
    with Namespaces(("a", "b"), 0.1, 0.02) as spaces:
        assert 0.02 < spaces.round_trip() < 0.04
        rate = measured(spaces)
    assert 0.05e9 < rate < 0.1e9
    assert f"mpcify-{os.getpid()}" not in known()


@can
def test_nothing_leads_out_of_a_namespace() -> None:
    with Namespaces(("a",)) as spaces:
        routes = subprocess.run(spaces.inside(0, "ip", "route"), capture_output=True, text=True, check=True).stdout
    assert "default" not in routes


@can
def test_what_was_made_is_removed_if_a_later_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "BURST", "nothing")
    with pytest.raises(MpcifyError, match="MPC-505 network namespaces"), Namespaces(("a",), 1.0):
        raise AssertionError("it must not begin")
    assert f"mpcify-{os.getpid()}" not in known()


def test_a_command_that_is_missing_or_refused_is_one_numbered_line() -> None:
    for words in (("mpcify-no-such-command",), ("false",)):
        with pytest.raises(MpcifyError, match=r"^MPC-505 network namespaces: .* Do this: run as root"):
            call(*words)
