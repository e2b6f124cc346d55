"""The relay in the parent keeps nothing back, and ends with either side."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from mpcify.network.memory import MemoryLinks, connect
from mpcify.network.pipe import HEAD, SEND, Lane, PipeLinks, Relay
from tests.network.piped import Piped


def pair() -> tuple[Piped, MemoryLinks]:
    """A child's links, and those of its only peer."""
    ends = connect(("a", "b"), timeout=20)
    return Piped(ends["a"]), ends["b"]


def test_what_was_flushed_is_with_the_parents_links() -> None:
    child, peer = pair()
    for number in range(50):
        child.send("b", f"k{number}", bytes(100_000))
    child.flush()
    peer.timeout = 0
    assert all(len(peer.receive("a", f"k{number}")) == 100_000 for number in range(50))
    assert child.links.sent == child.sent


def test_a_message_that_is_lost_closes_the_links_and_the_flush_says_why() -> None:
    child, peer = pair()
    child.links.send("b", "taken", b"by the parent")
    child.send("b", "taken", b"by the child")
    with pytest.raises(ValueError, match="a has sent 'taken' to b before"):
        child.flush()
    with pytest.raises(ConnectionError, match="between b and a is closed: a has sent 'taken'"):
        peer.receive("a", "never")


def test_a_reason_goes_both_ways() -> None:
    for closes in (0, 1):
        child, peer = ends = pair()
        ends[closes].close("the power failed")
        with pytest.raises(ConnectionError, match=r"between a and b is closed: the power failed\Z"):
            child.receive("b", "k")
        with pytest.raises(ConnectionError, match=r"between b and a is closed: the power failed\Z"):
            peer.receive("a", "k")


def test_the_peers_learn_at_once_that_a_child_was_killed() -> None:
    ends = connect(("a", "b"), timeout=20)
    mine, theirs = socket.socketpair()
    Relay(ends["a"], mine, "a's child has ended")
    code = """
import socket, sys, time
from mpcify.network.pipe import PipeLinks
links = PipeLinks("a", ["b"], "s", 20, socket.socket(fileno=int(sys.argv[1])))
links.send("b", "k", b"x" * 10_000_000)
links.receive("b", "never")
"""
    with theirs:
        words = [sys.executable, "-c", code, str(theirs.fileno())]
        child = subprocess.Popen(words, pass_fds=(theirs.fileno(),))
    assert len(ends["b"].receive("a", "k")) == 10_000_000
    threading.Timer(0.1, child.kill).start()
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="a's child has ended"):
        ends["b"].receive("a", "more")
    assert time.monotonic() - start < 5
    child.wait()


def test_a_child_whose_parent_is_gone_gets_a_connection_error() -> None:
    mine, theirs = socket.socketpair()
    child = PipeLinks("a", ["b"], "s", 20, theirs)
    _, (outgoing,), _, _ = socket.recv_fds(mine, 1, 1)
    os.close(outgoing)
    with pytest.raises(ConnectionError):
        child.send("b", "k", b"")
    mine.close()
    with pytest.raises(ConnectionError):
        child.receive("b", "k")
    child.close("too late for anybody")


class FullLinks(MemoryLinks):
    """Links that take a message only when they are told to."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.room = threading.Semaphore(0)
        self.taken = 0

    def post(self, peer: str, key: str, message: bytes) -> None:
        self.room.acquire()
        self.taken += 1


def test_a_child_cannot_send_more_than_the_parents_links_take() -> None:
    links = FullLinks("a", ["b", "c"], "s", 20.0)
    child, sent = Piped(links), []

    def send() -> None:
        for number in range(20):
            child.send("b", f"k{number}", bytes(1 << 20))
            sent.append(number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    time.sleep(0.3)
    assert len(sent) < 3
    links.inboxes["b"].put("answer", b"!")
    assert child.receive("b", "answer") == b"!", "who receives does not wait for what is sent"
    for _ in range(20):
        links.room.release()
    thread.join(10)
    assert (len(sent), thread.is_alive()) == (20, False)


def test_a_length_above_the_limits_is_refused_before_anything_is_allocated() -> None:
    mine, theirs = socket.socketpair()
    lane = Lane(mine)
    theirs.sendall(HEAD.pack(SEND, 0, 1, 1 << 60))
    with pytest.raises(EOFError, match="above the limits"):
        lane.read()
    lane.close()
