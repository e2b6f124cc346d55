"""`party init`: what each party gets, from an exported model and the kits."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography import x509

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import (
    DESK,
    EXPORTED,
    FILE,
    HEALTH,
    KIT,
    THIN_FILE,
    ClusterConfig,
    config_of,
    config_text,
    validated,
)
from mpcify.cluster.gateway import token
from mpcify.cluster.keys import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    Kit,
    Signed,
    check_trust,
    is_there,
    read_certificates,
    read_kit,
    read_signed,
)
from mpcify.cluster.session import CLIENT, OWNER
from mpcify.cluster.thin.config import THIN, TOKENS, ThinConfig, thin_text
from mpcify.engines.config import EngineConfig
from mpcify.errors import MpcifyError
from mpcify.files import new_folder, refuse_taken, write_whole
from mpcify.graph.exported import read_all
from mpcify.graph.index import INDEX, Index, Role

URLS = {"delegate": "http://127.0.0.1:8000", "owner": f"http://{DESK}"}


@dataclass(frozen=True)
class Deployed:
    """What was written. thin: whether a thin client's folder was. lacking: the parties that put their own key to their
    kit.
    """

    roles: tuple[Role, ...]
    thin: bool
    lacking: tuple[Role, ...]
    lengths: tuple[int, ...]


def write_deployment(
    parties: str | Path,
    kits: str | Path,
    out: str | Path,
    engine: EngineConfig,
    addresses: Mapping[str, str],
    health: Mapping[Role, str] = HEALTH,
    urls: Mapping[str, str] | None = None,
) -> Deployed:
    """Writes a folder a party under OUT, which its party's machine gets and no other.

    parties: what `export` wrote. kits: what `keys` wrote; one without its key (see `authority.sign`) gets it from its
    party. addresses: of all but the client, as `Address.parse` reads them. health: where each party is asked for its
    health; one that is not named is asked nowhere. urls: where thin clients reach delegate and owner, if inputs are
    delegated; None, or one that is left out: on this machine. All is read and checked before anything is written: that
    the folders are of one export and fit the engine, and that the kits vouch for each other. Raises MPC-109, MPC-404,
    MPC-701, MPC-702, and what the engine refuses (MPC-402, MPC-406, MPC-501, MPC-502, MPC-504).
    """
    refuse_taken(out)
    roles = roles_of(engine)
    check_addresses(roles, addresses)
    built = engine.build()
    found = read_kits(Path(kits), roles)
    whole = read_all(parties)
    thin = thin_for(whole.index, engine, urls)
    for graph in whole.graphs.values():
        built.compile(graph)
    with new_folder(out) as draft:
        for role in roles:
            place = draft / role
            place.mkdir(mode=0o700)
            own = {"health": health.get(role, ""), "desk": desk_of(thin) if role == OWNER else ""}
            write_whole(place / FILE, config_text(config_for(role, whole.index, engine, addresses, own)))
            write_kit(found[role], place / KIT)
            copy_exported(Path(parties) / role, place / EXPORTED, whole.index, role)
        if thin is not None:
            write_thin(draft, thin)
            copy_exported(Path(parties) / CLIENT, draft / THIN / EXPORTED, whole.index, CLIENT)
    lacking = tuple(role for role in roles if isinstance(found[role], Signed))
    return Deployed(roles, thin is not None, lacking, whole.index.lengths)


def roles_of(engine: EngineConfig) -> tuple[Role, ...]:
    """The parties of an engine. Raises MPC-701 if it has none."""
    if CLIENT not in engine.parties:
        what = "it has no parties, so nothing can be shared among them"
        raise MpcifyError(701, f"engine {engine.name}", what, "choose an engine that shares values")
    return tuple(cast(Role, name) for name in engine.parties)


def check_addresses(roles: tuple[Role, ...], addresses: Mapping[str, str]) -> None:
    """Raises MPC-701 unless there is an address that can be dialled for every party but the client."""
    for role in roles:
        if role != CLIENT and role not in addresses:
            raise MpcifyError(701, f"party {role}", "there is no address for it", f"give --{role} HOST:PORT")
    for name, text in addresses.items():
        if name not in roles or name == CLIENT:
            what = "nobody dials it" if name == CLIENT else "the engine's protocol has no such party"
            raise MpcifyError(701, f"party {name}", what, f"leave --{name} out")
        try:
            Address.parse(text)
        except ValueError as problem:
            raise MpcifyError(701, f"party {name}", f"{text[:80]}: {problem}", f"give --{name} HOST:PORT") from None


def config_for(
    role: Role, index: Index, engine: EngineConfig, addresses: Mapping[str, str], own: Mapping[str, str]
) -> ClusterConfig:
    """A party's config. own: addresses that are its alone, by their sections."""
    values = {
        "format": 1,
        "role": role,
        "lengths": index.lengths,
        "batch": index.batch,
        "parties": dict(addresses),
        "engine": engine,
        **{section: {"address": address} for section, address in own.items()},
    }
    return config_of(values, f"party {role}")


