"""`party init` gives each party what it needs and nothing of another's, and `read_deployment` takes it from there."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mpcify.cluster.addresses import Address
from mpcify.cluster.authority import ISSUER, REQUEST, create_kits, request, sign
from mpcify.cluster.connect import connect
from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.keys import KEY, read_kit
from mpcify.engines import config_named
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read, write
from tests.graph.bags import LENGTHS, Bag
from tests.locked import locked

ENGINE = config_named("spu", force=True)  # the bag declares no ranges
ROLES = ENGINE.parties
TWO = config_named("spu", force=True, protocol="cheetah")
RING = config_named("ring")
ADDRESSES = {"owner": "owner.example:7000", "helper": "[2001:db8::1]:7000"}
KIT = {"kit/certificate.pem", "kit/key.pem", "kit/authority.pem"}
EXPORTED = {"exported/exported.json", *(f"exported/graph-{length}.json" for length in LENGTHS)}
OWN = {
    "client": {"exported/tokenizer.json", "exported/embeddings.safetensors"},
    "owner": {"exported/weights.safetensors"},
    "helper": set(),
}


@pytest.fixture(scope="module")
def deployed(exported: Path, made_kits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `party init` writes, not to be changed."""
    before = os.umask(0o022)
    try:
        write_deployment(exported, made_kits, out := tmp_path_factory.mktemp("made") / "deployment", ENGINE, ADDRESSES)
    finally:
        os.umask(before)
    return out


@pytest.fixture
def copied(deployed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(deployed, tmp_path / "deployment"))


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("role", ROLES)
def test_a_party_gets_its_own_and_no_more(role: str, deployed: Path) -> None:
    assert {path.name for path in deployed.iterdir()} == set(ROLES)
    assert set(files(deployed / role)) == {"cluster.toml"} | KIT | EXPORTED | OWN[role]


def test_no_party_gets_a_secret_of_another_or_of_the_authority(deployed: Path, made_kits: Path, exported: Path) -> None:
    secrets = {
        "authority": (made_kits / ISSUER / KEY).read_bytes().splitlines()[1],
        **{role: (made_kits / role / KEY).read_bytes().splitlines()[1] for role in ROLES},
        "weights": (exported / "owner" / "weights.safetensors").read_bytes()[-16:],
        "table": (exported / "client" / "embeddings.safetensors").read_bytes()[-16:],
    }
    found = {
        (holder, name)
        for name, content in files(deployed).items()
        for holder, secret in secrets.items()
        if secret in content
    }
    assert found == {(role, f"{role}/kit/{KEY}") for role in ROLES} | {
        ("weights", "owner/exported/weights.safetensors"),
        ("table", "client/exported/embeddings.safetensors"),
    }


def test_nobody_else_on_a_machine_can_enter_a_partys_folder(deployed: Path) -> None:
    for role in ROLES:
        assert (deployed / role).stat().st_mode & 0o777 == 0o700
        assert (deployed / role / "kit").stat().st_mode & 0o777 == 0o700
        assert (deployed / role / "kit" / KEY).stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (deployed / "owner" / "exported").iterdir()} == {0o600}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_deployed_can_be_read(role: Any, deployed: Path, made_kits: Path) -> None:
    deployment = read_deployment(deployed / role, role)
    assert read_deployment(deployed / role) == deployment
    assert (deployment.role, deployment.engine, deployment.lengths, deployment.batch) == (role, ENGINE, LENGTHS, 2)
    assert deployment.addresses == {name: Address.parse(text) for name, text in ADDRESSES.items()}
    assert read_kit(deployment.kit, role) == read_kit(made_kits / role)
    assert read(deployment.exported, role).lengths == LENGTHS


def test_the_client_dials_all_and_the_helper_the_owner(deployed: Path) -> None:
    owner, helper = ADDRESSES["owner"], ADDRESSES["helper"]
    found = {role: read_deployment(deployed / role) for role in ROLES}
    assert {role: (one.peers, one.listen) for role, one in found.items()} == {
        "client": ({"owner": owner, "helper": helper}, None),
        "helper": ({"client": None, "owner": owner}, helper),
        "owner": ({"client": None, "helper": None}, owner),
    }


def test_health_is_told_on_the_machine_itself_and_at_another_port_each(deployed: Path) -> None:
    found = {str(read_deployment(deployed / role).health) for role in ROLES}
    assert len(found) == 3
    assert {address.split(":")[0] for address in found} == {"127.0.0.1"}


