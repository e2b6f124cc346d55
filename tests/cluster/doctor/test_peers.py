"""The way to a peer, and how far it leads."""

import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcify.cluster.authority import create_kits
from mpcify.cluster.deployed import network_of, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import machine, peers
from mpcify.cluster.doctor.doctor import examine
from mpcify.cluster.doctor.findings import Finding
from mpcify.errors import MpcifyError
from tests.cluster.deployments import all_serving, deploy, edit, serving
from tests.cluster.doctor.examined import DAY, ROLES, address_of, certificate_for, listener, wrong


def at_client(out: Path) -> Finding:
    """What a client finds wrong with the owner; it opens no session then."""
    found = wrong(examine(out / "client"))
    assert [*found][-1] == "session"
    assert "not opened" in found["session"].problem
    (finding,) = (each for check, each in found.items() if check.startswith("owner:"))
    return finding


def test_a_peer_that_is_not_there_is_found(out: Path) -> None:
    with serving(out / "helper"):
        found = wrong(examine(out / "client"))
    assert [*found] == ["owner: port", "session"]
    assert "nothing listens" in found["owner: port"].problem
    assert "party serve" in found["owner: port"].remedy


def test_a_name_that_nobody_knows_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(peers.socket, "getaddrinfo", unknown)
    with pytest.raises(MpcifyError, match=r"MPC-703 .*owner.example is not known \(Name or.* under \[parties\]"):
        peers.resolved(machine.Address("owner.example", 1))


@pytest.mark.parametrize(
    "error, problem, remedy",
    [(TimeoutError(), "no answer", "firewall"), (OSError(113, "No route"), "No route", "ip route")],
)
def test_a_machine_that_is_not_reached_is_found(
    error: OSError, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(peers.socket, "create_connection", fail)
    with pytest.raises(MpcifyError) as raised:
        peers.connected(machine.Address("127.0.0.1", 1))
    assert problem in raised.value.what
    assert remedy in raised.value.remedy


def test_addresses_that_are_swapped_are_found(out: Path) -> None:
    owner, helper = address_of(out, "owner"), address_of(out, "helper")
    edit(out / "client", owner=helper, helper=owner)
    with all_serving(out):
        found = wrong(examine(out / "client"))
    assert [*found] == ["helper: certificate", "owner: certificate", "session"]
    assert "is the address of helper" in found["owner: certificate"].problem
    assert "address of the owner under [parties]" in found["owner: certificate"].remedy


def test_a_peer_of_another_cluster_is_found(out: Path, exported: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ROLES)
    other = deploy(exported, tmp_path / "others", tmp_path / "other")
    edit(out / "client", owner=address_of(other, "owner"))
    with serving(other / "owner"):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "does not vouch for it" in found.problem
    assert "kits of one authority" in found.remedy


def test_a_peer_that_does_not_trust_this_party_is_found(out: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ["owner"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    context.load_verify_locations(tmp_path / "others" / "owner" / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with listener(address_of(out, "owner"), lambda client: context.wrap_socket(client, server_side=True)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "does not take this party's certificate" in found.problem
    assert "clocks" in found.remedy


@pytest.mark.parametrize(
    "begins, ends, problem, remedy", [(-9, -1, "expired", "keys renew"), (1, 9, "not valid yet", "clock")]
)
def test_a_peer_out_of_its_time_is_found(
    begins: int, ends: int, problem: str, remedy: str, out: Path, kits: Path
) -> None:
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    certificate_for(out / "owner", begins * DAY, ends * DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    with listener(address_of(out, "owner"), lambda client: context.wrap_socket(client, server_side=True)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert problem in found.problem
    assert remedy in found.remedy


def older(out: Path) -> Callable[[socket.socket], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    return lambda client: context.wrap_socket(client, server_side=True)


def chatty(out: Path) -> Callable[[socket.socket], object]:
    return lambda client: client.sendall(b"220 mail.example ready\r\n") or client.recv(999)


@pytest.mark.parametrize("kind", [older, chatty])
def test_a_peer_that_speaks_something_else_is_found(kind: Callable[[Path], Any], out: Path) -> None:
    with listener(address_of(out, "owner"), kind(out)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "no TLS 1.3" in found.problem
    assert "owner's port" in found.remedy


def test_a_peer_that_does_not_serve_is_found(out: Path) -> None:
    deployment = read_deployment(out / "owner")
    with network_of(deployment, programs_of(deployment)):
        found = at_client(out)
    assert found.check == "owner: service"
    assert "does not serve" in found.problem
    assert "log" in found.remedy
