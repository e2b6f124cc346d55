"""Making kits: a private authority (CA), and the certificates that it signs.

    KITS/authority/  the authority's key and certificate; it stays with whoever signs, and goes to no party
    KITS/NAME/       the kit of a party

A key that must not leave its machine is made there: `request` there, `sign` where the authority is, `accept` there.
Nothing that exists is overwritten, but for what `renew_kit` and `accept` replace, and that by what has been checked.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mpcify.cluster.certificates import Issuer, digest, issue, new_issuer, new_key, private_pem, request_pem
from mpcify.cluster.keys import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    OTHER_USER,
    RENEW,
    Kit,
    PublicKey,
    Signed,
    as_pem,
    check_key,
    check_name,
    checked,
    is_there,
    load_key,
    name_in,
    now,
    read_certificates,
    read_file,
    read_kit,
    read_secret,
    read_signed,
    refuse,
)
from mpcify.errors import MpcifyError
from mpcify.files import new_folder, write_whole

ISSUER = "authority"  # the folder of the authority; no party is called so
REQUEST = "request.csr"


def create_kits(folder: str | Path, names: Sequence[str]) -> list[Kit]:
    """Makes a folder with an authority and a kit a party; the kits. Raises MPC-702 if something stands there."""
    check_parties(names)
    folder = Path(folder).absolute()  # where this process is may be the one that is replaced
    refuse_there(folder)
    with new_folder(folder, 0o700) as draft:
        issuer = new_issuer()
        (draft / ISSUER).mkdir(mode=0o700)
        write_whole(draft / ISSUER / KEY, private_pem(issuer.key), 0o600)
        write_whole(draft / ISSUER / CERTIFICATE, as_pem([issuer.certificate]))
        for name in names:
            (draft / name).mkdir(mode=0o700)
            fill(draft / name, name, issuer)
    return [read_kit(folder / name, name) for name in names]


def add_kit(folder: str | Path, name: str) -> Kit:
    """Makes the kit of one more party. Raises MPC-702, also if there is one."""
    check_parties([name])
    place, issuer = Path(folder).absolute() / name, read_issuer(folder)
    refuse_there(place)
    with new_folder(place, 0o700) as draft:
        fill(draft, name, issuer)
    return read_kit(place, name)


def renew_kit(folder: str | Path, name: str, place: str | Path | None = None) -> Kit:
    """Gives a party's kit a new key and a new certificate, under the eyes of a service that reads them.

    folder: that of the authority. place: of the kit; None: beside the authority. The old kit may have expired. Raises
    MPC-702 if there is no kit of this party, or the authority is not the one that it trusts.
    """
    place, issuer = Path(folder) / name if place is None else Path(place), read_issuer(folder)
    with alone(place):
        check_whose(place, name)
        if issuer.certificate not in read_certificates(place / AUTHORITY):
            refuse(place, "its authority is not the one that would sign", "name the folder of its own authority")
        key = new_key()
        switch(place, private_pem(key), as_pem([issue(issuer, name, key.public_key())]))
        return read_kit(place, name)


def switch(place: Path, key: bytes, certificate: bytes) -> None:
    """Puts a key and its certificate in place of others.

    After each step, and whichever files a reader has from before it, a certificate is there that fits the key.
    """
    owner, old = owner_of(place / KEY), as_pem(read_certificates(place / CERTIFICATE))
    write_whole(place / CERTIFICATE, certificate + old, owner=owner)
    write_whole(place / KEY, key, 0o600, owner=owner)
    write_whole(place / CERTIFICATE, certificate, owner=owner)


def request(folder: str | Path, name: str) -> bytes:
    """Makes a key, and a request to sign it, in a folder; the public key's digest.

    In the folder of a kit it makes a request for the key that is there. Raises MPC-702 if there is a request already.
    """
    check_parties([name])
    folder = Path(folder)
    if is_there(folder / KEY):
        if is_there(folder / CERTIFICATE):
            check_whose(folder, name)
        refuse_there(folder / REQUEST, "have it signed where the authority is: mpcify keys sign; or delete it")
        key = load_key(read_secret(folder / KEY), folder / KEY)
        write_whole(folder / REQUEST, request_pem(key, name), owner=owner_of(folder / KEY))
    else:
        refuse_there(folder)
        key = new_key()
        with new_folder(folder, 0o700) as draft:
            write_whole(draft / KEY, private_pem(key), 0o600)
            write_whole(draft / REQUEST, request_pem(key, name))
    return digest(key.public_key())


def sign(folder: str | Path, file: str | Path, name: str, out: str | Path | None = None) -> tuple[Signed, bytes]:
    """Signs a party's request: writes its certificate and the authority's; with the digest of the key that it is for.

    folder: that of the authority. name: of the party that sent the request, which must name it and nobody else. out: a
    new folder; None: the party's, beside the authority. Raises MPC-702.
    """
    check_parties([name])
    file, issuer = Path(file), read_issuer(folder)
    place = (Path(folder) / name if out is None else Path(out)).absolute()
    key = requested(file, name)
    refuse_there(place)
    with new_folder(place, 0o700 if out is None else 0o755) as draft:
        write_whole(draft / CERTIFICATE, as_pem([issue(issuer, name, key)]))
        write_whole(draft / AUTHORITY, as_pem([issuer.certificate]))
    return read_signed(place, name), digest(key)


def accept(folder: str | Path, signed: str | Path) -> Kit:
    """Puts a signed certificate to the key in a folder, which then holds a kit.

    signed: a folder with the certificate and the authority's. In the folder of a kit the certificate takes the place of
    the old one; the authority stays, and must vouch for it. If `signed` is a kit with a key of its own, that key takes
    the old one's place too. Raises MPC-702.
    """
    folder, signed = Path(folder), Path(signed)
    if is_there(signed / KEY):
        return exchange(folder, signed)
    with alone(folder):
        owner = owner_of(folder / KEY)
        public = load_key(read_secret(folder / KEY), folder / KEY).public_key()
        found = read_certificates(signed / CERTIFICATE)
        own = next((item for item in found if item.public_key() == public), None)
        if own is None:
            refuse(signed / CERTIFICATE, f"it is not for the key in {folder}", "carry back what was signed for it")
        name = awaited(folder) or name_in(own, signed / CERTIFICATE)
        trusted = folder if is_there(folder / AUTHORITY) else signed
        new = checked(signed, own, found, name, trusted / AUTHORITY)
        if trusted is signed:
            write_whole(folder / AUTHORITY, new.authority, owner=owner)
        write_whole(folder / CERTIFICATE, new.certificate, owner=owner)
        (folder / REQUEST).unlink(missing_ok=True)
        return read_kit(folder, name)


def awaited(folder: Path) -> str | None:
    """The party that a certificate for the key in a folder must name: that of the request, or of the old one."""
    if is_there(folder / REQUEST):
        return name_in(load_request(folder / REQUEST), folder / REQUEST)
    if is_there(folder / CERTIFICATE):
        return name_in(read_certificates(folder / CERTIFICATE)[0], folder / CERTIFICATE)
    return None


def exchange(place: Path, other: Path) -> Kit:
    """Puts what another kit of the same party holds in place of what a kit holds, but for its authority."""
    with alone(place):
        kit = read_kit(other)
        check_whose(place, kit.name)
        own, *between = x509.load_pem_x509_certificates(kit.certificate)
        checked(other, own, between, kit.name, place / AUTHORITY)
        switch(place, kit.key, kit.certificate)
        (place / REQUEST).unlink(missing_ok=True)
        return read_kit(place, kit.name)


def check_whose(place: Path, name: str) -> None:
    """Raises MPC-702 unless a kit, which may have expired, is a party's."""
    called = name_in(read_certificates(place / CERTIFICATE)[0], place / CERTIFICATE)
    if called != name:
        refuse(place, f"it is the kit of {called}, not of {name}", "name the party, or its kit")


