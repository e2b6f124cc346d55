"""A thin client: each request goes in two halves to delegate and owner, and two halves of its answer come back."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message
from pathlib import Path

import numpy as np

from mpcify.cluster.deployment import read_exported
from mpcify.cluster.gateway.token import read_token
from mpcify.cluster.halves import BINARY, COST, ID, LENGTH, PROGRAM, ROUTE, Half, cost_from
from mpcify.cluster.handshake import SAME
from mpcify.cluster.programs import Programs
from mpcify.cluster.session import CLIENT, OWNER
from mpcify.cluster.thin.config import TOKENS, Thin, read_thin
from mpcify.cluster.thin.line import MOST, Line, Place
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Session, Sessions, Sharing
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.inference import PrivateModel

MISSING = 711  # of the number of an error: the owner has no half, and may say why
SOON = 2.0  # seconds in which it says so


def connect_thin(folder: str | Path, *, length: int | None = None, truncate: bool = False) -> PrivateModel:
    """The model of a thin client's folder: see `mpcify.connect`. Both places are asked whether they are ready."""
    thin = read_thin(folder)
    engine = thin.config.engine.build()
    exported = read_exported(thin.exported, CLIENT).serving(thin.config.lengths)
    connection = ThinConnection(Programs(CLIENT, exported, engine), *places_of(thin))
    private = PrivateModel(exported, engine, connection, length=length, truncate=truncate)
    connection.ready()
    return private


def places_of(thin: Thin) -> tuple[Place, Place]:
    """Delegate and owner. Raises MPC-702 for a token."""
    config = thin.config
    seconds = config.timeouts.connect, config.timeouts.answer
    tokens = {name: read_token(thin.folder / file) for name, file in TOKENS.items()}
    urls = {"delegate": config.delegate, "owner": config.owner}
    delegate, owner = (Place(name, url, tokens[name], *seconds) for name, url in urls.items())
    return delegate, owner


class ThinConnection(Sessions):
    """A client that is no party. Threads may share it, and each request has connections of its own."""

    def __init__(self, programs: Programs, delegate: Place, owner: Place) -> None:
        self.programs, self.delegate, self.owner = programs, delegate, owner
        self.lock, self.lines, self.ended = threading.Lock(), set[Line](), False

    def open(self, graph: Graph) -> "ThinSession":
        return ThinSession(self, graph.length)

    def ready(self) -> None:
        """Asks both. Raises MPC-703 and MPC-704 if one is not reached, MPC-705 if it runs another program, MPC-709 if
        it refuses the token, and what it says if it is not ready.
        """
        for role, place in ((CLIENT, self.delegate), (OWNER, self.owner)):
            self.check(role, place)
            place.ask("/ready")

    def check(self, role: str, place: Place) -> None:
        """Raises MPC-705 unless a place has this role, and runs the programs that halves are made for here."""
        found = place.ask(ROUTE)
        if found.get("role") != role:
            remedy = "correct the URLs in thin.toml: each is of another party"
            raise MpcifyError(705, place.name, "the party at its URL has another role", remedy)
        theirs = found.get("programs")
        for length in self.programs.by_length:
            if not isinstance(theirs, dict) or theirs.get(str(length)) != self.programs.digest(length):
                what = f"it has another export, settings or version for length {length}, or does not serve it"
                raise MpcifyError(705, place.name, what, SAME)

    def ask(self, length: int, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request. Raises what either place answers, and MPC-703, 704, 706 and 707 as a `Line`."""
        began, id = time.perf_counter(), secrets.token_hex(16)
        sharing = self.sharing(length)
        mine, owners = sharing.split(inputs)
        with self.line(self.owner) as owner, self.line(self.delegate) as delegate:
            self.post(owner, Half(id, length, owners))  # first: the delegate asks the owner for it at once
            self.post(delegate, Half(id, length, mine))
            try:
                answer, headers = delegate.receive(sharing.answer_size)
            except MpcifyError as error:
                if error.code == MISSING:
                    self.explain(owner)
                raise
            other, _ = owner.receive(sharing.answer_size)
        outputs = sharing.join(answer, other)
        return outputs, self.cost(headers, time.perf_counter() - began)

    def post(self, line: Line, half: Half) -> None:
        """Sends a half."""
        headers = {ID: half.id, LENGTH: str(half.length), PROGRAM: self.programs.digest(half.length)}
        line.send("POST", ROUTE, half.content, {"Content-Type": BINARY, **headers})

    def explain(self, owner: Line) -> None:
        """Raises why the owner took no half, if it says so."""
        owner.wait(SOON)
        try:
            owner.receive(MOST)
        except MpcifyError as error:
            if error.code != 706:
                raise

    def cost(self, headers: Message, seconds: float) -> Cost:
        """What the parties spent, as the delegate says; but for what was done ahead, the seconds are this client's."""
        try:
            spent = cost_from(headers.get(COST, ""), self.programs.parties)
        except ValueError:
            raise self.delegate.against_protocol("it does not say what the request cost") from None
        return replace(spent, seconds=seconds + (spent.offline.seconds if spent.offline else 0.0))

    def sharing(self, length: int) -> Sharing:
        """How a length's inputs are shared."""
        found = self.programs.by_length[length].sharing
        assert found is not None  # thin.toml says that inputs are delegated
        return found

    @contextmanager
    def line(self, place: Place) -> Iterator[Line]:
        """A connection for one request."""
        line = Line(place)
        with self.lock:
            if self.ended:
                raise MpcifyError(506, "model", "the model is closed", "connect again: mpcify.connect(FOLDER)")
            self.lines.add(line)
        try:
            yield line
        finally:
            with self.lock:
                self.lines.discard(line)
            line.close()

    def close(self) -> None:
        """Ends what is under way, in other threads too."""
        with self.lock:
            self.ended = True
            for line in self.lines:
                line.close()


class ThinSession(Session):
    """A length of a thin client's model."""

    def __init__(self, connection: ThinConnection, length: int) -> None:
        self.connection, self.length = connection, length
        self.graph = connection.programs.by_length[length].graph

    @property
    def setup(self) -> Cost:
        """Nothing: the parties shared their weights before."""
        return Cost()

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        return self.connection.ask(self.length, inputs)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        what = "a thin client is told what a request costs, and not what each operation does"
        raise MpcifyError(501, "profile", what, "profile the exported model: mpcify profile PARTIES")

    def close(self) -> None:
        """Nothing of its own: each request has connections of its own."""
