"""What a hostile machine may try to get in: each is refused with a reason, and honest parties go on as before."""

import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from mpcify.errors import MpcifyError
from mpcify.network import dial
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.tls import Credentials
from tests.network.certificates import DAY, Authority
from tests.network.conftest import Intrude
from tests.network.hostile import Hostile
from tests.network.network_contract import new_session, opened, talk
from tests.network.parties import AUTHORITY, Cluster

import grpc  # isort: skip  # after tls, which prepares it
from grpc_health.v1 import health_pb2, health_pb2_grpc  # isort: skip


def foreign(name: str, trust: bytes = AUTHORITY.certificate) -> Credentials:
    """Credentials of another authority, for one who trusts ours."""
    made = Authority().issue(name)
    return Credentials(made.certificate, made.key, trust)


@pytest.mark.parametrize(
    "credentials, reason",
    [
        (foreign("client"), "Socket closed"),
        (AUTHORITY.issue("client", left=-DAY), "Socket closed"),
        (AUTHORITY.issue("mallory"), "no party's that may connect here"),
        (AUTHORITY.issue("owner"), "no party's that may connect here"),
        (AUTHORITY.issue("client", "owner"), "no party's that may connect here"),
        (AUTHORITY.issue("client", "mallory"), "no party's that may connect here"),
        (AUTHORITY.issue("*"), "no party's that may connect here"),
    ],
    ids=["another authority", "expired", "no party", "the owner's own", "two parties'", "a second name", "any name"],
)
def test_a_caller_is_refused_by_its_certificate(
    cluster: Cluster, owner: GrpcNetwork, credentials: Credentials, reason: str
) -> None:
    client = cluster.network("client", credentials)
    with pytest.raises(MpcifyError, match=f"MPC-704 owner: it refuses this party, or proves to be another: .*{reason}"):
        client.dial(new_session(), 15)
    with pytest.raises(TimeoutError):
        owner.accept(0.1)


@pytest.mark.parametrize(
    "credentials, reason",
    [
        (foreign("owner"), r"its certificate does not verify \(certificate signature failure\)\."),
        (AUTHORITY.issue("owner", left=-DAY), r"its certificate does not verify \(certificate has expired\)\."),
        (AUTHORITY.issue("client"), "erification [Cc]heck"),
        (AUTHORITY.issue("mallory"), "erification [Cc]heck"),
    ],
    ids=["another authority", "expired", "the client's own", "no party"],
)
def test_a_party_that_is_dialled_is_refused_by_its_certificate(
    cluster: Cluster, credentials: Credentials, reason: str
) -> None:
    cluster.network("owner", credentials)
    with pytest.raises(MpcifyError, match=f"MPC-704 owner: it refuses this party, or proves to be another: .*{reason}"):
        cluster.network("client").dial(new_session(), 15)


def test_a_caller_without_a_certificate_is_refused(cluster: Cluster, owner: GrpcNetwork) -> None:
    with Hostile(cluster.addresses["owner"], "owner", None, AUTHORITY.certificate) as peer:
        assert "UNAVAILABLE" in peer.open(new_session()).last_words()


def test_plaintext_is_refused(cluster: Cluster, owner: GrpcNetwork) -> None:
    with grpc.insecure_channel(cluster.addresses["owner"]) as channel:
        call = channel.stream_stream(dial.METHOD)(iter([b""]), metadata=((dial.SESSION, new_session()),))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_party_that_is_dialled_and_speaks_plaintext_is_refused(cluster: Cluster) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(cluster.addresses["owner"])
    server.start()
    with pytest.raises(MpcifyError, match="MPC-704 owner"):
        cluster.network("client").dial(new_session(), 15)
    server.stop(None)


@pytest.mark.parametrize(
    "garbage", [b"", bytes(range(256)) * 40, b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 9]
)
def test_bytes_that_are_no_tls_are_refused(cluster: Cluster, owner: GrpcNetwork, garbage: bytes) -> None:
    host, port = cluster.addresses["owner"].split(":")
    with socket.create_connection((host, int(port))) as line:
        line.settimeout(5)
        with suppress(ConnectionError):
            line.sendall(garbage)
            if not garbage:
                line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass


