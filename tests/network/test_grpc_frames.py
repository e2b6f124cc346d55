"""What a party may send that no honest one does: each ends its session with a reason, and nothing else."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcify.errors import MpcifyError
from mpcify.network import dial
from mpcify.network import stream as stream_module
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.sessions import GrpcLinks
from mpcify.network.stream import Stream
from mpcify.network.wire import LET_IN, MORE, STANDS, goodbye
from tests.network.conftest import Intrude
from tests.network.hostile import Hostile, HostileServer, Talk, head
from tests.network.network_contract import new_session, opened, talk
from tests.network.parties import Cluster

import grpc  # isort: skip  # after tls, which prepares it

BROKEN = "closed: MPC-707 client broke the protocol: "
LONG = bytes(1 << 20)


def entered(peer: Hostile, owner: GrpcNetwork) -> tuple[Talk, GrpcLinks]:
    """A session of somebody hostile with the owner, from both ends."""
    return peer.enter(new_session()), owner.accept(15)


def hostile_owner(cluster: Cluster) -> HostileServer:
    """Somebody hostile in the owner's place, with its certificate."""
    return HostileServer(cluster.addresses["owner"], cluster.credentials["owner"])


@pytest.mark.parametrize(
    "frames, reason",
    [
        ([head(b"k", (4 << 20) + 1) + LONG], "a message of 4194305 bytes is larger than allowed"),
        ([head(b"k", 2**64 - 1)], "larger than allowed"),
        ([head(b"k" * 65, 1) + b"1"], "a key is longer than allowed"),
        ([head(b"k", 1, key_length=2**32 - 1)], "a key is longer than allowed"),
        ([head(bytes([65 + number]), 0) for number in range(21)], "more different keys than allowed"),
        ([head(b"k%d" % (2 * number), 0) for number in range(21)], "more different keys than allowed"),
        ([head(b"k", 9)[:7]], "a frame ends inside its head"),
        ([head(b"k", 9) + b"1234"], "a frame has another length"),
        ([head(b"k", 2 << 20) + LONG[1:]], "a frame has another length"),
        ([head(b"k", 0), head(b"k", 0)], "a key came twice"),
        ([head(b"\xff\xfe", 0)], "a key is no text"),
        ([MORE + b"more of nothing"], "a message goes on that has not begun"),
        ([head(b"k", 2 << 20) + LONG, head(b"l", 0)], "a message begins inside another"),
        ([LET_IN], "no known kind"),
        ([STANDS], "no known kind"),
        ([b""], "no known kind"),
        ([b"\x80\x04\x95N."], "no known kind"),
        ([goodbye("") + b"x" * 5000], "its reason is too long"),
    ],
)
def test_a_frame_against_the_protocol_ends_the_session_and_both_ends_know_why(
    owner: GrpcNetwork, intrude: Intrude, frames: list[bytes], reason: str
) -> None:
    stream, links = entered(intrude(), owner)
    stream.say(*frames)
    with pytest.raises(ConnectionError, match=f"{BROKEN}.*{reason}"):
        links.receive("client", "never")
    assert stream.last_words().startswith("MPC-707 client broke the protocol: ")


@pytest.mark.parametrize("length", [(1 << 20) + 1000, 5 << 20])
def test_a_frame_that_is_larger_than_any_is_never_read(owner: GrpcNetwork, intrude: Intrude, length: int) -> None:
    stream, links = entered(intrude(), owner)
    stream.say(bytes(length))
    with pytest.raises(ConnectionError, match="the connection to client was lost"):
        links.receive("client", "never")


def test_a_compressed_frame_is_not_unpacked(intrude: Intrude) -> None:
    peer = intrude()
    stream = peer.open(new_session(), compression=grpc.Compression.Gzip)
    stream.say(head(b"k", 1 << 20) + LONG)
    assert "UNIMPLEMENTED" in stream.last_words()