def edited(folder: Path, old: str, new: str) -> None:
    """Changes a folder's cluster.toml."""
    path = folder / "cluster.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_party_may_listen_elsewhere_serve_less_and_be_silent_about_its_health(copied: Path) -> None:
    folder = copied / "owner"
    edited(folder, '[listen]\naddress = ""', '[listen]\naddress = "0.0.0.0:7000"')
    edited(folder, "lengths = [4, 8]", "lengths = [8]")
    edited(folder, 'address = "127.0.0.1:7071"', 'address = ""')
    edited(folder, "queue = 16", "queue = 3")
    found = read_deployment(folder, "owner")
    assert (found.listen, found.lengths, found.health, found.queue) == ("0.0.0.0:7000", (8,), None, 3)


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another's folder": (
        lambda folder: edited(folder, 'role = "owner"', 'role = "helper"'),
        "701 .*of the helper, not",
    ),
    "another's exported": (
        lambda folder: shutil.copy(folder.parent / "helper/exported/exported.json", folder / "exported"),
        "701 .*it is of the helper, and cluster.toml of the owner",
    ),
    "another length": (lambda folder: edited(folder, "[4, 8]", "[4, 16]"), "701 .*lengths: .* has 4, 8, and not 16"),
    "another batch": (
        lambda folder: edited(folder, "batch = 2", "batch = 1"),
        "701 .*batch: the model was exported for 2",
    ),
    "no config": (lambda folder: (folder / "cluster.toml").unlink(), "701 .*there is no such file"),
    "no index": (lambda folder: (folder / "exported/exported.json").unlink(), "404 .*there is no such file"),
}


@pytest.mark.parametrize("spoil, words", WRONG.values(), ids=WRONG)
def test_a_folder_that_does_not_fit_together(spoil: Callable, words: str, copied: Path) -> None:
    spoil(copied / "owner")
    with pytest.raises(MpcifyError, match=rf"MPC-{words}"):
        read_deployment(copied / "owner", "owner")


def test_a_protocol_of_two_has_no_helper(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    made = write_deployment(exported, made_kits, tmp_path / "out", TWO, {"owner": "owner:7000"})
    assert made.roles == ("client", "owner")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"client", "owner"}
    assert read_deployment(tmp_path / "out" / "client").peers == {"owner": "owner:7000"}