def test_callers_that_come_and_go_by_the_hundred_do_not_end_the_process() -> None:
    """While gRPC takes on credentials, it frees those that a handshake beside may use; here in a process of its own."""
    script = """
import os, socket, threading, time
from mpcify.network.tls import options, server_credentials
from tests.network.parties import AUTHORITY
import grpc
from concurrent.futures import ThreadPoolExecutor
kits, reads = [AUTHORITY.issue("owner"), AUTHORITY.issue("owner")], []

def read():
    reads.append(1)
    return kits[len(reads) // 300 % 2]

server = grpc.server(ThreadPoolExecutor(1), options=options(1 << 20))
port = server.add_secure_port("127.0.0.1:0", server_credentials(read))
server.start()

def scan():
    for _ in range(200):
        socket.create_connection(("127.0.0.1", port), 20).close()

threads = [threading.Thread(target=scan) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
end = time.monotonic() + 20
while len(reads) < 700 and time.monotonic() < end:
    time.sleep(0.1)
print(len(reads) >= 700, flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def context_of(credentials: Credentials, folder: Path, protocol: int, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """A context of Python's own TLS with a party's certificate."""
    for name in ("certificate", "key", "authority"):
        (folder / name).write_bytes(getattr(credentials, name))
    context = ssl.SSLContext(protocol)
    context.load_cert_chain(folder / "certificate", folder / "key")
    context.load_verify_locations(folder / "authority")
    context.set_alpn_protocols(["h2"])
    context.maximum_version = newest
    return context


def test_a_caller_that_speaks_no_tls_1_3_is_refused(cluster: Cluster, owner: GrpcNetwork, tmp_path: Path) -> None:
    def connect(newest: ssl.TLSVersion) -> str | None:
        context = context_of(cluster.credentials["client"], tmp_path, ssl.PROTOCOL_TLS_CLIENT, newest)
        host, port = cluster.addresses["owner"].split(":")
        with (
            socket.create_connection((host, int(port))) as line,
            context.wrap_socket(line, server_hostname="owner") as tls,
        ):
            return tls.version()

    assert connect(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(ssl.TLSVersion.TLSv1_2)


def test_a_party_that_is_dialled_and_speaks_no_tls_1_3_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    context = context_of(cluster.credentials["owner"], tmp_path, ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2)
    host, port = cluster.addresses["owner"].split(":")
    shaken: list[str | None] = []

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                line, _ = server.accept()
                with context.wrap_socket(line, server_side=True) as tls:
                    shaken.append(tls.version())

    with socket.create_server((host, int(port))) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        with pytest.raises(MpcifyError, match="MPC-704 owner"):
            cluster.network("client").dial(new_session(), 15)
    assert shaken == []


@pytest.mark.parametrize("session", ["", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "../" * 11, "0" * 2000])
def test_a_wrong_session_id_is_refused(intrude: Intrude, session: str) -> None:
    assert intrude().open(session).last_words() == "INVALID_ARGUMENT: the session id is wrong"


def test_another_version_of_the_wire_is_refused(intrude: Intrude) -> None:
    peer = intrude()
    assert "UNIMPLEMENTED: owner speaks version 1" in peer.open(new_session(), version="2").last_words()


def test_a_party_that_speaks_another_version_is_told(
    cluster: Cluster, owner: GrpcNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dial, "VERSION", "2")
        with pytest.raises(MpcifyError, match="MPC-705 owner: it speaks another version"):
            cluster.network("client").dial(new_session(), 15)


@pytest.mark.parametrize("method", ["/mpcify.Links/Other", "/a/b", "/grpc.health.v1.Health/Watch"])
def test_what_is_not_served_is_refused(intrude: Intrude, method: str) -> None:
    peer = intrude()
    assert "UNIMPLEMENTED" in peer.open(new_session(), method=method).last_words()


def test_metadata_without_end_is_refused(intrude: Intrude) -> None:
    peer = intrude()
    words = peer.open(new_session(), extra=[(f"x-{number}", "y" * 1000) for number in range(100)]).last_words()
    assert "RESOURCE_EXHAUSTED" in words


def test_a_second_connection_under_a_connected_name_is_refused_and_the_first_goes_on(
    cluster: Cluster, owner: GrpcNetwork, intrude: Intrude
) -> None:
    links = opened(cluster.network("client"), owner)
    peer = intrude()
    for session in (new_session(), links[0].session):
        words = peer.open(session).last_words()
        assert words.startswith(("ALREADY_EXISTS: client is connected", "FAILED_PRECONDITION: this session was"))
    talk(links)
    for end in links:
        end.close()


def test_a_session_that_was_there_is_refused(cluster: Cluster, owner: GrpcNetwork, intrude: Intrude) -> None:
    links = opened(cluster.network("client"), owner)
    for end in links:
        end.close()
    assert intrude().open(links[0].session).last_words() == "FAILED_PRECONDITION: this session was there before"


def test_health_is_told_to_parties(owner: GrpcNetwork, intrude: Intrude) -> None:
    peer = intrude()
    stub, states = health_pb2_grpc.HealthStub(peer.channel), health_pb2.HealthCheckResponse
    assert stub.Check(health_pb2.HealthCheckRequest()).status == states.NOT_SERVING
    owner.health(True)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == states.SERVING


def test_renewed_certificates_are_used_without_a_restart(
    cluster: Cluster, owner: GrpcNetwork, intrude: Intrude
) -> None:
    client = cluster.network("client")
    talk(opened(client, owner))
    authority = Authority()
    cluster.credentials = {name: authority.issue(name) for name in ("client", "owner")}
    talk(opened(client, owner))
    assert "UNAVAILABLE" in intrude(AUTHORITY.issue("client")).open(new_session()).last_words()
