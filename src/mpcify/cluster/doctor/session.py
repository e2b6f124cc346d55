"""A session with all parties: whether they agree, and what the network between them is like."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from mpcify.cluster.client import TINY, Connection
from mpcify.cluster.config import Timeouts
from mpcify.cluster.deployed import network_of
from mpcify.cluster.deployment import Deployment
from mpcify.cluster.doctor.findings import Findings
from mpcify.cluster.programs import SMALL, Programs
from mpcify.engines.rules import Rules
from mpcify.errors import MpcifyError
from mpcify.graph.exported import Folder
from mpcify.graph.graph import Graph
from mpcify.measure.network import Network
from mpcify.measure.speed import formulas_of

HURRY = Timeouts(connect=15.0, message=30.0)  # of a session in which nothing is computed
TURNS = 5
CONNECTED = "is connected"  # what a peer says that has this party in a session already
BUSY = "this client has a session already, so none was opened"


@dataclass(frozen=True)
class Line:
    """The line to a peer. round_trip: seconds. rate: bytes a second."""

    round_trip: float
    rate: float

    def __str__(self) -> str:
        return f"round trip {self.round_trip * 1e3:.2f} ms, {self.rate * 8 / 1e9:.2f} Gbit/s"


def check_session(deployment: Deployment, exported: Folder, findings: Findings) -> None:
    """Opens a session, unless this client has one; measures the lines to all parties, and reckons with them."""
    hurried = replace(deployment, config=deployment.config.model_copy(update={"timeouts": HURRY}))
    programs = Programs(deployment.role, exported.serving(deployment.lengths), deployment.engine.build())
    connection = Connection(programs, network_of(hurried, programs), HURRY.connect)
    try:
        agreed = findings.check("session", lambda: opened(connection))
        if agreed == BUSY:
            findings.warn(agreed, "to see more, end the gateway, or whatever else asks as this client")
        elif agreed:
            names = deployment.peers
            lines = [findings.check(f"{peer}: line", partial(measured, connection, peer)) for peer in names]
            reckon(deployment, programs, list(filter(None, lines)), findings)
    finally:
        connection.close()


def opened(connection: Connection) -> str:
    """That all parties agree, or BUSY. Raises MPC-703 to MPC-707."""
    try:
        connection.connect()
        return "all parties have the same export, settings and versions"
    except MpcifyError as error:
        if error.code == 704 and CONNECTED in error.what:
            return BUSY
        raise


def measured(connection: Connection, peer: str) -> Line:
    """The line to a peer: the best of some turns, as other work only ever adds."""
    trip = min(connection.echo(TINY)[peer] for _ in range(TURNS))
    whole = min(connection.echo(SMALL)[peer] for _ in range(TURNS))
    return Line(trip, 2 * SMALL / max(whole - trip, 1e-9))


def reckon(deployment: Deployment, programs: Programs, lines: Sequence[Line], findings: Findings) -> None:
    """What the network adds to a request of each length, by the slowest of the lines, if the engine has formulas."""
    try:
        rules = formulas_of(deployment.engine)
    except MpcifyError:
        return
    if not lines:
        return
    slowest = Network("measured", max(line.round_trip for line in lines), min(line.rate for line in lines))
    for length, program in programs.by_length.items():
        findings.check(f"request of {length}", partial(reckoned, rules, program.graph, slowest))


def reckoned(rules: Rules, graph: Graph, network: Network) -> str:
    """What the network adds to a request, in a line; what is done ahead of it does not count."""
    total = rules.total(rules.work(graph).values()).online
    seconds = network.seconds(total.bytes_per_party, total.rounds)
    return f"{total.bytes / 1e6:.1f} MB in {total.rounds} rounds: {seconds:.2f} s, beside what is computed"
