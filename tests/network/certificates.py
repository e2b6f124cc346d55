"""Authorities and certificates for tests, made in memory."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mpcify.network.tls import Credentials

DAY = datetime.timedelta(days=1)


class Authority:
    """An authority that signs any name, for any time."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the parties' authority")])
        signed = self.sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0), DAY)
        self.certificate = signed.public_bytes(serialization.Encoding.PEM)

    def sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        left: datetime.timedelta,
    ) -> x509.Certificate:
        """A certificate that is valid for some time from now, or until some time ago."""
        now, number = datetime.datetime.now(datetime.UTC), x509.random_serial_number()
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), number, now - 9 * DAY, now + left)
        builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *names: str, left: datetime.timedelta = DAY) -> Credentials:
        """The credentials of a party: a certificate with these DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        names_in = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = self.sign(subject, key, names_in, left)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Credentials(certificate.public_bytes(serialization.Encoding.PEM), secret, self.certificate)