def read_issuer(folder: str | Path) -> Issuer:
    """The authority in a folder of kits. Raises MPC-702."""
    place = Path(folder) / ISSUER
    if not is_there(place):
        refuse(place, "there is no authority", "name the folder that mpcify keys init wrote, where the authority stays")
    key = load_key(read_secret(place / KEY), place / KEY)
    certificate = read_certificates(place / CERTIFICATE)[0]
    if certificate.public_key() != key.public_key():
        refuse(place, f"{KEY} does not belong to {CERTIFICATE}", "put the files of one authority together")
    if certificate.not_valid_after_utc <= now():
        refuse(place, f"the authority expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "make new kits for all")
    return Issuer(key, certificate)


def fill(place: Path, name: str, issuer: Issuer) -> None:
    """Puts a new kit into an empty folder."""
    key = new_key()
    write_whole(place / KEY, private_pem(key), 0o600)
    write_whole(place / CERTIFICATE, as_pem([issue(issuer, name, key.public_key())]))
    write_whole(place / AUTHORITY, as_pem([issuer.certificate]))


def requested(path: Path, name: str) -> PublicKey:
    """The key that a request of a party is for. Raises MPC-702 for a request that is not its own, or of others."""
    found = load_request(path)
    if (called := name_in(found, path)) != name:
        refuse(path, f"it is a request of {called}, not of {name}", "ask who sent it")
    if not found.is_signature_valid:
        refuse(path, "it is not signed by the key that it is for", "make it again: mpcify keys csr")
    return check_key(found.public_key(), path)


def load_request(path: Path) -> x509.CertificateSigningRequest:
    """The request in a file. Raises MPC-702."""
    try:
        found = x509.load_pem_x509_csr(read_file(path))
        found.public_key()
        return found
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        refuse(path, "it holds no request that can be read", "make it again: mpcify keys csr")


def check_parties(names: Sequence[str]) -> None:
    """Raises MPC-702 for names that parties cannot have, for no names, and for one that stands twice."""
    for name in names:
        check_name(name)
    if not names or len(set(names)) < len(names) or ISSUER in names:
        remedy = f"name each party once, and none {ISSUER}"
        raise MpcifyError(702, f"names {','.join(names)}"[:80], "they are not the names of parties", remedy)


def refuse_there(path: Path, remedy: str = f"name a new place, or {RENEW}") -> None:
    """Raises MPC-702 if something stands under a name, but for an empty folder."""
    try:
        taken = os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
    except PermissionError as problem:
        refuse(path, f"it cannot be read ({problem.strerror})", OTHER_USER)
    if taken:
        refuse(path, "something is there already, and keys are never overwritten", remedy)


def owner_of(path: Path) -> tuple[int, int]:
    """The user and the group of a file, which keep what replaces it. Raises MPC-702 if it is not there."""
    read_secret(path)
    status = path.stat()
    return status.st_uid, status.st_gid


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While open, nobody else renews the kit in a folder. Raises MPC-702 if somebody does, or there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        refuse(folder, f"no kit can be read there ({problem.strerror})", "name the folder of a kit")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        refuse(folder, "another process renews it", "wait for it")
    finally:
        os.close(descriptor)
