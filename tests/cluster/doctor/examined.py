"""What the doctor finds, and programs that are not the parties'."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mpcify.cluster.authority import read_issuer
from mpcify.cluster.certificates import issue
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor.doctor import Diagnosis
from mpcify.cluster.doctor.findings import Finding
from mpcify.cluster.keys import as_pem, load_key, now

ROLES = ("client", "owner", "helper")
DAY = timedelta(days=1)


def wrong(found: Diagnosis) -> dict[str, Finding]:
    return {each.check: each for each in found.findings if not each.ok}


def of(found: Diagnosis, check: str) -> Finding:
    (finding,) = (each for each in found.findings if each.check == check)
    return finding


@contextmanager
def listener(address: str, answer: Callable[[socket.socket], object] = lambda client: None) -> Iterator[None]:
    """Another program at an address, which does something with whoever connects, and hangs up."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    try:
                        client.settimeout(2)
                        answer(client)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def address_of(out: Path, role: str) -> str:
    return str(read_deployment(out / "client").addresses[role])


def weights(folder: Path) -> Path:
    return folder / "exported" / "weights.safetensors"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def certificate_for(folder: Path, begins: timedelta, ends: timedelta) -> None:
    """Gives a kit a certificate that is good from and until then, by its own authority."""
    issuer = read_issuer(folder.parents[1] / "kits")
    key = load_key((folder / "kit" / "key.pem").read_bytes(), folder)
    made = issue(issuer, folder.name, key.public_key())
    builder = x509.CertificateBuilder(made.issuer, made.subject, made.public_key(), made.serial_number)
    builder = builder.not_valid_before(now() + begins).not_valid_after(now() + ends)
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    (folder / "kit" / "certificate.pem").write_bytes(as_pem([builder.sign(issuer.key, hashes.SHA256())]))