@pytest.mark.parametrize(
    "engine, addresses, words",
    [
        (ENGINE, {"owner": "o:1"}, "701 party helper: there is no address for it. Do this: give --helper HOST:PORT"),
        (ENGINE, {"helper": "o:1"}, "701 party owner: there is no address for it"),
        (ENGINE, {**ADDRESSES, "dealer": "d:1"}, "701 party dealer: .* no such party. Do this: leave --dealer out"),
        (RING, ADDRESSES, "701 party dealer: there is no address for it. Do this: give --dealer HOST:PORT"),
        (RING, {**ADDRESSES, "dealer": "d:1"}, "701 party helper: .* no such party. Do this: leave --helper out"),
        (TWO, ADDRESSES, "701 party helper: the engine's protocol has no such party. Do this: leave --helper out"),
        (ENGINE, {**ADDRESSES, "client": "c:1"}, "701 party client: nobody dials it"),
        (ENGINE, {**ADDRESSES, "owner": "owner"}, "701 party owner: owner: it is no HOST:PORT"),
        (ENGINE, {**ADDRESSES, "owner": "[::]:7000"}, "701 .*peers cannot dial that"),
        (ENGINE, {**ADDRESSES, "owner": ADDRESSES["helper"]}, "701 .*two have the same address"),
        (config_named("plain"), ADDRESSES, "701 engine plain: it has no parties"),
        (config_named("fixed"), ADDRESSES, "701 engine fixed: it has no parties"),
        (config_named("spu"), ADDRESSES, "406 "),
        (config_named("spu", protocol="semi2k", force=True), {"owner": "o:1"}, "502 "),
    ],
)
def test_what_no_cluster_can_be_made_of(
    engine: Any, addresses: Mapping[str, str], words: str, exported: Path, made_kits: Path, tmp_path: Path
) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-{words}"):
        write_deployment(exported, made_kits, tmp_path / "out", engine, addresses)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_two_exports_are_not_deployed(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    mixed, other = Path(shutil.copytree(exported, tmp_path / "mixed")), tmp_path / "other"
    other.mkdir()
    write(Bag(), LENGTHS, other)
    shutil.rmtree(mixed / "helper")
    shutil.copytree(other / "helper", mixed / "helper")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*not of the same export"):
        write_deployment(mixed, made_kits, tmp_path / "out", ENGINE, ADDRESSES)
    assert not (tmp_path / "out").exists()


def test_what_else_stands_in_an_exported_folder_stays_there(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(exported, tmp_path / "parties"))
    (source / "helper" / "weights.safetensors").write_bytes(b"left here by somebody")
    write_deployment(source, made_kits, tmp_path / "out", ENGINE, ADDRESSES)
    assert set(files(tmp_path / "out" / "helper")) == {"cluster.toml"} | KIT | EXPORTED


def test_kits_of_two_authorities_are_not_deployed(exported: Path, kits: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ROLES)
    shutil.rmtree(kits / "helper")
    shutil.copytree(tmp_path / "others" / "helper", kits / "helper")
    with pytest.raises(MpcifyError, match=r"MPC-702 .*authority.pem does not vouch for it"):
        write_deployment(exported, kits, tmp_path / "out", ENGINE, ADDRESSES)
    assert not (tmp_path / "out").exists()


def test_a_party_without_a_kit(exported: Path, kits: Path, tmp_path: Path) -> None:
    shutil.rmtree(kits / "helper")
    with pytest.raises(MpcifyError, match=r"MPC-702 .*helper.*there is no such file"):
        write_deployment(exported, kits, tmp_path / "out", ENGINE, ADDRESSES)
    assert not (tmp_path / "out").exists()


def test_a_party_puts_the_key_that_never_left_it_to_its_kit(exported: Path, kits: Path, tmp_path: Path) -> None:
    shutil.rmtree(kits / "client")
    request(tmp_path / "mine", "client")
    sign(kits, tmp_path / "mine" / REQUEST, "client")
    made = write_deployment(exported, kits, out := tmp_path / "out", ENGINE, ADDRESSES)
    assert made.lacking == ("client",)
    kit = read_deployment(out / "client").kit
    with pytest.raises(MpcifyError, match=r"MPC-702 .*key.pem: there is no such file"):
        read_kit(kit)
    shutil.copy(tmp_path / "mine" / KEY, kit)
    assert read_kit(kit, "client").name == "client"


def test_what_stands_there_already_stays(exported: Path, made_kits: Path, copied: Path) -> None:
    before = files(copied)
    with pytest.raises(MpcifyError, match=r"MPC-109 .*something is there already"):
        write_deployment(exported, made_kits, copied, ENGINE, ADDRESSES)
    assert files(copied) == before


def test_a_disk_that_refuses_leaves_nothing(
    exported: Path, made_kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(MpcifyError, match=r"MPC-109 .*No space left"):
        write_deployment(exported, made_kits, tmp_path / "out", ENGINE, ADDRESSES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [connect, read_deployment])
def test_a_folder_that_one_may_not_enter_is_named_with_the_user_to_run_as(
    read: Callable[[Path], object], copied: Path
) -> None:
    with (
        locked(copied / "client"),
        pytest.raises(
            MpcifyError, match=r"MPC-701 .*cluster.toml: it cannot be read \(Permission denied\).*run as the user"
        ),
    ):
        read(copied / "client")


def test_kits_that_one_may_not_enter_are_named(exported: Path, kits: Path, tmp_path: Path) -> None:
    with (
        locked(kits / "owner"),
        pytest.raises(MpcifyError, match=r"MPC-702 .*owner/key.pem: it cannot be read .*run as the user"),
    ):
        write_deployment(exported, kits, tmp_path / "out", ENGINE, ADDRESSES)


def test_a_folder_of_parties_that_is_not_there_is_named(kits: Path, tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-404 .*nowhere: there is no such folder\. .*mpcify export wrote"):
        write_deployment(tmp_path / "nowhere", kits, tmp_path / "out", ENGINE, ADDRESSES)


def test_no_party_has_two_addresses_that_are_one(exported: Path, kits: Path, tmp_path: Path) -> None:
    addresses = {**ADDRESSES, "owner": "127.0.0.1:7071"}  # where the owner is asked for its health
    with pytest.raises(MpcifyError, match=r"MPC-701 party owner: health: 127.0.0.1:7071 is under \[parties\] too"):
        write_deployment(exported, kits, tmp_path / "out", ENGINE, addresses)
