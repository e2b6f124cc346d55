"""The way to a peer, step by step: its name, its port, its certificate, its service."""

import socket
import ssl
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mpcify.cluster.addresses import Address
from mpcify.cluster.doctor.findings import Findings
from mpcify.cluster.doctor.folder import SOON
from mpcify.cluster.keys import AUTHORITY, CERTIFICATE, KEY, Kit, day, now
from mpcify.errors import MpcifyError
from mpcify.network.tls import Credentials, secure_channel

PATIENCE = 5.0  # seconds for each step
FRAME = 1 << 16  # bytes of an answer about health
NOT_YET, EXPIRED = 9, 10  # OpenSSL's numbers of what is wrong with a certificate
CLOCKS = "compare the clocks of both machines (timedatectl)"


@dataclass(frozen=True)
class Proven:
    """Who a peer's certificate says it is."""

    names: tuple[str, ...]
    ends: datetime


def check_peer(peer: str, address: Address, kit: Kit, folder: Path, findings: Findings) -> bool:
    """Goes the way to a peer as far as it leads; whether to the end. folder: of the kit."""
    if not findings.check(f"{peer}: name", lambda: resolved(address)):
        return False
    if not findings.check(f"{peer}: port", lambda: connected(address)):
        return False
    proven = findings.check(f"{peer}: certificate", lambda: shaken_hands(peer, address, folder), until)
    if proven is None:
        return False
    if (left := (proven.ends - now()).days) < SOON:
        findings.warn(f"its certificate expires in {left} days", f"tell the {peer}: mpcify keys renew")
    return findings.check(f"{peer}: service", lambda: serving(peer, address, kit)) is not None


def until(proven: Proven) -> str:
    """How long a peer's certificate is good."""
    return f"good until {day(proven.ends)}"


def resolved(address: Address) -> str:
    """The addresses of a host. Raises MPC-703."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        what = f"the name {address.host} is not known ({error.strerror})"
        raise unreached(address, what, "correct it under [parties], or ask who runs the names here (DNS)") from None
    return ", ".join(dict.fromkeys(str(place[0]) for *_, place in found))


def connected(address: Address) -> str:
    """How long it takes to connect. Raises MPC-703."""
    start = time.perf_counter()
    try:
        socket.create_connection((address.host, address.port), PATIENCE).close()
    except ConnectionRefusedError:
        remedy = "start the party there (mpcify party serve), or correct the port under [parties]"
        raise unreached(address, "the machine is there, and nothing listens at the port", remedy) from None
    except TimeoutError:
        what = f"no answer within {PATIENCE:g} s"
        remedy = "open the port in the firewalls between both machines, or correct the address under [parties]"
        raise unreached(address, what, remedy) from None
    except OSError as error:
        remedy = "see that both machines are in a network, with a way between them (ip route get)"
        raise unreached(address, f"there is no way to it ({error.strerror})", remedy) from None
    return f"connected in {(time.perf_counter() - start) * 1e3:.1f} ms"


def shaken_hands(peer: str, address: Address, kit: Path) -> Proven:
    """Who answers, if it proves to be the peer over TLS 1.3 and takes this party's certificate. Raises MPC-703, 704."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name is compared below, so that a wrong one can be told
    context.load_verify_locations(kit / AUTHORITY)
    context.load_cert_chain(kit / CERTIFICATE, kit / KEY)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=peer) as secure,
        ):
            found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
            proven = Proven(names_of(found), found.not_valid_after_utc)
            if proven.names != (peer,):
                what = f"{address} is the address of {', '.join(proven.names) or 'somebody without a name'}"
                raise refused(peer, what, f"correct the address of the {peer} under [parties]")
            if not secure.recv(1):  # a peer that refuses this party says so only now
                raise refused(peer, "it ended the connection", "see its log")
            return proven
    except ssl.SSLCertVerificationError as error:
        raise distrusted(peer, error) from None
    except ssl.SSLError as error:
        raise not_shaken(peer, address, error.reason or "") from None
    except OSError as error:
        what = f"it ended the connection before it had proven who it is ({error.strerror or error})"
        raise unreached(address, what, f"see that this is the {peer}'s port, and no proxy is between") from None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names in a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.get_values_for_type(x509.DNSName))


def distrusted(peer: str, error: ssl.SSLCertVerificationError) -> MpcifyError:
    """The error for a certificate that this party does not take."""
    if error.verify_code == NOT_YET:
        return refused(peer, "its certificate is not valid yet, by the clock here", CLOCKS)
    if error.verify_code == EXPIRED:
        return refused(peer, "its certificate has expired", f"tell the {peer}: mpcify keys renew; if not so, {CLOCKS}")
    what = f"this party's {AUTHORITY} does not vouch for it ({error.verify_message})"
    return refused(peer, what, "give both parties kits of one authority; see that nothing between them opens TLS")


def not_shaken(peer: str, address: Address, reason: str) -> MpcifyError:
    """The error for a handshake that failed, by OpenSSL's word for it."""
    if "ALERT" in reason and "VERSION" not in reason:
        what = f"it does not take this party's certificate ({reason.lower().replace('_', ' ')})"
        remedy = f"give both parties kits of one authority; {CLOCKS}; renew what has expired"
        return refused(peer, what, remedy)
    what = f"what listens there speaks no TLS 1.3 ({reason.lower().replace('_', ' ')})"
    return unreached(address, what, f"see that this is the {peer}'s port, and no proxy is between")


def serving(peer: str, address: Address, kit: Kit) -> str:
    """Raises MPC-703 unless the peer says that it serves."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    credentials = Credentials(kit.certificate, kit.key, kit.authority)
    try:
        with secure_channel(str(address), peer, credentials, FRAME) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    except grpc.RpcError as error:
        remedy = "see that both have the same version of mpcify, and that peer's log"
        raise unreached(address, f"it does not say whether it serves ({error.code().name})", remedy) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        remedy = f"wait, if it starts or stops; else see its log: mpcify doctor, at the {peer}"
        raise unreached(address, "it is there, and does not serve", remedy)
    return "it serves"


def is_party(name: str, address: Address, kit: Path) -> bool:
    """Whether it is this party itself that answers at an address."""
    try:
        shaken_hands(name, address, kit)
        return True
    except MpcifyError:
        return False


def unreached(address: Address, what: str, remedy: str) -> MpcifyError:
    """The error for a peer that is not reached."""
    return MpcifyError(703, str(address), what, remedy)


def refused(peer: str, what: str, remedy: str) -> MpcifyError:
    """The error for a peer that refuses this party, or is another."""
    return MpcifyError(704, f"party {peer}", what, remedy)
