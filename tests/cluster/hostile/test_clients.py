"""A client gone bad, against parties that serve: each message is refused with a number or a reason, the parties live
on, and the next honest request is answered.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.cluster.deployed import connect, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.handshake import shake_hands
from mpcify.cluster.orders import Order, cost_key, echo_key, order_key
from mpcify.cluster.programs import KEYS
from mpcify.errors import MpcifyError
from mpcify.network.wire import GOODBYE, MESSAGE, MORE
from tests.cluster.deployments import edit
from tests.cluster.hostile.honest import SERVING, SILENCE, TEXTS, address_of, check_refused
from tests.cluster.intruder import credentials_of, rogue_client
from tests.cluster.tampering import Post, tampering
from tests.network.hostile import Hostile, head

BROKEN = "MPC-707 client broke the protocol: "


@pytest.mark.parametrize("hello", [b"", b"x" * 31, bytes(1 << 20)], ids=["nothing", "31 bytes", "1 MiB"])
def test_a_first_message_of_another_length_is_refused(out: Path, hello: bytes) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.say("hello", hello)
        check_refused(rogue, "MPC-707 at ")


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"version of mpcify": "0.0.0"}, "version of mpcify"),
        ({"graphs, settings or version of the engine": []}, "graphs, settings or version of the engine"),
        ({"lengths or batch": [[4], 2]}, "lengths or batch"),
    ],
    ids=["version", "graphs", "lengths"],
)
def test_a_client_with_other_facts_is_refused_before_anything_is_shared(
    out: Path, facts: dict[str, Any], what: str
) -> None:
    with rogue_client(out / "client") as rogue:
        honest = programs_of(read_deployment(out / "client")).facts
        with pytest.raises(MpcifyError, match=f"MPC-705 party .*it has other {what}"):
            shake_hands(rogue, {**honest, **facts})
        check_refused(rogue, "MPC-705 at ")


def test_a_client_of_other_settings_is_told_so(out: Path, tmp_path: Path) -> None:
    other = tmp_path / "client"
    shutil.copytree(out / "client", other)
    edit(other, word="another")
    with pytest.raises(MpcifyError, match=r"MPC-705 party .*it has other graphs, settings"):
        connect(other)


NESTED = b'{"do": ' + b"[" * 200_000
LARGE = b'{"do": "answer", "length": 4, "more": "' + bytes(b"x" * (1 << 22)) + b'"}'
ORDERS = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b'["open", 4]',
    "nested": NESTED,
    "nested objects": b'{"do":' * 100_000,
    "bytes that are no text": b"\xff\xfe\xfd",
    "NUL": b"\0" * 4000,
    "a number of a million digits": b'{"do": "open", "length": ' + b"9" * 1_000_000 + b"}",
    "infinity": b'{"do": "open", "length": 1e999}',
    "another word": b'{"do": "exec", "length": 4}',
    "a field more": b'{"do": "open", "length": 4, "path": "/etc/passwd"}',
    "a length that is not served": Order("open", 5).to_bytes(),
    "an answer before open": Order("answer", 4).to_bytes(),
    "a profile before open": Order("profile", 4).to_bytes(),
    "an echo of too much": Order("echo", 1 << 40).to_bytes(),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_an_order_that_there_is_not_ends_the_session_with_its_number(out: Path, order: bytes) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        rogue.say(order_key(1), order)
        check_refused(rogue, "MPC-707 at ")


def test_an_order_larger_than_any_is_refused_before_it_is_read(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        rogue.say(order_key(1), LARGE)
        check_refused(rogue, BROKEN, "MPC-707 at")


def test_an_order_twice_ends_the_session(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        order = head(order_key(1).encode(), 0)
        for talk in rogue.talks.values():
            talk.say(order, order)
        check_refused(rogue, "a key came twice", "MPC-707 at")


def test_a_length_that_is_open_is_not_opened_again(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        for number in (1, 2):
            rogue.say(order_key(number), Order("open", 4).to_bytes())
        check_refused(rogue, "MPC-707 at ")


def test_orders_are_done_in_the_order_of_their_numbers(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        rogue.say(order_key(2), Order("answer", 4).to_bytes())
        time.sleep(0.2)
        assert rogue.closed is None
        rogue.say(order_key(1), Order("open", 4).to_bytes())
        for peer in SERVING:
            assert json.loads(rogue.receive(peer, cost_key(1), 5))


def test_an_echo_of_another_size_than_was_said_ends_the_session(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        rogue.say(order_key(1), Order("echo", 10).to_bytes())
        rogue.say(echo_key(1), b"more than ten bytes")
        check_refused(rogue, "MPC-707 at ")


def test_only_the_client_gives_orders(out: Path, expected: np.ndarray) -> None:
    """Keys of everything that others send, from the client, before they are due: what is not due is never read."""
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        for key in ("cost#1", "rebuild#1", "share/owner#1", "trusting/weights#1", "spu/root:0:ALLGATHER#0", "agree#1"):
            rogue.say(key, b"junk")
        time.sleep(0.2)
        assert rogue.closed is None


def test_an_engines_message_before_it_is_due_is_read_when_it_is_and_refused_by_number(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        rogue.send("helper", "trusting/inputs#2", b"junk, long before anything is open")
        rogue.say(order_key(1), Order("open", 4).to_bytes())
        rogue.say(order_key(2), Order("answer", 4).to_bytes())
        assert "MPC-707 at helper" in rogue.reasons()["helper"]


@pytest.mark.parametrize(
    "alter",
    [
        lambda message: b"",
        lambda message: message[:-1],
        lambda message: message + b"\0",
        lambda message: b"\xff" * 8 + message[8:],
        lambda message: bytes(len(message)),
    ],
    ids=["nothing", "a byte less", "a byte more", "a header of 2^64 bytes", "zeros"],
)
def test_inputs_of_another_size_or_form_end_the_session_by_number(out: Path, alter: Callable[[bytes], bytes]) -> None:
    def tamper(post: Post, peer: str, key: str, message: bytes) -> None:
        post(peer, key, alter(message) if key.startswith("trusting/inputs") else message)

    with tampering(out, tamper) as private, pytest.raises(MpcifyError, match=r"MPC-70[67]"):
        private(TEXTS[:1])


FRAMES = {
    "a reason of 1 MB": [GOODBYE + b"x" * 1_000_000],
    "a key that came": [head(b"k", 0), head(b"k", 0)],
    "a message of 2^60 bytes": [head(b"k", 1 << 60)],
    "more of nothing": [MORE + b"x"],
    "a message inside another": [head(b"k", 2 << 20) + bytes(1 << 20), head(b"l", 0)],
    "no kind": [b"\x80\x04\x95N."],
    "an empty frame": [b""],
    "a head that ends": [MESSAGE],
    "keys without end": [head(b"k%d" % (2 * number), 0) for number in range(KEYS + 4)],
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_frames_against_the_wire_end_the_session(out: Path, frames: list[bytes]) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        for talk in rogue.talks.values():
            talk.say(*frames)
        check_refused(rogue, BROKEN, patience=30)


def test_a_frame_against_the_wire_before_hello_ends_the_session(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        for talk in rogue.talks.values():
            talk.say(b"junk")
        check_refused(rogue, BROKEN)


def test_a_reason_with_control_characters_ends_up_in_no_terminal(out: Path) -> None:
    with rogue_client(out / "client") as rogue:
        rogue.shake_hands()
        reason = "\x1b[2J\r\nMPC-999 fake\x00\u202e".encode()
        rogue.talks["owner"].say(GOODBYE + reason)
        rogue.talks["owner"].hang_up()
        said = rogue.reasons()["helper"]
        assert said.isprintable()


@pytest.mark.parametrize("words", [0, 1, 2], ids=["nothing", "a hello", "an order"])
def test_a_client_that_falls_silent_is_given_up_in_time(out: Path, words: int) -> None:
    with rogue_client(out / "client") as rogue:
        if words:
            rogue.shake_hands()
        if words == 2:
            rogue.say(order_key(1), Order("echo", 10).to_bytes())
        if words != 1:
            began = time.monotonic()
            assert any("within" in reason for reason in rogue.reasons().values())
            assert time.monotonic() - began < SILENCE + 5


def test_a_recorded_session_opens_nothing_if_it_is_sent_again(out: Path, expected: np.ndarray) -> None:
    said: list[tuple[str, str, bytes]] = []

    def record(post: Post, peer: str, key: str, message: bytes) -> None:
        said.append((peer, key, message))
        post(peer, key, message)

    with tampering(out, record) as private:
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=1e-6)
    assert {"hello", "session", order_key(1)} <= {key for _, key, _ in said}
    with rogue_client(out / "client") as rogue:
        for peer, key, message in said:
            with suppress(ConnectionError):
                rogue.send(peer, key, message)
        reasons = rogue.reasons()
    assert any("MPC-707 at " in reason for reason in reasons.values()), "every session has nonces of its own"


def test_a_session_under_an_id_that_was_there_is_refused(out: Path) -> None:
    session = secrets.token_hex(16)
    with rogue_client(out / "client", session) as rogue:
        rogue.shake_hands()
    host, port = address_of(out, "owner")
    with Hostile(f"{host}:{port}", "owner", credentials_of(out / "client")) as peer:
        assert peer.open(session).last_words() == "FAILED_PRECONDITION: this session was there before"
