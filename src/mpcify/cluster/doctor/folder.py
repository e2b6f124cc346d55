"""What a party runs from: its config, its part of the model, its keys, and whether its engine runs it."""

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509

from mpcify import __version__
from mpcify.cluster.config import EXPORTED, FILE, KIT, ClusterConfig, read_config
from mpcify.cluster.deployment import Deployment, read_deployment, read_exported
from mpcify.cluster.doctor.findings import Findings
from mpcify.cluster.keys import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    RENEW,
    Kit,
    Signed,
    day,
    load_key,
    now,
    read_certificates,
    read_kit,
    read_secret,
    read_signed,
)
from mpcify.engines.config import EngineConfig
from mpcify.engines.engine import Engine, Program
from mpcify.errors import MpcifyError
from mpcify.graph.exported import Folder
from mpcify.graph.index import INDEX, ROLES, Role

SOON = 30  # days ahead of which an end is warned of
Programs = Mapping[int, Program]


@dataclass(frozen=True)
class Parts:
    """What was found usable of a deployed folder; None for what was not.

    programs: all that are served, which the engine runs here; or none.
    """

    deployment: Deployment | None
    exported: Folder | None
    programs: Programs | None
    kit: Kit | None


def check_folder(folder: Path, findings: Findings) -> Parts | None:
    """Checks everything in a folder, and whether its engine runs it here; None if it is no deployed folder."""
    if not findings.check("folder", lambda: one_partys(folder)):
        return None
    findings.check("permissions", lambda: guarded(folder), lambda places: "nobody else changes what is in it")
    config = findings.check(FILE, lambda: read_config(folder / FILE), described)
    role = config.role if config else None
    exported = findings.check(EXPORTED, lambda: read_exported(folder / EXPORTED, role), contents)
    if exported:
        findings.check("files of others", partial(only_own, folder / EXPORTED, exported))
    kit = check_kit(folder / KIT, role, findings)
    if config is None:
        return Parts(None, exported, None, kit)
    if exported and not findings.check(f"{FILE} and {EXPORTED}", lambda: fitting(folder)):
        exported = None
    programs = check_engine(config.engine, config.lengths, exported, findings)
    return Parts(Deployment(folder, config), exported, programs, kit)


def one_partys(folder: Path) -> str:
    """The folder, if it is a party's. Raises MPC-701."""
    if not folder.is_dir():
        raise MpcifyError(701, str(folder), "there is no such folder", "name one party's folder of party init")
    if any((folder / name).exists() for name in (FILE, KIT, EXPORTED)):
        return str(folder)
    if parts := [role for role in ROLES if (folder / role / FILE).exists()]:
        what = f"it holds the folders of {', '.join(parts)}"
        raise MpcifyError(701, str(folder), what, f"name one party's: mpcify doctor {folder / parts[0]}")
    raise MpcifyError(701, str(folder), "it is no deployed folder", "name one that party init wrote for a party")


def guarded(folder: Path) -> list[Path]:
    """The folders in which nobody else can put other files. Raises MPC-701."""
    places = [place for place in (folder, folder / KIT, folder / EXPORTED) if place.is_dir()]
    for place in places:
        status = place.stat()
        mounted = status.st_uid == 0 != os.geteuid()  # as containers are given their secrets: their group is ours
        writers = status.st_mode & (stat.S_IWOTH if mounted else stat.S_IWOTH | stat.S_IWGRP)
        if writers:
            who, bits = ("everybody", "o-w") if writers & stat.S_IWOTH else ("its group", "g-w")
            raise MpcifyError(701, str(place), f"{who} may change what is in it", f"chmod {bits} {place}")
    return places


def described(config: ClusterConfig) -> str:
    """A config in a line."""
    return f"{config.role}; lengths {listed(config.lengths)}; batch {config.batch}"


def listed(items: Sequence[object]) -> str:
    """Items in a line."""
    return ", ".join(map(str, items))


def contents(exported: Folder) -> str:
    """A role's part of the model in a line."""
    weights = "" if exported.weights is None else f", {len(exported.weights)} arrays of weights"
    return f"{exported.about.model}: graphs of {listed(list(exported.graphs))}{weights}; all digests fit"


def fitting(folder: Path) -> str:
    """Raises MPC-701 unless the config serves what the exported model has."""
    read_deployment(folder)
    return "they fit each other"