@pytest.mark.parametrize("frame", [head(b"k", 1) + b"1", LET_IN, STANDS, b"", goodbye("early")])
def test_a_caller_that_speaks_before_all_are_there_is_refused(frame: bytes) -> None:
    with (
        Cluster("client", "owner", "helper") as cluster,
        Hostile(cluster.addresses["owner"], "owner", cluster.credentials["client"]) as peer,
    ):
        owner = cluster.network("owner")
        stream = peer.open(new_session())
        assert stream.hear() == LET_IN
        stream.say(frame)
        assert "MPC-707 client broke the protocol: it spoke before the session stood" in stream.last_words()
        talk(opened(cluster.network("client"), owner, cluster.network("helper")))


def test_a_caller_that_is_refused_hears_why_from_a_party_that_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "LINGER", 0.0)
    waits = Stream.wait_until_it_stands
    monkeypatch.setattr(Stream, "wait_until_it_stands", lambda *given: (waits(*given), time.sleep(0.3))[0])
    with (
        Cluster("client", "owner", "helper") as cluster,
        Hostile(cluster.addresses["owner"], "owner", cluster.credentials["client"]) as peer,
    ):
        cluster.network("owner")
        stream = peer.open(new_session())
        assert stream.hear() == LET_IN
        stream.say(b"early")
        assert "it spoke before the session stood" in stream.last_words()


def test_a_callers_goodbye_is_shown_as_one_line_that_can_be_printed(owner: GrpcNetwork, intrude: Intrude) -> None:
    stream, links = entered(intrude(), owner)
    stream.say(goodbye("")[:1] + b"\x1b[2J\r\nMPC-999 fake \xff" + b"x" * 1000)
    with pytest.raises(ConnectionError) as caught:
        links.receive("client", "never")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("first", [b"", STANDS, head(b"k", 1) + b"1", b"junk"])
def test_a_party_that_is_dialled_and_says_something_else_first_is_refused(cluster: Cluster, first: bytes) -> None:
    with (
        HostileServer(cluster.addresses["owner"], cluster.credentials["owner"]) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        dialled = pool.submit(cluster.network("client").dial, new_session(), 3)
        server.answer()[1].say(first)
        with pytest.raises(MpcifyError, match=r"MPC-703 owner.*MPC-707 owner broke the protocol"):
            dialled.result(timeout=15)


def test_a_party_that_was_dialled_cannot_break_the_protocol_either(cluster: Cluster) -> None:
    with (
        HostileServer(cluster.addresses["owner"], cluster.credentials["owner"]) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        dialled = pool.submit(cluster.network("client").dial, new_session(), 15)
        stream = server.answer()[1].say(LET_IN, STANDS)
        links = dialled.result(timeout=15)
        stream.say(head(b"k", 2**40))
        with pytest.raises(ConnectionError, match="MPC-707 owner broke the protocol"):
            links.receive("owner", "k")
        assert stream.last_words().startswith("MPC-707 owner broke the protocol")


def test_a_party_that_breaks_the_protocol_leaves_the_others_connected() -> None:
    with Cluster("client", "owner", "helper") as cluster, ThreadPoolExecutor(1) as pool:
        owner = cluster.network("owner")
        with (
            HostileServer(cluster.addresses["helper"], cluster.credentials["helper"]) as server,
            Hostile(cluster.addresses["owner"], "owner", cluster.credentials["helper"]) as caller,
        ):
            dialled = pool.submit(cluster.network("client").dial, new_session(), 15)
            session, stream = server.answer()
            to_owner = caller.enter(session)
            stream.say(LET_IN, STANDS)
            links = [dialled.result(timeout=15), owner.accept(15)]
            to_owner.say(b"junk")
            with pytest.raises(ConnectionError, match="MPC-707 helper broke the protocol"):
                links[1].receive("helper", "k")
            links[0].send("owner", "k", b"on")
            assert links[1].receive("client", "k") == b"on"


def test_a_stream_for_another_session_than_the_dialling_partys_does_not_join() -> None:
    with (
        Cluster("client", "owner", "helper") as cluster,
        Hostile(cluster.addresses["owner"], "owner", cluster.credentials["helper"]) as caller,
    ):
        networks = [cluster.network(name) for name in ("client", "owner")]
        early = caller.open(new_session())
        assert early.hear() == LET_IN
        networks.append(cluster.network("helper"))
        talk(opened(*networks))
        assert early.last_words() == "UNAVAILABLE: client opened another session"


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60) | st.sampled_from([head(b"k", 9) + b"123456789", MORE + b"x"]), max_size=6))
def test_any_frames_leave_the_service_alive(owner: GrpcNetwork, intrude: Intrude, frames: list[bytes]) -> None:
    with intrude() as peer:
        stream, links = entered(peer, owner)
        stream.say(*frames)
        stream.hang_up()
        with pytest.raises(ConnectionError, match="client is closed"):
            links.receive("client", "never")


