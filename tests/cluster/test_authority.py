"""Kits are made, and signed elsewhere; nothing is overwritten."""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mpcify.cluster import authority as making
from mpcify.cluster import certificates, keys
from mpcify.cluster.authority import (
    ISSUER,
    REQUEST,
    accept,
    add_kit,
    create_kits,
    read_issuer,
    renew_kit,
    request,
    sign,
)
from mpcify.cluster.certificates import Issuer, new_key
from mpcify.cluster.keys import AUTHORITY, CERTIFICATE, KEY, as_pem, now, read_kit, read_signed
from mpcify.errors import MpcifyError
from mpcify.graph.index import ROLES
from tests.cluster.signing import ADDRESS, DNS, authority, certificate, contents, put, request_of
from tests.locked import locked


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all that stands in a folder, and of itself."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


def leaf(folder: Path) -> x509.Certificate:
    """A kit's certificate."""
    return keys.read_certificates(folder / CERTIFICATE)[0]


def test_each_party_gets_a_folder_that_it_alone_can_enter(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = create_kits(tmp_path / "kits", ROLES)
    finally:
        os.umask(before)
    assert [kit.name for kit in made] == list(ROLES)
    kit = {CERTIFICATE: 0o644, KEY: 0o600, AUTHORITY: 0o644}
    assert modes(tmp_path / "kits") == {
        ".": 0o700,
        ISSUER: 0o700,
        f"{ISSUER}/{KEY}": 0o600,
        f"{ISSUER}/{CERTIFICATE}": 0o644,
        **dict.fromkeys(ROLES, 0o700),
        **{f"{name}/{file}": mode for name in ROLES for file, mode in kit.items()},
    }


def test_the_authoritys_key_is_in_no_kit(made_kits: Path) -> None:
    secret = (made_kits / ISSUER / KEY).read_bytes().splitlines()[1]
    holders = [name for name, content in contents(made_kits).items() if secret in content]
    assert holders == [f"{ISSUER}/{KEY}"]


def test_a_partys_certificate_says_what_it_is_for(made_kits: Path) -> None:
    own, extensions = leaf(made_kits / "owner"), leaf(made_kits / "owner").extensions
    assert own.not_valid_before_utc < now() - timedelta(minutes=50)
    assert own.not_valid_after_utc - now() < timedelta(days=366)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    extended = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert extended == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_an_authority_lasts_ten_years_and_no_certificate_outlives_it(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = read_issuer(kits).certificate.not_valid_after_utc
    assert abs(ends - now() - timedelta(days=3652)) < timedelta(days=2)
    last = ends - timedelta(days=9)
    for module in (making, keys, certificates):
        monkeypatch.setattr(module, "now", lambda: last)
    assert renew_kit(kits, "owner").not_after == ends


def test_no_two_authorities_and_no_two_certificates_are_alike(tmp_path: Path) -> None:
    made = [(create_kits(tmp_path / place, ROLES), read_issuer(tmp_path / place)) for place in "ab"]
    assert made[0][1].certificate.subject != made[1][1].certificate.subject
    serials = {leaf(tmp_path / place / name).serial_number for place in "ab" for name in ROLES}
    assert len(serials) == 2 * len(ROLES)


@pytest.mark.parametrize(
    "names", [[], ["owner", "owner"], ["authority"], ["Owner"], ["../owner"], ["owner", ""]], ids=str
)
def test_names_that_are_not_those_of_parties(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match="MPC-702 name"):
        create_kits(tmp_path / "kits", names)
    assert list(tmp_path.iterdir()) == []


def test_another_party_can_be_added(kits: Path) -> None:
    before = contents(kits)
    add_kit(kits, "helper-2")
    assert read_kit(kits / "helper-2", "helper-2").authority == read_kit(kits / "owner").authority
    assert {name: content for name, content in contents(kits).items() if "helper-2" not in name} == before


def test_nothing_is_ever_overwritten(kits: Path, tmp_path: Path) -> None:
    request(tmp_path / "mine", "owner")
    (tmp_path / "loose").symlink_to("nowhere")
    before = contents(tmp_path)
    calls: list[Callable[[], Any]] = [
        partial(create_kits, kits, ROLES),
        partial(create_kits, tmp_path / "loose", ROLES),
        partial(add_kit, kits, "owner"),
        partial(request, kits, "owner"),
        partial(request, tmp_path / "mine", "owner"),
        partial(sign, kits, tmp_path / "mine" / REQUEST, "owner"),
        partial(sign, kits, tmp_path / "mine" / REQUEST, "owner", kits / "helper"),
    ]
    for call in calls:
        with pytest.raises(MpcifyError, match=r"MPC-702 .*something is there already"):
            call()
    assert contents(tmp_path) == before


def test_a_key_is_made_and_signed_and_never_leaves_its_machine(kits: Path, tmp_path: Path) -> None:
    mine, signed = tmp_path / "mine", tmp_path / "signed"
    told = request(mine, "client")
    key = (mine / KEY).read_bytes()
    assert modes(mine) == {".": 0o700, KEY: 0o600, REQUEST: 0o644}
    shutil.copy(mine / REQUEST, tmp_path / "carried")
    answer, came = sign(kits, tmp_path / "carried", "client", signed)
    assert told == came
    assert set(contents(signed)) == {CERTIFICATE, AUTHORITY}
    kit = accept(mine, signed)
    assert (kit.key, kit.certificate, kit.name) == (key, answer.certificate, "client")
    assert set(contents(mine)) == {CERTIFICATE, AUTHORITY, KEY}
    holders = {str(path) for path in tmp_path.rglob("*") if path.is_file() and key in path.read_bytes()}
    assert holders == {str(mine / KEY)}


def test_what_is_signed_stands_beside_the_authority_if_no_place_is_named(kits: Path, tmp_path: Path) -> None:
    shutil.rmtree(kits / "client")
    request(tmp_path / "mine", "client")
    signed, _ = sign(kits, tmp_path / "mine" / REQUEST, "client")
    assert read_signed(kits / "client", "client") == signed
    assert not (kits / "client" / KEY).exists()


def spoiled(content: x509.CertificateSigningRequest) -> bytes:
    """A request with another signature."""
    der = bytearray(content.public_bytes(Encoding.DER))
    der[-3] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)


REQUESTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "of another": (lambda: as_text(request_of(new_key(), DNS("client"))), "a request of client, not of owner"),
    "of two": (lambda: as_text(request_of(new_key(), DNS("owner"), DNS("client"))), "it has 2 names"),
    "of an address": (lambda: as_text(request_of(new_key(), ADDRESS)), "not one DNS name alone"),
    "of all": (lambda: as_text(request_of(new_key(), DNS("*"))), "no party can be called so"),
    "with another's signature": (lambda: spoiled(request_of(new_key(), DNS("owner"))), "not signed by the key"),
    "of nothing": (lambda: b"nothing", "it holds no request that can be read"),
}


