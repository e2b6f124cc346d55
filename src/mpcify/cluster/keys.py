"""A party's kit: its key, its certificate, and the authority whose certificates it trusts.

Three PEM files in a folder that is the party's alone. A kit is used only if all of it is right: the key fits the
certificate, the certificate has one name, is in its time, and the authority vouches for it. Kits may be renewed while a
service reads them, see `read_kit`.
"""

import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mpcify.errors import MpcifyError
from mpcify.files import at_once

CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MOST = 1 << 20  # bytes of a file
CURVES = (ec.SECP256R1, ec.SECP384R1)
LEAST_RSA = 2048  # bits
TRIES, PAUSE = 5, 0.05  # a renewal takes a moment
MAKE = "make it with mpcify keys, or copy the whole kit"
RENEW = "renew it: mpcify keys renew"
OTHER_USER = "run as the user that it belongs to"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class Signed:
    """A kit without its key: what anybody may see. See `Kit`."""

    name: str
    certificate: bytes
    authority: bytes
    not_after: datetime


@dataclass(frozen=True)
class Kit:
    """What a party shows its peers, and by what it knows them; PEM. not_after: when it stops to be good.

    certificate: the party's own, then those between it and the authority's. key: its private key, which no text of the
    kit shows.
    """

    name: str
    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes
    not_after: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it stops to be good."""
        return (self.not_after - now()).days


def now() -> datetime:
    """The time that certificates are checked against."""
    return datetime.now(UTC)


def read_kit(folder: str | Path, name: str | None = None) -> Kit:
    """The kit in a folder, checked. name: whose it must be; None: anybody's.

    While a kit is renewed, the file of its certificate holds the new one and the old one. So the certificate that fits
    the key is taken, and all is read again if none does: no renewal is seen half done. Raises MPC-702.
    """
    folder = Path(folder)
    for _ in range(TRIES):
        key = read_secret(folder / KEY)
        public = load_key(key, folder / KEY).public_key()
        found = read_certificates(folder / CERTIFICATE)
        own = next((item for item in found if item.public_key() == public), None)
        if own is not None:
            signed = checked(folder, own, found, name)
            return Kit(signed.name, signed.certificate, key, signed.authority, signed.not_after)
        time.sleep(PAUSE)
    refuse(folder, f"{KEY} does not belong to {CERTIFICATE}", "put the files of one kit together")


def read_signed(folder: str | Path, name: str | None = None) -> Signed:
    """What is public of a kit, checked, whether its key is there or not. Raises MPC-702."""
    found = read_certificates(Path(folder) / CERTIFICATE)
    return checked(Path(folder), found[0], found, name)


def checked(
    folder: Path,
    own: x509.Certificate,
    found: Sequence[x509.Certificate],
    name: str | None,
    authority: Path | None = None,
) -> Signed:
    """A party's certificate, of all that stand in its file, checked. Raises MPC-702.

    authority: the file of those that may vouch for it; None: the one beside it.
    """
    where, authorities = folder / CERTIFICATE, read_certificates(authority or folder / AUTHORITY)
    called = name_in(own, where)
    if name not in (None, called):
        refuse(where, f"it is the certificate of {called}, not of {name}", f"put the kit of {name} there")
    check_key(own.public_key(), where)
    between = [item for item in found if is_authority(item)]
    check_dates([own], where)
    check_dates(authorities, authority or folder / AUTHORITY)
    check_trust([own, *between], authorities, where)
    ends = min(own.not_valid_after_utc, max(item.not_valid_after_utc for item in authorities))
    return Signed(called, as_pem([own, *between]), as_pem(authorities), ends)


def check_trust(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], where: Path) -> None:
    """Raises MPC-702 unless an authority vouches for the first certificate, as both server and client of TLS.

    chain: a party's certificate, then those between it and the authority's. The rules are those of browsers, but for
    the names of hosts: a party's name stands in their place (RFC 5280, CA/Browser Forum's profile).
    """
    own, *between = chain
    policy = PolicyBuilder().store(Store(list(authorities))).time(now())
    try:
        policy.build_server_verifier(x509.DNSName(name_in(own, where))).verify(own, between)
        policy.build_client_verifier().verify(own, between)
    except (VerificationError, ValueError) as problem:
        reason = str(problem).partition(" (encountered")[0].removeprefix("validation failed: ")
        refuse(where, f"{AUTHORITY} does not vouch for it: {reason}", "use certificates of one authority")


def check_dates(certificates: Sequence[x509.Certificate], where: Path) -> None:
    """Raises MPC-702 unless one of the certificates is in its time."""
    first = certificates[0]
    if any(item.not_valid_before_utc <= now() <= item.not_valid_after_utc for item in certificates):
        return
    if first.not_valid_after_utc < now():
        refuse(where, f"it expired on {day(first.not_valid_after_utc)}, and it is {day(now())}", RENEW)
    begins = f"it is not valid before {day(first.not_valid_before_utc)}, and it is {day(now())}"
    refuse(where, begins, "set this machine's clock, or wait")


def day(moment: datetime) -> str:
    """A time as errors give it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def name_in(named: x509.Certificate | x509.CertificateSigningRequest, where: Path) -> str:
    """The party that a certificate or a request names: its only name is one for DNS. Raises MPC-702."""
    remedy = "a party's certificate names the party, once, as a DNS name (subjectAltName)"
    try:
        names = list(named.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        refuse(where, "its extensions cannot be read", remedy)
    if len(names) != 1 or not isinstance(names[0], x509.DNSName):
        refuse(where, f"it has {len(names) or 'no'} names, and not one DNS name alone", remedy)
    check_name(names[0].value)
    return str(names[0].value)


def check_name(name: str) -> None:
    """Raises MPC-702 for a name that no party can have."""
    if not NAME.fullmatch(name):
        what = "no party can be called so"
        remedy = "use small letters, digits and inner hyphens, 63 at most"
        raise MpcifyError(702, f"name {name!r}"[:80], what, remedy)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate says that it signs others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def check_key(key: object, where: Path) -> PublicKey:
    """A public key that TLS 1.3 takes everywhere: P-256, P-384 or RSA. Raises MPC-702 for any other."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA:
        return key
    refuse(where, "its key is of a kind that is not taken", f"use P-256, P-384, or RSA of {LEAST_RSA} bits or more")


def load_key(content: bytes, where: Path) -> PrivateKey:
    """A private key in PEM. Raises MPC-702, which tells nothing of it."""
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        refuse(where, "the key is encrypted, and nobody is there to type its password", "store it without one")
    except (ValueError, UnsupportedAlgorithm):
        refuse(where, "it holds no private key that can be read", MAKE)
    check_key(key.public_key(), where)
    assert isinstance(key, PrivateKey)
    return key


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file, one at least. Raises MPC-702."""
    try:
        found = x509.load_pem_x509_certificates(read_file(path))
        for item in found:
            item.public_key()
        return found
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        refuse(path, "it holds no certificate that can be read", MAKE)


def as_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates one below the other."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)


def is_there(path: Path) -> bool:
    """Whether something has this name. Raises MPC-702 if one may not look."""
    try:
        path.stat()
        return True
    except PermissionError as problem:
        refuse(path, f"it cannot be read ({problem.strerror})", OTHER_USER)
    except OSError:
        return False


def read_secret(path: Path) -> bytes:
    """The content of a file that nobody else can read. Raises MPC-702.

    A service may read a key of root's through its group, as containers are given theirs.
    """
    return read_file(path, secret=True)


def read_file(path: Path, *, secret: bool = False, remedy: str = MAKE) -> bytes:
    """The content of a file of at most a MiB. remedy: for one that is not there, or is no file. Raises MPC-702."""
    try:
        with open(path, "rb", opener=at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST:
                refuse(path, "it is no ordinary file, or too large", remedy)
            permitted = 0o640 if status.st_uid == 0 != os.geteuid() else 0o600
            if secret and status.st_mode & 0o077 & ~permitted:
                refuse(path, "others may read or change it", f"chmod 600 {path}, and renew it if somebody did")
            return file.read(MOST)
    except FileNotFoundError:
        refuse(path, "there is no such file", remedy)
    except OSError as problem:
        refuse(path, f"it cannot be read ({problem.strerror})", OTHER_USER)


def refuse(where: Path, what: str, remedy: str) -> NoReturn:
    """Raises MPC-702."""
    raise MpcifyError(702, str(where), what, remedy)