def held(links: Any) -> int:
    return links.inboxes["client"]._held


def settled(size: Callable[[], int], least: int) -> int:
    """A size, once it is as large as it must become and no longer grows."""
    end = time.monotonic() + 20
    before = -1
    while size() < least or size() > before:
        assert time.monotonic() < end
        before = size()
        time.sleep(0.5)
    return before


def test_what_a_caller_leaves_unread_is_bounded_until_somebody_asks(owner: GrpcNetwork, intrude: Intrude) -> None:
    stream, links = entered(intrude(), owner)
    stream.say(*(head(b"k%d" % number, 1 << 20) + LONG for number in range(8)))
    assert settled(lambda: held(links), 2 << 20) < 3 << 20
    for number in range(8):
        assert len(links.receive("client", f"k{number}")) == 1 << 20


def test_empty_messages_take_room_too(owner: GrpcNetwork, intrude: Intrude) -> None:
    room = 128
    owner.limits = replace(owner.limits, waiting=room * 512)
    stream, links = entered(intrude(), owner)
    stream.say(*(head(b"k%d" % number, 0) for number in range(200)))
    assert settled(lambda: len(links.inboxes["client"]._messages), room) == room
    assert links.receive("client", "k199") == b""


def test_a_caller_that_sends_ever_more_than_is_asked_for_is_refused(owner: GrpcNetwork, intrude: Intrude) -> None:
    stream, links = entered(intrude(), owner)
    stream.say(*(head(b"k%d" % number, 1 << 20) + LONG for number in range(30)))
    with pytest.raises(ConnectionError, match=f"{BROKEN}it sends ever more that nobody asks for"):
        links.receive("client", "never")
    assert held(links) <= 8 << 20


def test_what_the_peer_would_refuse_is_not_sent(cluster: Cluster, owner: GrpcNetwork) -> None:
    links = opened(cluster.network("client"), owner)
    for key, message in (("k", bytes((4 << 20) + 1)), ("k" * 65, b"")):
        with pytest.raises(ValueError, match="above the limits"):
            links[0].send("owner", key, message)
    for key, message in (("m", bytes(4 << 20)), ("k" * 64, b"")):
        links[0].send("owner", key, message)
        assert links[1].receive("client", key) == message


def test_who_sends_to_a_peer_that_reads_nothing_waits_and_gives_up(owner: GrpcNetwork, intrude: Intrude) -> None:
    stopped = threading.Event()

    def nothing() -> Iterator[bytes]:
        stopped.wait(20)
        yield b""

    metadata = ((dial.SESSION, new_session()), (dial.WIRE, "1"))
    call = intrude().channel.stream_stream(dial.METHOD)(nothing(), metadata=metadata)
    assert (next(call), next(call)) == (LET_IN, STANDS)
    links = owner.accept(15)
    links.timeout = 0.5

    def send_on() -> None:
        for number in range(200):
            links.send("client", f"k{number}", LONG)

    with pytest.raises(TimeoutError, match=r"client has not taken what was sent before within 0\.5 s"):
        send_on()
    assert links.sent.bytes < 64 << 20
    began = time.monotonic()
    links.close("enough")
    assert time.monotonic() - began < 4
    stopped.set()
