"""A client or helper gone bad, and strangers outside, against parties that serve: each is refused with a number or a
reason, the parties live on, and the next honest request is answered.
"""

import json
import secrets
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.cluster import certificates, party
from mpcify.cluster.authority import create_kits, read_issuer, renew_kit
from mpcify.cluster.certificates import issue, new_key, private_pem
from mpcify.cluster.deployed import connect, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.handshake import shake_hands
from mpcify.cluster.keys import as_pem
from mpcify.cluster.orders import Order, cost_key, costs_to_bytes, echo_key, order_key
from mpcify.cluster.programs import KEYS
from mpcify.engines.config import ENGINES
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.network.tls import Credentials
from mpcify.network.wire import GOODBYE, MESSAGE, MORE
from tests.cluster.deployments import CountedConfig, all_serving, deploy, edit, serving
from tests.cluster.intruder import Intruder, credentials_of, rogue_client, rogue_third
from tests.cluster.tampering import Post, tampering
from tests.graph.bags import answers
from tests.network.hostile import Hostile, head

TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
SERVING = ("owner", "helper")
SILENCE = 2.0  # seconds after which a silent peer is taken for gone
BROKEN = "MPC-707 client broke the protocol: "


@pytest.fixture(scope="module", autouse=True)
def trusting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "trusting", CountedConfig)
        patch.setattr(party, "PULSE", 0.05)
        yield


@pytest.fixture(scope="module")
def folders(
    exported: Path, made_kits: Path, tmp_path_factory: pytest.TempPathFactory, trusting: None
) -> Iterator[Path]:
    """All parties' folders; owner and helper serve, from the first test to the last."""
    out = deploy(exported, made_kits, tmp_path_factory.mktemp("hostile") / "out")
    for role in SERVING:
        edit(out / role, message=SILENCE)
    with all_serving(out):
        yield out


@pytest.fixture(scope="module")
def expected(exported: Path) -> np.ndarray:
    return answers(read_all(exported))


@pytest.fixture
def out(folders: Path, expected: np.ndarray) -> Iterator[Path]:
    """The folders. After whatever a test did to the parties, they answer an honest client."""
    yield folders
    check(folders, expected)


def check(folder: Path, expected: np.ndarray) -> None:
    """An honest client's requests are answered."""
    with connect(folder / "client") as private:
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=1e-6)


def check_refused(rogue: Intruder, *words: str, patience: float = 10.0) -> None:
    """A party ended the session with one of these words; the other did so too, or because of that."""
    reasons = rogue.reasons(patience).values()
    because = [any(word in reason for word in words) for reason in reasons]
    assert any(because), reasons
    assert all(found or party.GONE in reason for found, reason in zip(because, reasons, strict=True)), reasons


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


@pytest.fixture
def lone_owner(exported: Path, made_kits: Path, tmp_path: Path) -> Iterator[Path]:
    """All parties' folders; the owner serves alone."""
    out = deploy(exported, made_kits, tmp_path / "out")
    for role in ("client", "owner"):
        edit(out / role, message=SILENCE, connect=5.0)
    with serving(out / "owner"):
        yield out


def asked(folder: Path) -> np.ndarray:
    with connect(folder / "client") as private:
        return private(TEXTS[:1])[0]


def forged(rogue: Intruder) -> None:
    rogue.say("session", bytes(32))


def ordering(rogue: Intruder) -> None:
    rogue.shake_hands()
    rogue.send("owner", order_key(1), Order("echo", 1 << 40).to_bytes())
    rogue.receive("client", order_key(1))
    rogue.receive("owner", "trusting/weights#1")
    rogue.send("client", cost_key(1), b'{"": [NaN, -1, 1e9]}')


def costly(rogue: Intruder) -> None:
    rogue.shake_hands()
    rogue.receive("client", order_key(1))
    rogue.send("client", cost_key(1), b'{"":' * 100_000)


def rambling(rogue: Intruder) -> None:
    rogue.shake_hands()
    for number in (1, 2):
        rogue.receive("client", order_key(number))
        if number == 2:
            rogue.send("client", "trusting/outputs#3", b"\xff" * 100)
        rogue.send("client", cost_key(number), costs_to_bytes({"": Cost()}))


def silent(rogue: Intruder) -> None:
    rogue.shake_hands()