def thin_for(index: Index, engine: EngineConfig, urls: Mapping[str, str] | None) -> ThinConfig | None:
    """A thin client's config; None if a party knows the inputs. Raises MPC-701 for URLs that are none, or too many."""
    if not engine.delegated:
        if urls:
            what = "the client knows the inputs, so there are no thin clients"
            raise MpcifyError(701, f"engine {engine.name}", what, "give --inputs delegated, or leave --thin-… out")
        return None
    values = {"format": 1, "lengths": index.lengths, "batch": index.batch, "engine": engine, **URLS, **(urls or {})}
    return validated(ThinConfig, values, "thin client")


def desk_of(thin: ThinConfig | None) -> str:
    """Where the owner's desk listens: where thin clients ask, if no proxy is between. "" for nowhere."""
    if thin is None:
        return ""
    return DESK if thin.owner.secure or thin.owner.path else str(thin.owner.address)


def write_thin(draft: Path, config: ThinConfig) -> None:
    """Writes a thin client's folder beside those of the parties, and a token each for it and who takes its halves."""
    place = draft / THIN
    place.mkdir(mode=0o700)
    write_whole(place / THIN_FILE, thin_text(config))
    token.make_token(draft / CLIENT / token.NAME, place / TOKENS["delegate"])
    token.make_token(draft / OWNER / token.DESK, place / TOKENS["owner"])


def read_kits(kits: Path, roles: tuple[Role, ...]) -> dict[Role, Kit | Signed]:
    """The kit of every party, all of which vouch for each other. Raises MPC-702."""
    found = {role: read_kit(kits / role, role) if is_there(kits / role / KEY) else None for role in roles}
    given = {role: kit or read_signed(kits / role, role) for role, kit in found.items()}
    for role, kit in given.items():
        for other in roles:
            if other != role:
                chain = x509.load_pem_x509_certificates(kit.certificate)
                check_trust(chain, read_certificates(kits / other / AUTHORITY), kits / role / CERTIFICATE)
    return given


def write_kit(kit: Kit | Signed, place: Path) -> None:
    """Writes a kit."""
    place.mkdir(mode=0o700)
    write_whole(place / CERTIFICATE, kit.certificate)
    write_whole(place / AUTHORITY, kit.authority)
    if isinstance(kit, Kit):
        write_whole(place / KEY, kit.key, 0o600)


def copy_exported(source: Path, place: Path, index: Index, role: Role) -> None:
    """Copies what a role has, and nothing else that may stand in its folder. index: of all roles."""
    place.mkdir(mode=0o700)
    owned = [name.removeprefix(f"{role}/") for name in index.files if name.startswith(f"{role}/")]
    for name in (INDEX, *owned):
        shutil.copyfile(source / name, place / name)
        (place / name).chmod(0o600 if role == "owner" else 0o644)