def only_own(folder: Path, exported: Folder) -> str:
    """Raises MPC-404 if a file lies there that is none of the role's, or if others may read the owner's."""
    stray = sorted({path.name for path in folder.iterdir()} - {INDEX, *exported.index.files})
    if stray:
        what, role = (
            f"it holds {stray[0]!r:.60}, which is none of the {exported.index.role}'s files",
            exported.index.role,
        )
        remedy = f"delete it; if it is another party's secret, the {role} has it now: make a new one"
        raise MpcifyError(404, str(folder), what, remedy)
    for name in exported.index.files if exported.weights is not None else ():
        status = (folder / name).stat()
        permitted = 0o040 if status.st_uid == 0 != os.geteuid() else 0  # as containers are given their secrets
        if status.st_mode & 0o077 & ~permitted:
            what = "others may read or change it"
            raise MpcifyError(404, str(folder / name), what, f"chmod 600 {folder / name}")
    return "none"


def check_kit(kit: Path, role: Role | None, findings: Findings) -> Kit | None:
    """Checks key, certificate and clock, each for itself; the kit, if it can be used."""
    key = findings.check(
        "key", lambda: load_key(read_secret(kit / KEY), kit / KEY), lambda key: f"{key.key_size} bits, for us alone"
    )
    signed = findings.check("certificate", lambda: read_signed(kit, role), told)
    if signed and (signed.not_after - now()).days < SOON:
        findings.warn(f"the certificate expires in {(signed.not_after - now()).days} days", RENEW)
    if signed and expiring(kit / AUTHORITY):
        findings.warn(f"the authority expires within {SOON} days", "make new kits for all parties: mpcify keys init")
    whole = None
    if key and signed:
        whole = findings.check("kit", lambda: read_kit(kit, role), lambda found: "the key fits the certificate")
    findings.check("clock", lambda: check_clock(kit))
    return whole


def told(signed: Signed) -> str:
    """A certificate in a line."""
    return f"{signed.name}, good until {day(signed.not_after)} ({(signed.not_after - now()).days} days)"


def expiring(authorities: Path) -> bool:
    """Whether all of some authorities expire soon."""
    return all((item.not_valid_after_utc - now()).days < SOON for item in read_certificates(authorities))


def check_clock(kit: Path) -> str:
    """The time here. Raises MPC-702 if a certificate of the kit was made later than that."""
    for name in (CERTIFICATE, AUTHORITY):
        for item in certificates(kit / name):
            if item.not_valid_before_utc > now():
                what = f"it is {day(now())} here, and {name} was made after {day(item.not_valid_before_utc)}"
                remedy = "set this machine's clock (timedatectl); if it is right, so is not that of the authority"
                raise MpcifyError(702, str(kit), what, remedy)
    return day(now())


def certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file; none if it cannot be read, which another check says."""
    try:
        return read_certificates(path)
    except MpcifyError:
        return []


def check_engine(
    settings: EngineConfig, lengths: Sequence[int], exported: Folder | None, findings: Findings
) -> Programs | None:
    """Builds the engine, and compiles each length that is served; the programs, if none is missing."""
    engine = findings.check("engine", settings.build, settings_of)
    if engine and engine.force:
        problem = "force is on: if values leave the ring, answers are wrong without any sign of it"
        findings.warn(problem, "export a model whose ranges fit, and set force = false at all parties")
    programs: dict[int, Program] = {}
    if engine and exported:
        for length in lengths:
            program = findings.check(f"length {length}", partial(compiled, engine, exported, length), fitted)
            if program:
                programs[length] = program
    findings.check("versions", lambda: versions([*programs.values()]))
    return programs if len(programs) == len(lengths) else None


def compiled(engine: Engine, exported: Folder, length: int) -> Program:
    """A length's program."""
    return engine.compile(exported.graph(length))


def settings_of(engine: Engine) -> str:
    """An engine's settings in a line."""
    values = {name: value for name, value in engine.config.to_json().items() if value not in (None, False)}
    return ", ".join(f"{name} {value}" for name, value in values.items())


def fitted(program: Program) -> str:
    """A program in a line."""
    proven = "its declared ranges fit" if program.graph.ranges else "it declares no ranges"
    return f"{len(program.graph.operations)} operations; {proven}"


def versions(programs: Sequence[Program]) -> str:
    """The versions that all parties compare, and Python's."""
    found = {"mpcify": __version__, "Python": ".".join(map(str, sys.version_info[:3]))}
    if programs:
        found |= programs[0].facts().get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in found.items())
