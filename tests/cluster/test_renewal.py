"""Kits are renewed: nothing else is overwritten, and a reader never meets half a renewal."""

import fcntl
import io
import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpcify.cluster import authority as making
from mpcify.cluster import deployed, keys
from mpcify.cluster.authority import (
    accept,
    create_kits,
    read_issuer,
    renew_kit,
)
from mpcify.cluster.certificates import new_key
from mpcify.cluster.deployed import CertificateWatch
from mpcify.cluster.health import Health
from mpcify.cluster.keys import AUTHORITY, CERTIFICATE, KEY, now, read_kit
from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.errors import MpcifyError
from mpcify.graph.index import ROLES
from tests.cluster.signing import certificate, contents, put


def test_a_kit_is_renewed_with_a_new_key(kits: Path) -> None:
    before, others = read_kit(kits / "owner"), {name: read_kit(kits / name) for name in ("client", "helper")}
    after = renew_kit(kits, "owner")
    assert read_kit(kits / "owner", "owner") == after
    assert (before.key == after.key, before.certificate == after.certificate) == (False, False)
    assert before.authority == after.authority
    assert len(keys.read_certificates(kits / "owner" / CERTIFICATE)) == 1
    assert (kits / "owner" / KEY).stat().st_mode & 0o777 == 0o600
    assert {name: read_kit(kits / name) for name in others} == others


def test_a_kit_elsewhere_is_renewed_and_the_authority_stays_where_it_is(kits: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(kits / "owner", tmp_path / "deployed" / "kit"))
    before = contents(kits)
    assert renew_kit(kits, "owner", place) == read_kit(place, "owner")
    assert contents(kits) == before
    assert set(contents(place)) == {CERTIFICATE, KEY, AUTHORITY}


def test_a_kit_that_was_renewed_elsewhere_takes_the_old_ones_place(kits: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(kits / "owner", tmp_path / "kit"))
    new = renew_kit(kits, "owner")
    assert accept(place, kits / "owner") == new == read_kit(place)
    assert len(keys.read_certificates(place / CERTIFICATE)) == 1


@pytest.mark.parametrize("whose", ["another party", "another authority", "another key"])
def test_a_kit_that_does_not_take_the_old_ones_place(whose: str, kits: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ROLES)
    places = {"another party": kits / "client", "another authority": tmp_path / "others" / "owner"}
    source = places.get(whose, kits / "helper")
    if whose == "another key":
        shutil.copy(kits / "client" / KEY, source / KEY)
    before = contents(kits)
    with pytest.raises(MpcifyError, match=r"MPC-702 .*(not of client|does not vouch|does not belong)"):
        accept(kits / "owner", source)
    assert contents(kits) == before


def test_a_kit_that_expired_is_renewed(kits: Path) -> None:
    issuer, key = read_issuer(kits), new_key()
    old = certificate(issuer, key, begins=now() - timedelta(days=9), ends=now() - timedelta(days=2))
    put(kits / "owner", key, [old], [issuer.certificate])
    assert renew_kit(kits, "owner").days_left == 364


def test_what_is_not_renewed(kits: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ROLES)
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    refused = {
        "it is the kit of client, not of owner": (kits, "owner", kits / "client"),
        "its authority is not the one that would sign": (tmp_path / "others", "owner", kits / "owner"),
        "no kit can be read there": (kits, "nobody", None),
        "there is no such file": (kits, "owner", tmp_path / "empty"),
        "there is no authority": (tmp_path / "empty", "owner", kits / "owner"),
    }
    for words, arguments in refused.items():
        with pytest.raises(MpcifyError, match=rf"MPC-702 .*{words}"):
            renew_kit(*arguments)
    assert contents(tmp_path) == before


def test_whoever_reads_in_the_middle_of_a_renewal_gets_a_whole_kit(kits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step, and with each file read before or after it."""
    place, write = kits / "owner", making.write_whole
    seen = [read_kit(place)]

    def stepwise(path: Path, *arguments: Any, **options: Any) -> None:
        write(path, *arguments, **options)
        seen.append(read_kit(place, "owner"))

    monkeypatch.setattr(making, "write_whole", stepwise)
    after = renew_kit(kits, "owner")
    before = seen[0]
    assert [kit.key == after.key for kit in seen] == [False, False, True, True]
    assert [kit.certificate for kit in seen] == [before.certificate] * 2 + [after.certificate] * 2


def test_a_reader_that_meets_the_old_key_and_the_new_certificate_reads_again(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read, after = kits / "owner", keys.read_secret, []

    def late(path: Path) -> bytes:
        content = read(path)
        if path.parent == place and not after:
            monkeypatch.setattr(keys, "read_secret", read)
            after.append(renew_kit(kits, "owner"))  # the reader holds the old key by now
        return content

    monkeypatch.setattr(keys, "read_secret", late)
    assert read_kit(place, "owner") == after[0]


def test_readers_beside_many_renewals_always_get_a_whole_kit(kits: Path) -> None:
    done, failures, seen = threading.Event(), [], set()

    def read() -> None:
        while not done.is_set():
            try:
                seen.add(read_kit(kits / "owner", "owner").certificate)
            except MpcifyError as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        renew_kit(kits, "owner")
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(seen) > 2


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_renewal_that_breaks_off_leaves_a_kit_that_can_be_used_and_renewed(
    step: int, kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = making.write_whole, iter(range(9))

    def breaking(*arguments: Any, **options: Any) -> None:
        if next(calls) == step:
            raise KeyboardInterrupt
        write(*arguments, **options)

    monkeypatch.setattr(making, "write_whole", breaking)
    with pytest.raises(KeyboardInterrupt):
        renew_kit(kits, "owner")
    monkeypatch.undo()
    broken = read_kit(kits / "owner", "owner")
    assert renew_kit(kits, "owner").key != broken.key
    assert len(keys.read_certificates(kits / "owner" / CERTIFICATE)) == 1


def test_one_renews_at_a_time(kits: Path) -> None:
    descriptor = os.open(kits / "owner", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(MpcifyError, match=r"MPC-702 .*another process renews it"):
            renew_kit(kits, "owner")
    finally:
        os.close(descriptor)


def test_what_replaces_a_services_files_belongs_to_the_service(kits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = []
    monkeypatch.setattr(making, "owner_of", lambda _: (1234, 5678))
    monkeypatch.setattr(os, "fchown", lambda _, *owner: owners.append(owner))
    renew_kit(kits, "owner")
    assert owners == [(1234, 5678)] * 3


def test_a_service_notices_the_end_of_its_certificate_when_it_comes(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, key, began = read_issuer(kits), new_key(), now()
    put(kits / "owner", key, [certificate(issuer, key, ends=began + timedelta(minutes=5))], [issuer.certificate])
    passed, told, health = timedelta(), list[tuple[bool, str]](), Health("127.0.0.1", 0, Metrics("owner"))
    monkeypatch.setattr(deployed.time, "monotonic", lambda: passed.total_seconds())
    for module in (keys, deployed):
        monkeypatch.setattr(module, "now", lambda: began + passed)
    with health:
        monkeypatch.setattr(health, "ready", lambda ok, why="": told.append((ok, why)))
        deployment: Any = SimpleNamespace(kit=kits / "owner", role="owner")
        watch = CertificateWatch(deployment, Log("owner", stream=io.StringIO()), Metrics("owner"), health)
        watch.started = True
        for minutes in (0, 4, 6):
            passed = timedelta(minutes=minutes, seconds=1)
            watch()
    assert told == [(True, ""), (True, ""), (False, "certificate")]
