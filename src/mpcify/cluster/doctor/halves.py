"""Where halves of requests come from and go: a thin client's folder, the way to the two places, the owner's desk."""

from functools import partial
from http.client import HTTPException
from pathlib import Path

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import EXPORTED, THIN_FILE
from mpcify.cluster.deployment import Deployment, read_exported
from mpcify.cluster.doctor.findings import Findings
from mpcify.cluster.doctor.folder import check_engine, contents, guarded, listed, only_own
from mpcify.cluster.doctor.machine import asked, check_processors, is_free
from mpcify.cluster.gateway.token import DESK, NAME, read_token
from mpcify.cluster.programs import Programs
from mpcify.cluster.session import CLIENT, OWNER
from mpcify.cluster.thin.client import ThinConnection, places_of
from mpcify.cluster.thin.config import TOKENS, Thin, ThinConfig, read_thin, read_thin_config
from mpcify.cluster.thin.line import Place
from mpcify.errors import MpcifyError


def check_thin(folder: Path, findings: Findings) -> None:
    """Checks everything in a thin client's folder, and the two places to which its halves go."""
    findings.check("permissions", lambda: guarded(folder), lambda places: "nobody else changes what is in it")
    config = findings.check(THIN_FILE, lambda: read_thin_config(folder), described)
    exported = findings.check(EXPORTED, lambda: read_exported(folder / EXPORTED, CLIENT), contents)
    if exported:
        findings.check("files of others", partial(only_own, folder / EXPORTED, exported))
    tokens = [findings.check(file, partial(usable, folder / file)) for file in TOKENS.values()]
    check_processors(findings)
    thin = findings.check(f"{THIN_FILE} and {EXPORTED}", lambda: read_thin(folder), lambda _: "they fit each other")
    programs = config and exported and check_engine(config.engine, config.lengths, exported, findings)
    if thin is None or exported is None or not programs or not all(tokens):
        findings.wrong("places", "not asked yet", "put right what stands above, and run mpcify doctor again")
        return
    served = Programs(CLIENT, exported.serving(thin.config.lengths), thin.config.engine.build())
    check_places(thin, served, findings)


def check_places(thin: Thin, programs: Programs, findings: Findings) -> None:
    """Asks delegate and owner what they run, and whether they are ready."""
    places = places_of(thin)
    connection = ThinConnection(programs, *places)
    for role, place in zip((CLIENT, OWNER), places, strict=True):
        if findings.check(f"{place.name}: programs", partial(agreeing, connection, role, place)):
            findings.check(f"{place.name}: ready", partial(ready, place))


def agreeing(connection: ThinConnection, role: str, place: Place) -> str:
    """Raises MPC-703 to MPC-709 unless a place takes the token, and runs what halves are made for here."""
    connection.check(role, place)
    return f"{place.url} takes the token, and has the same export, settings and versions"


def ready(place: Place) -> str:
    """Raises what a place says if it is not ready."""
    place.ask("/ready")
    return "it is ready"


def usable(path: Path) -> str:
    """Raises MPC-702 for a token that cannot be used."""
    read_token(path)
    return "for us alone"


def described(config: ThinConfig) -> str:
    """A config in a line."""
    return f"halves to {config.delegate} and {config.owner}; lengths {listed(config.lengths)}; batch {config.batch}"


def check_delegated(deployment: Deployment, findings: Findings) -> None:
    """Checks what delegate and owner have for thin clients, if inputs are delegated: a token, and the owner's desk."""
    if not deployment.engine.delegated or deployment.role not in (CLIENT, OWNER):
        return
    file = NAME if deployment.role == CLIENT else DESK
    findings.check(file, lambda: usable(deployment.folder / file))
    if (address := deployment.config.desk.address) is not None:
        findings.check("desk", partial(check_desk, address))


def check_desk(address: Address) -> str:
    """Whether the owner's desk can be opened there, or is. Raises MPC-701."""
    if is_free(address, "[desk]"):
        return f"{address} is free"
    try:
        if b"alive" in asked(address, "/health"):
            return f"a desk is open at {address}"
    except (OSError, HTTPException):
        pass
    remedy = "end it, or change the address under [desk], and where your proxy leads"
    raise MpcifyError(701, "[desk]", f"another program listens at {address}", remedy)
