"""Kits are used if all of them is right, and refused by their number, without a word of the key, if anything is not."""

import os
import re
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from mpcify.cluster import keys
from mpcify.cluster.certificates import Issuer, new_key
from mpcify.cluster.keys import AUTHORITY, CERTIFICATE, KEY, as_pem, now, read_kit, read_signed
from mpcify.errors import MpcifyError
from tests.cluster.signing import ADDRESS, BOTH, DNS, authority, certificate, put

ROOT = authority()
MINE = new_key()


@pytest.mark.parametrize("name", ["client", "owner", "helper"])
def test_a_kit_is_what_its_files_hold(name: str, made_kits: Path) -> None:
    folder = made_kits / name
    kit = read_kit(folder, name)
    assert read_kit(folder) == kit
    assert (kit.name, kit.days_left) == (name, 364)
    contents = [(folder / file).read_bytes() for file in (CERTIFICATE, KEY, AUTHORITY)]
    assert [kit.certificate, kit.key, kit.authority] == contents


def test_what_is_public_is_read_without_the_key(kits: Path) -> None:
    kit = read_kit(kits / "owner")
    (kits / "owner" / KEY).unlink()
    signed = read_signed(kits / "owner", "owner")
    assert vars(signed) == {name: value for name, value in vars(kit).items() if name != "key"}


def test_no_text_of_a_kit_shows_its_key(made_kits: Path) -> None:
    kit = read_kit(made_kits / "owner")
    assert kit.key.splitlines()[1].decode() not in f"{kit!r} {kit} {[kit]}"
    assert "PRIVATE" not in repr(kit)


def other_key(folder: Path) -> None:
    put(folder, new_key(), [certificate(ROOT, MINE)], [ROOT.certificate])


def put_encrypted(folder: Path) -> None:
    content = MINE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (folder / KEY).write_bytes(content)


def put_pipe(folder: Path) -> None:
    (folder / CERTIFICATE).unlink()
    os.mkfifo(folder / CERTIFICATE)


def signed_by_a_party(folder: Path) -> None:
    party = new_key()
    own = certificate(ROOT, party)
    put(folder, MINE, [certificate(Issuer(party, own), MINE), own], [ROOT.certificate])


def with_key(key: Any) -> Callable[[Path], None]:
    return lambda folder: put(folder, key, [certificate(ROOT, key)], [ROOT.certificate])


def with_certificate(**options: Any) -> Callable[[Path], None]:
    return lambda folder: put(folder, MINE, [certificate(ROOT, MINE, **options)], [ROOT.certificate])


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


EARLY, LATE = now() - timedelta(days=3), now() - timedelta(days=2)
SOON = now() + timedelta(days=2)
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: folder.rename(folder.with_name("elsewhere")), "key.pem: there is no such file"),
    "no certificate": (without(CERTIFICATE), "certificate.pem: there is no such file"),
    "no key": (without(KEY), "key.pem: there is no such file"),
    "no authority": (without(AUTHORITY), "authority.pem: there is no such file"),
    "certificate of nothing": (holding(CERTIFICATE, b"nothing"), "it holds no certificate that can be read"),
    "certificate cut short": (
        lambda folder: holding(CERTIFICATE, (folder / CERTIFICATE).read_bytes()[:300])(folder),
        "it holds no certificate that can be read",
    ),
    "authority of nothing": (holding(AUTHORITY, b"\xff\n"), "authority.pem: it holds no certificate"),
    "key of nothing": (holding(KEY, b"-----BEGIN PRIVATE KEY-----\nMEFz\n"), "it holds no private key"),
    "key with a password": (put_encrypted, "the key is encrypted"),
    "key that the group reads": (lambda folder: (folder / KEY).chmod(0o640), "others may read or change it"),
    "key that others read": (lambda folder: (folder / KEY).chmod(0o604), "others may read or change it"),
    "key of another": (other_key, "key.pem does not belong to certificate.pem"),
    "a pipe": (put_pipe, "it is no ordinary file"),
    "a huge file": (holding(CERTIFICATE, b" " * ((1 << 20) + 1)), "it is no ordinary file, or too large"),
    "another party's": (with_certificate(names=[DNS("client")]), "the certificate of client, not of owner"),
    "no name": (with_certificate(names=[]), "it has no names"),
    "two names": (with_certificate(names=[DNS("owner"), DNS("client")]), "it has 2 names"),
    "a name and an address": (with_certificate(names=[DNS("owner"), ADDRESS]), "it has 2 names"),
    "an address alone": (with_certificate(names=[ADDRESS]), "not one DNS name alone"),
    "a name for all": (with_certificate(names=[DNS("*")]), "no party can be called so"),
    "a name of two labels": (with_certificate(names=[DNS("owner.example")]), "no party can be called so"),
    "expired": (with_certificate(begins=EARLY, ends=LATE), f"it expired on {LATE:%Y-%m-%d %H:%M} UTC, and it is 2"),
    "not yet": (with_certificate(begins=SOON), f"it is not valid before {SOON:%Y-%m-%d %H:%M} UTC, and it is 2"),
    "for servers alone": (with_certificate(usages=BOTH[:1]), "authority.pem does not vouch for it"),
    "for clients alone": (with_certificate(usages=BOTH[1:]), "authority.pem does not vouch for it"),
    "of another authority": (
        lambda folder: put(folder, MINE, [certificate(authority(), MINE)], [ROOT.certificate]),
        "authority.pem does not vouch for it",
    ),
    "signed by a party": (signed_by_a_party, "authority.pem does not vouch for it"),
    "signed by itself": (
        lambda folder: put(folder, MINE, [certificate(None, MINE)], [ROOT.certificate]),
        "authority.pem does not vouch for it",
    ),
    "an authority that expired": (
        lambda folder: put(folder, MINE, [certificate(ROOT, MINE)], [authority(begins=EARLY, ends=LATE).certificate]),
        "authority.pem: it expired on",
    ),
    "a key of P-521": (with_key(ec.generate_private_key(ec.SECP521R1())), "of a kind that is not taken"),
    "a key of Ed25519": (with_key(ed25519.Ed25519PrivateKey.generate()), "of a kind that is not taken"),
    "a short key of RSA": (with_key(rsa.generate_private_key(65537, 1024)), "of a kind that is not taken"),
}


