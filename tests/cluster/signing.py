"""Certificates as other authorities make them: right, wrong and odd ones."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcify.cluster.certificates import Issuer, key_usage, new_key, private_pem
from mpcify.cluster.keys import AUTHORITY, CERTIFICATE, KEY, as_pem, now

DNS = x509.DNSName
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
ADDRESS = x509.IPAddress(ip_address("127.0.0.1"))


def certificate(
    issuer: Issuer | None,
    key: Any,
    names: Sequence[x509.GeneralName] = (DNS("owner"),),
    *,
    ca: bool = False,
    usages: Sequence[x509.ObjectIdentifier] = BOTH,
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> x509.Certificate:
    """A certificate of a key; its own issuer's, if there is no other."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{'authority' if ca else 'party'} {id(key)}")])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now() - timedelta(days=1))
        .not_valid_after(ends or now() + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(key_usage("key_cert_sign" if ca else "digital_signature"), critical=True)
    )
    if names and not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer, hashes.SHA256())


def authority(above: Issuer | None = None, **options: Any) -> Issuer:
    """An authority; a root if there is none above it."""
    key = new_key()
    return Issuer(key, certificate(above, key, ca=True, **options))


def request_of(key: ec.EllipticCurvePrivateKey, *names: x509.GeneralName) -> x509.CertificateSigningRequest:
    """A request for a certificate of these names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())


def put(folder: Path, key: Any, chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> None:
    """Puts a kit into a folder in place of what is there."""
    folder.mkdir(exist_ok=True)
    (folder / KEY).write_bytes(private_pem(key))
    (folder / KEY).chmod(0o600)
    (folder / CERTIFICATE).write_bytes(as_pem(chain))
    (folder / AUTHORITY).write_bytes(as_pem(authorities))


def contents(folder: Path) -> dict[str, bytes]:
    """What stands in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