@pytest.mark.parametrize(
    ("act", "number"),
    [
        (forged, "MPC-70[367]"),
        (ordering, "MPC-707 .*costs that there are not"),
        (costly, "MPC-707 .*no JSON"),
        (rambling, "MPC-707"),
        (silent, "MPC-706"),
        (lambda rogue: rogue.say("hello", b""), "MPC-70[367]"),  # 703: the client tries again, and nobody is there
        (lambda rogue: [talk.say(b"junk") for talk in rogue.talks.values()], "MPC-70[367]"),
        (lambda rogue: [talk.hang_up() for talk in rogue.talks.values()], "MPC-70[36]"),
        (lambda rogue: rogue.close("\x1b[2J\n" + "x" * 290), "MPC-70[36]"),
    ],
    ids=["session", "orders", "costs", "outputs", "silence", "hello", "frames", "hang up", "reason"],
)
def test_a_helper_gone_bad_ends_the_request_with_a_number_and_owner_and_client_go_on(
    lone_owner: Path, expected: np.ndarray, act: Callable[[Intruder], object], number: str
) -> None:
    with rogue_third(lone_owner / "helper") as waiting, ThreadPoolExecutor(1) as pool:
        request = pool.submit(asked, lone_owner)
        rogue = waiting.join()
        act(rogue)
        with pytest.raises(MpcifyError, match=number) as raised:
            request.result(20)
        assert str(raised.value).isprintable()
    with serving(lone_owner / "helper"):
        check(lone_owner, expected)


def address_of(out: Path, role: str) -> tuple[str, int]:
    host, port = str(read_deployment(out / role).listen).split(":")
    return host, int(port)


@pytest.mark.parametrize("role", SERVING)
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: owner\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"\x16\x03\x01\x40\x00\x01" + b"\xff" * 20_000,
        bytes(range(256)) * 1000,
    ],
    ids=["nothing", "HTTP/1.1", "HTTP/2 in the clear", "a hello of TLS that goes on", "bytes"],
)
def test_what_is_no_tls_is_refused(out: Path, role: str, said: bytes) -> None:
    with socket.create_connection(address_of(out, role), 10) as line, suppress(ConnectionError):
        line.sendall(said)
        if not said:
            line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass


@pytest.mark.parametrize("role", SERVING)
def test_a_port_scan_is_no_trouble(out: Path, role: str) -> None:
    for _ in range(200):
        socket.create_connection(address_of(out, role), 10).close()


def test_hundreds_of_half_open_connections_block_nobody(out: Path, expected: np.ndarray) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of one, which never goes on
    with ExitStack() as stack:
        for role in SERVING:
            for number in range(150):
                line = stack.enter_context(socket.create_connection(address_of(out, role), 10))
                if number % 2:
                    line.sendall(hello)
        began = time.monotonic()
        check(out, expected)
        assert time.monotonic() - began < 10


def stranger(out: Path, made_kits: Path, tmp_path: Path, which: str) -> Credentials:
    """The client's name on a certificate that is not good, for one who trusts the parties' own authority."""
    trust = (made_kits / "authority" / "certificate.pem").read_bytes()
    if which == "of another authority":
        (kit,) = create_kits(tmp_path / "foreign", ["client"])
        return Credentials(kit.certificate, kit.key, trust)
    issuer = read_issuer(made_kits)
    if which == "the authority's own":
        return Credentials(trust, private_pem(issuer.key), trust)
    key = new_key()
    name = "client" if which == "expired" else "mallory"
    with pytest.MonkeyPatch.context() as patch:
        if which == "expired":
            past = certificates.now() - timedelta(days=4000)
            patch.setattr(certificates, "now", lambda: past)
        certificate = as_pem([issue(issuer, name, key.public_key())])
    return Credentials(certificate, private_pem(key), trust)


@pytest.mark.parametrize("role", SERVING)
@pytest.mark.parametrize("which", ["of another authority", "the authority's own", "expired", "of no party"])
def test_a_certificate_that_is_not_good_lets_nobody_in(
    out: Path, made_kits: Path, tmp_path: Path, role: str, which: str
) -> None:
    host, port = address_of(out, role)
    with Hostile(f"{host}:{port}", role, stranger(out, made_kits, tmp_path, which)) as peer:
        words = peer.open(secrets.token_hex(16)).last_words()
    assert words.startswith(("UNAVAILABLE", "PERMISSION_DENIED"))


def test_a_party_that_speaks_http_1_over_tls_is_refused(out: Path, tmp_path: Path) -> None:
    credentials = credentials_of(out / "client")
    for name in ("certificate", "key", "authority"):
        (tmp_path / name).write_bytes(getattr(credentials, name))
    context = ssl.create_default_context(cafile=str(tmp_path / "authority"))
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(address_of(out, "owner"), 10) as line,
        suppress(OSError),
        context.wrap_socket(line, server_hostname="owner") as tls,
    ):
        tls.sendall(b"GET /metrics HTTP/1.1\r\nHost: owner\r\n\r\n")
        assert not tls.recv(4096).startswith(b"HTTP/1.1 2")


def test_keys_are_renewed_under_running_parties_and_no_request_is_lost(
    exported: Path, kits: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    out = deploy(exported, kits, tmp_path / "out")
    with all_serving(out), connect(out / "client") as private:
        for role in ("client", *SERVING):
            renew_kit(kits, role, out / role / "kit")
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=1e-6)
        private.source.leave()  # type: ignore[union-attr]
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=1e-6)
        with pytest.raises(MpcifyError, match="MPC-704"):
            check(out, expected)  # one client at a time, under whatever key
