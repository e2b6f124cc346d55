"""The client: sessions with parties on machines of their own, behind the same model as a simulation's."""

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from mpcify.cluster.halves import Half
from mpcify.cluster.handshake import against_protocol, shake_hands
from mpcify.cluster.orders import (
    MISSING,
    THERE,
    Order,
    Word,
    cost_key,
    costs_from_bytes,
    echo_key,
    half_key,
    order_key,
)
from mpcify.cluster.programs import Programs, Seats
from mpcify.cluster.session import ASK_AGAIN, CLIENT, DRAINING, IDLE, LEFT, OWNER, session_errors
from mpcify.cluster.turn import Turn
from mpcify.cluster.witness import Witness
from mpcify.engines.cost import Cost, combined
from mpcify.engines.engine import Arrays, Party, Session, Sessions
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.network.links import Links
from mpcify.network.network import Network

T = TypeVar("T")
PAUSE = 0.1  # seconds between two tries to open a session
TINY = 1  # bytes of an echo that measures a round trip


class Connection(Sessions):
    """The client's end of a cluster: one session with all parties, which threads share and take turns in.

    A request that fails ends the session and raises; the next one opens another, with all randomness drawn anew. So
    does one that finds the session ended while nobody asked, or ended by a party that did not begin with it.
    connecting: seconds to wait until all parties are there.
    """

    def __init__(
        self, programs: Programs, network: Network, connecting: float = 60.0, witness: Witness | None = None
    ) -> None:
        self.programs, self.network, self.connecting = programs, network, connecting
        self.witness = witness or Witness()
        self.turn, self.ended = Turn(), False
        self.links: Links | None = None
        self.seats: Seats | None = None
        self.number = 0  # of orders in the session

    def open(self, graph: Graph) -> "ClusterSession":
        with self.turn:
            return ClusterSession(self, graph.length, self.setup(graph.length))

    def connect(self) -> Seats:
        """The open session's seats; opens one if there is none. Raises MPC-703 to MPC-707."""
        with self.turn:
            if self.links is not None and self.links.closed is not None:
                self.leave()
            end = time.monotonic() + self.connecting
            while self.seats is None:
                self.check_open()
                try:
                    self.seats = self.opened()
                    if self.witness.metrics:
                        self.echo(TINY)
                except MpcifyError as error:
                    if error.code != 706 or time.monotonic() > end:  # who goes before the session began may come back
                        raise
                    time.sleep(PAUSE)
            return self.seats

    def opened(self) -> Seats:
        """The seats of a new session. Raises as `connect`."""
        links = self.network.dial(secrets.token_hex(16), self.connecting)
        self.links, self.number = links, 0
        try:
            with session_errors(links):
                shake_hands(links, self.programs.facts)
        except BaseException as error:
            self.failed(error)
            raise
        self.witness.session_opened(links.session)
        return Seats(self.programs, links)

    def ready(self) -> None:
        """Returns at once if a session is open, whoever asks in it; else opens one. Raises MPC-703 to MPC-707."""
        links = self.links
        if links is None or links.closed is not None:
            self.connect()

    def setup(self, length: int) -> Cost:
        """Opens a length in the session, if it is not open; what that cost."""

        def opened() -> Cost:
            seats = self.connect()
            if length in seats.parties:
                return Cost()
            costs, _ = self.order(Order("open", length), lambda: ({"": seats.open(length)}, None))
            return costs[""]

        with self.turn:
            return unless_ended(opened)

    def ask(self, length: int, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request."""

        def answer(party: Party) -> tuple[dict[str, Cost], dict[str, np.ndarray] | None]:
            outputs, cost = party.answer(inputs)
            return {"": cost}, outputs

        with self.turn:
            began = time.perf_counter()
            costs, outputs = self.request("answer", length, inputs, answer)
            self.tell(length, costs[""], began)
            return outputs or {}, costs[""]

    def ask_half(self, half: Half) -> tuple[bytes, Cost]:
        """One request of a thin client's: this party's half of the answer, and what all parties spent.

        The owner must have its half of the same request, else MPC-711 is raised; the session goes on then, and nothing
        was used up.
        """

        def answer(party: Party) -> tuple[dict[str, Cost], bytes | None]:
            found, cost = party.answer_half(half.content)
            return {"": cost}, found

        def asked() -> tuple[dict[str, Cost], bytes | None]:
            seats = self.seats_for(half.length)
            if not self.owner_has_half(half, seats.links):
                what = "the owner has no half of it: it did not come in time, or is of another length"
                raise MpcifyError(711, "request", what, "post both halves at once, the owner's first, under a new id")
            return self.order(Order("answer", half.length), partial(answer, seats.parties[half.length]))

        with self.turn:
            began = time.perf_counter()
            costs, found = unless_ended(asked)
            self.tell(half.length, costs[""], began)
            return found or b"", costs[""]

    def owner_has_half(self, half: Half, links: Links) -> bool:
        """Whether the owner has its half of a request, and holds it for the next order."""

        def heard() -> tuple[dict[str, Cost], bytes]:
            said = links.receive(OWNER, half_key(self.number))
            if said not in (THERE, MISSING):
                raise against_protocol(OWNER, "it does not say whether it has a half")
            return {"": Cost()}, said

        return self.order(Order("half", half.length, half.id), heard)[1] == THERE

    def tell(self, length: int, cost: Cost, began: float) -> None:
        """Tells the witness of a request that was answered."""
        if self.links:
            self.witness.answered(self.links.session, self.number, length, cost, began)

    def profile(self, length: int, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """One request, operation by operation."""

        def answer(party: Party) -> tuple[dict[str, Cost], dict[str, np.ndarray] | None]:
            outputs, costs = party.profile(inputs)
            return costs, outputs

        with self.turn:
            costs, outputs = self.request("profile", length, inputs, answer)
            return outputs or {}, costs

    def request(
        self, word: Word, length: int, inputs: Arrays, work: Callable[[Party], tuple[dict[str, Cost], T]]
    ) -> tuple[dict[str, Cost], T]:
        """An order for a length, which is opened before if it is not. Nobody hears of inputs that are refused."""

        def asked() -> tuple[dict[str, Cost], T]:
            party = self.seats_for(length).parties[length]
            party.check(inputs)
            return self.order(Order(word, length), partial(work, party))

        return unless_ended(asked)

    def echo(self, size: int) -> dict[str, float]:
        """Seconds until so many bytes, at most 1 MiB, have gone to each peer and come back; small ones are told."""
        with self.turn:
            links, message = self.connect().links, bytes(size)

            def there_and_back() -> tuple[dict[str, Cost], dict[str, float]]:
                key, seconds = echo_key(self.number), dict[str, float]()
                for name in links.peers:
                    start = time.perf_counter()
                    links.send(name, key, message)
                    links.receive(name, key)
                    seconds[name] = time.perf_counter() - start
                return {"": Cost()}, seconds

            _, took = self.order(Order("echo", size), there_and_back)
            if size <= TINY:
                self.witness.round_trips(took)
            return took

    def seats_for(self, length: int) -> Seats:
        """The seats of a session in which a length is open; of another session if that ends meanwhile."""
        while True:
            self.setup(length)
            seats = self.connect()
            if length in seats.parties:
                return seats

    def order(self, order: Order, work: Callable[[], tuple[dict[str, Cost], T]]) -> tuple[dict[str, Cost], T]:
        """Gives every party an order, does the client's own part, and adds up what all spent."""
        links = self.links
        if links is None:
            raise MpcifyError(706, "session of the client", "it has ended", ASK_AGAIN)
        try:
            with session_errors(links):
                self.number += 1
                for peer in links.peers:
                    links.send(peer, order_key(self.number), order.to_bytes())
                mine, result = work()
                theirs = {
                    peer: costs_from_bytes(links.receive(peer, cost_key(self.number)), peer, frozenset(mine))
                    for peer in links.peers
                }
        except BaseException as error:
            self.failed(error)
            raise
        return {
            name: combined({CLIENT: cost, **{peer: costs[name] for peer, costs in theirs.items()}})
            for name, cost in mine.items()
        }, result

    def failed(self, error: BaseException) -> None:
        """Ends the session after an error."""
        links, self.links = self.links, None
        if links is not None:
            self.witness.session_failed(links.session, error)
        self.let_go(links)

    def leave(self) -> None:
        """Ends the session as it should."""
        links, self.links = self.links, None
        if links is not None:
            links.close(LEFT)
            self.witness.session_ended(links.session, "client-left")
        self.let_go(links)

    def let_go(self, links: Links | None) -> None:
        """Forgets what belongs to a session."""
        seats, self.seats = self.seats, None
        if links is not None:
            links.close()
        if seats is not None:
            seats.close()

    def check_open(self) -> None:
        """Raises MPC-506 once it is closed."""
        if self.ended:
            raise MpcifyError(506, "model", "the model is closed", "connect again: mpcify.connect(FOLDER)")

    def close(self) -> None:
        """Ends the session, in the middle of another thread's request too, and leaves the network."""
        self.ended = True
        if self.links is not None:
            self.links.close(LEFT)  # first: whoever waits in it goes on, and gives up its turn
        with self.turn:
            self.leave()
            self.network.close()


def unless_ended(ask: Callable[[], T]) -> T:
    """What asking gives. If a party ends the session between two orders, and so before this one, it is asked again."""
    try:
        return ask()
    except MpcifyError as error:
        if error.code != 706 or not error.what.endswith((DRAINING, IDLE)):
            raise
    return ask()


class ClusterSession(Session):
    """A length of a cluster's model, across the sessions that there are meanwhile."""

    def __init__(self, connection: Connection, length: int, setup: Cost) -> None:
        self.connection, self.length, self._setup = connection, length, setup
        self.graph = connection.programs.by_length[length].graph

    @property
    def setup(self) -> Cost:
        return self._setup

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request. Raises MPC-703 to MPC-707 if a party cannot be reached, refuses, differs or is gone."""
        return self.connection.ask(self.length, inputs)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        return self.connection.profile(self.length, inputs)

    def close(self) -> None:
        """Nothing of its own: the connection is what ends."""