def as_text(content: x509.CertificateSigningRequest) -> bytes:
    return content.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("made, words", REQUESTS.values(), ids=REQUESTS)
def test_a_request_that_is_not_signed(made: Callable[[], bytes], words: str, kits: Path, tmp_path: Path) -> None:
    (tmp_path / REQUEST).write_bytes(made())
    with pytest.raises(MpcifyError, match=rf"MPC-702 .*{words}"):
        sign(kits, tmp_path / REQUEST, "owner", tmp_path / "signed")
    assert not (tmp_path / "signed").exists()


def test_another_authority_can_sign(tmp_path: Path) -> None:
    root = authority()
    between = authority(root)
    mine, signed = tmp_path / "mine", tmp_path / "signed"
    request(mine, "owner")
    asked = x509.load_pem_x509_csr((mine / REQUEST).read_bytes())
    own = certificate(between, Asked(asked.public_key()))
    signed.mkdir()
    (signed / CERTIFICATE).write_bytes(as_pem([own, between.certificate]))
    (signed / AUTHORITY).write_bytes(as_pem([root.certificate]))
    assert accept(mine, signed) == read_kit(mine, "owner")


class Asked:
    """A key of which only the public half is here."""

    def __init__(self, public: Any) -> None:
        self.public_key = lambda: public


@pytest.mark.parametrize("whose", ["another key", "another name", "another authority"])
def test_a_certificate_is_accepted_for_the_key_and_name_that_asked(whose: str, kits: Path, tmp_path: Path) -> None:
    mine, signed = tmp_path / "mine", tmp_path / "signed"
    request(mine, "client")
    issuer = read_issuer(kits)
    key = new_key() if whose == "another key" else keys.load_key((mine / KEY).read_bytes(), mine)
    name = DNS("owner" if whose == "another name" else "client")
    put(signed, key, [certificate(issuer, key, [name])], [issuer.certificate])
    (signed / KEY).unlink()
    if whose == "another authority":
        (signed / AUTHORITY).write_bytes(as_pem([authority().certificate]))
    before = contents(mine)
    with pytest.raises(MpcifyError, match=r"MPC-702 .*(not for the key|not of client|does not vouch)"):
        accept(mine, signed)
    assert contents(mine) == before