@pytest.mark.parametrize("spoil, words", WRONG.values(), ids=WRONG)
def test_a_kit_that_is_wrong_is_refused_and_its_key_not_told(
    spoil: Callable, words: str, kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PAUSE", 0.0)
    folder = kits / "owner"
    spoil(folder)
    with pytest.raises(MpcifyError) as caught:
        read_kit(folder, "owner")
    assert caught.value.code == 702
    assert words in str(caught.value)
    key = folder / KEY
    for line in key.read_text().splitlines()[1:-1] if key.exists() else []:
        assert line not in str(caught.value)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_keys_of_other_authorities_are_taken(key: object, tmp_path: Path) -> None:
    put(tmp_path / "kit", key, [certificate(ROOT, key)], [ROOT.certificate])
    assert read_kit(tmp_path / "kit", "owner").days_left == 89


def test_what_stands_between_a_party_and_the_authority_goes_along(tmp_path: Path) -> None:
    between = authority(ROOT)
    own = certificate(between, MINE)
    put(tmp_path / "kit", MINE, [own, between.certificate], [ROOT.certificate])
    assert read_kit(tmp_path / "kit").certificate == as_pem([own, between.certificate])
    put(tmp_path / "kit", MINE, [own], [ROOT.certificate])
    with pytest.raises(MpcifyError, match=r"MPC-702 .*does not vouch for it"):
        read_kit(tmp_path / "kit")


def test_a_kit_may_trust_an_old_authority_and_a_new_one(tmp_path: Path) -> None:
    ending = authority(ends=now() + timedelta(days=5))
    put(tmp_path / "kit", MINE, [certificate(ROOT, MINE)], [ending.certificate, ROOT.certificate])
    assert read_kit(tmp_path / "kit").days_left == 89


def test_a_kit_is_no_longer_good_than_its_authority(tmp_path: Path) -> None:
    ending = authority(ends=now() + timedelta(days=5))
    put(tmp_path / "kit", MINE, [certificate(ending, MINE)], [ending.certificate])
    assert read_kit(tmp_path / "kit").days_left == 4


@pytest.mark.parametrize(
    "owner, reader, mode, taken",
    [
        (0, 1000, 0o640, True),
        (0, 1000, 0o660, False),
        (0, 1000, 0o644, False),
        (0, 0, 0o640, False),
        (1000, 1000, 0o640, False),
        (1000, 1000, 0o600, True),
        (1000, 1000, 0o400, True),
    ],
)
def test_a_service_reads_roots_key_through_its_group_and_no_other_so(
    owner: int, reader: int, mode: int, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / KEY).write_text("key")
    kept = os.fstat

    def status(descriptor: int) -> object:
        found = kept(descriptor)
        return SimpleNamespace(st_uid=owner, st_mode=found.st_mode & ~0o777 | mode, st_size=found.st_size)

    monkeypatch.setattr(keys, "os", SimpleNamespace(**{**vars(os), "fstat": status, "geteuid": lambda: reader}))
    if taken:
        assert keys.read_secret(tmp_path / KEY) == b"key"
    else:
        with pytest.raises(MpcifyError, match=r"MPC-702 .*others may read or change it"):
            keys.read_secret(tmp_path / KEY)


@pytest.mark.parametrize("name", ["", "Owner", "-a", "a-", "a.b", "a_b", "é", "a" * 64, "a/b", "..", "a\n"])
def test_a_name_that_no_party_can_have(name: str) -> None:
    with pytest.raises(MpcifyError, match="MPC-702 name"):
        keys.check_name(name)


def test_two_parties_meet_by_their_kits_under_tls_1_3(made_kits: Path) -> None:
    server, client = (context_of(made_kits / name, side) for name, side in (("owner", True), ("client", False)))
    assert met(client, server, "owner") == ("TLSv1.3", "client")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        met(client, server, "helper")


def context_of(folder: Path, server: bool) -> ssl.SSLContext:
    """TLS with a kit, at one end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.verify_mode = ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    context.load_verify_locations(folder / AUTHORITY)
    return context


def met(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> tuple[str | None, str]:
    """Lets two ends meet in memory: the version of TLS, and whom the server saw."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[1].getpeercert() or {}
    ((_, seen),) = certificate["subjectAltName"]
    return ends[0].version(), re.sub("^DNS:", "", str(seen))
