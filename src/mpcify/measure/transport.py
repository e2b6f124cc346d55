"""What gRPC and mutual TLS take of a message beside its line: two parties of this process, over loopback."""

import datetime
import importlib.util
import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpcify.network.links import Links
    from mpcify.network.tls import Credentials

NAMES = ("client", "owner")
LARGE = 1 << 20
REPEATS = 25
PATIENCE = 20.0


def measure_transport() -> tuple[float, float]:
    """Seconds of a message, and of each byte more if both parties send as much at once.

    (0, 0) without the packages of real parties: then there is nothing to measure.
    """
    if any(importlib.util.find_spec(name) is None for name in ("grpc", "grpc_health", "cryptography")):
        return 0.0, 0.0
    from mpcify.network.grpc import GrpcNetwork
    from mpcify.network.links import Limits

    limits, proofs = Limits(message=2 * LARGE, waiting=2 * LARGE), credentials()

    def network(name: str, peer: str, address: str | None, listen: str | None) -> GrpcNetwork:
        given = {"peers": {peer: address}, "dialler": NAMES[0], "listen": listen}
        return GrpcNetwork(name, lambda: proofs[name], **given, limits=limits, timeout=PATIENCE)  # type: ignore[arg-type]

    client, owner = NAMES
    with (
        ThreadPoolExecutor(1) as pool,
        closing(network(owner, client, None, "127.0.0.1:0")) as listening,
        closing(network(client, owner, f"127.0.0.1:{listening.port}", None)) as calling,
    ):
        accepted = pool.submit(listening.accept, PATIENCE)
        ends = calling.dial(secrets.token_hex(16), PATIENCE), accepted.result()
        small, large = (
            statistics.median(exchange(*ends, f"{size}#{turn}", size, pool) for turn in range(REPEATS))
            for size in (1, LARGE)
        )
        message = statistics.median(one_way(*ends, f"alone#{turn}") for turn in range(REPEATS))
    return message, max(0.0, large - small) / LARGE


def one_way(near: "Links", far: "Links", key: str) -> float:
    """Seconds until one end has what the other sent: a byte."""
    start = time.perf_counter()
    near.send(far.name, key, b"x")
    far.receive(near.name, key)
    return time.perf_counter() - start


def exchange(near: "Links", far: "Links", key: str, size: int, pool: ThreadPoolExecutor) -> float:
    """Seconds until both ends have what the other sent at the same time."""

    def one(links: "Links") -> None:
        (peer,) = links.peers
        links.send(peer, key, bytes(size))
        links.receive(peer, key)

    start = time.perf_counter()
    other = pool.submit(one, far)
    one(near)
    other.result()
    return time.perf_counter() - start


def credentials() -> dict[str, "Credentials"]:
    """Certificates of an authority that nobody else knows, for an hour. Nothing is written."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from mpcify.network.tls import Credentials

    now, hour = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1)
    root = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a measurement")])

    def signed(key: ec.EllipticCurvePrivateKey, name: str, extension: x509.ExtensionType) -> bytes:
        called = issuer if key is root else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        number = x509.random_serial_number()
        builder = x509.CertificateBuilder(issuer, called, key.public_key(), number, now - hour, now + hour)
        return builder.add_extension(extension, key is root).sign(root, hashes.SHA256()).public_bytes(Encoding.PEM)

    authority = signed(root, "", x509.BasicConstraints(ca=True, path_length=0))
    found = {}
    for name in NAMES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = signed(key, name, x509.SubjectAlternativeName([x509.DNSName(name)]))
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found[name] = Credentials(certificate, text, authority)
    return found