def test_a_partys_own_machine_renews_the_certificate_of_its_key(kits: Path, tmp_path: Path) -> None:
    before = read_kit(kits / "owner")
    request(kits / "owner", "owner")
    assert read_kit(kits / "owner") == before
    sign(kits, kits / "owner" / REQUEST, "owner", tmp_path / "signed")
    after = accept(kits / "owner", tmp_path / "signed")
    assert (after.key, after.authority) == (before.key, before.authority)
    assert after.certificate != before.certificate


def test_a_kit_accepts_no_certificate_of_an_authority_that_it_does_not_trust(kits: Path, tmp_path: Path) -> None:
    other, key = authority(), keys.load_key((kits / "owner" / KEY).read_bytes(), kits)
    put(tmp_path / "signed", key, [certificate(other, key)], [other.certificate])
    (tmp_path / "signed" / KEY).unlink()
    before = contents(kits)
    with pytest.raises(MpcifyError, match=r"MPC-702 .*does not vouch for it"):
        accept(kits / "owner", tmp_path / "signed")
    assert contents(kits) == before


@pytest.mark.parametrize("wrong", ["key", "expired", "mode"])
def test_an_authority_that_cannot_sign(wrong: str, kits: Path) -> None:
    place, root = kits / ISSUER, authority(begins=now() - timedelta(days=9), ends=now() - timedelta(days=2))
    if wrong == "mode":
        (place / KEY).chmod(0o644)
    else:
        (place / CERTIFICATE).write_bytes(as_pem([root.certificate]))
    if wrong == "expired":
        (place / KEY).write_bytes(making.private_pem(root.key))
    words = {"key": "does not belong to", "expired": "the authority expired on", "mode": "others may read"}
    with pytest.raises(MpcifyError, match=rf"MPC-702 .*{words[wrong]}"):
        add_kit(kits, "more")
    assert not (kits / "more").exists()


def test_an_issuer_shows_no_key(made_kits: Path) -> None:
    issuer = read_issuer(made_kits)
    assert isinstance(issuer, Issuer)
    assert (made_kits / ISSUER / KEY).read_text().splitlines()[1] not in repr(issuer)


@pytest.mark.parametrize(
    "call",
    [
        lambda kits: renew_kit(kits, "owner"),
        lambda kits: add_kit(kits, "other"),
        lambda kits: request(kits / "owner", "owner"),
        lambda kits: request(kits / "owner" / "new", "owner"),
        lambda kits: accept(kits / "client", kits / "owner"),
    ],
)
def test_a_folder_that_one_may_not_enter_is_named(call: Callable[[Path], Any], kits: Path) -> None:
    with (
        locked(kits / "authority"),
        locked(kits / "owner"),
        pytest.raises(MpcifyError, match=r"MPC-702 .*Permission denied\)"),
    ):
        call(kits)


def test_kits_may_be_made_where_one_is(kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "signed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "new")
    assert [kit.name for kit in create_kits(".", ROLES)] == [*ROLES]
    (kits / "more").mkdir()
    monkeypatch.chdir(kits / "more")
    assert add_kit("..", "more").name == "more"
    request(tmp_path / "mine", "client")
    monkeypatch.chdir(tmp_path / "signed")
    assert sign(kits, tmp_path / "mine" / REQUEST, "client", ".")[0].name == "client"


def test_a_request_that_waits_is_not_made_again_and_the_error_says_what_to_do(kits: Path) -> None:
    request(kits / "owner", "owner")
    with pytest.raises(MpcifyError, match=r"MPC-702 .*request.csr: something is there already.*mpcify keys sign"):
        request(kits / "owner", "owner")


def test_a_kit_keeps_its_partys_name_though_its_request_is_gone(kits: Path, tmp_path: Path) -> None:
    key = keys.load_key((kits / "client" / KEY).read_bytes(), kits)
    put(tmp_path / "signed", key, [certificate(read_issuer(kits), key, [DNS("owner")])], [])
    (tmp_path / "signed" / KEY).unlink()
    before = contents(kits / "client")
    with pytest.raises(MpcifyError, match=r"MPC-702 .*the certificate of owner, not of client"):
        accept(kits / "client", tmp_path / "signed")
    assert contents(kits / "client") == before
