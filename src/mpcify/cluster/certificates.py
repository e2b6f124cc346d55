"""X.509: what an authority signs, and what a party asks it to sign. Nothing here reads or writes a file."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcify.cluster.keys import PrivateKey, PublicKey, now

EARLIER = timedelta(hours=1)  # clocks differ
AUTHORITY_TIME, PARTY_TIME = timedelta(days=3652), timedelta(days=365)
USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Issuer:
    """Who signs."""

    key: PrivateKey
    certificate: x509.Certificate


def new_issuer() -> Issuer:
    """A new authority: nobody else's certificates are vouched for by it."""
    key = new_key()
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mpcify authority {token_hex(4)}")])
    builder = certificate_builder(called, called, key.public_key(), now() + AUTHORITY_TIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
    return Issuer(key, builder.sign(key, hashes.SHA256()))


def issue(issuer: Issuer, name: str, key: PublicKey) -> x509.Certificate:
    """A party's certificate: for both ends of TLS, under its name alone."""
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = min(now() + PARTY_TIME, issuer.certificate.not_valid_after_utc)
    builder = certificate_builder(called, issuer.certificate.subject, key, until)
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage("digital_signature"), critical=True)
    builder = builder.add_extension(ends, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_extension(of_issuer, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, until: datetime
) -> x509.CertificateBuilder:
    """What all certificates have."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now() - EARLIER).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def key_usage(*permitted: str) -> x509.KeyUsage:
    """What a key may be used for."""
    return x509.KeyUsage(**{use: use in permitted for use in USES})


def request_pem(key: PrivateKey, name: str) -> bytes:
    """A request for a certificate."""
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(called)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that TLS 1.3 takes everywhere."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: PrivateKey) -> bytes:
    """A private key as a file holds it; that nobody else reads the file protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def digest(key: PublicKey) -> bytes:
    """SHA-256 of a public key: two people who compare it know that a request came through unchanged."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
