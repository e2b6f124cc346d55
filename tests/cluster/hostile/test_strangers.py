"""Strangers, and certificates that are not good: nobody gets in, and honest parties notice nothing."""

import secrets
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mpcify.cluster import certificates
from mpcify.cluster.authority import create_kits, read_issuer, renew_kit
from mpcify.cluster.certificates import issue, new_key, private_pem
from mpcify.cluster.deployed import connect
from mpcify.cluster.keys import as_pem
from mpcify.errors import MpcifyError
from mpcify.network.tls import Credentials
from tests.cluster.deployments import all_serving, deploy
from tests.cluster.hostile.honest import SERVING, TEXTS, address_of, check
from tests.cluster.intruder import credentials_of
from tests.network.hostile import Hostile


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
