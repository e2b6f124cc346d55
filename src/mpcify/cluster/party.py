"""A party that serves: it takes the sessions that the client opens, one after the other, until it is told to stop."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcify import __version__
from mpcify.cluster.handshake import against_protocol, shake_hands
from mpcify.cluster.orders import Order, cost_key, costs_to_bytes, echo_key, order_key
from mpcify.cluster.witness import Witness
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Engine, Party, Program
from mpcify.errors import MpcifyError
from mpcify.graph.exported import Folder
from mpcify.network.links import Limits, Links
from mpcify.network.network import Network

CLIENT = "client"  # the role that opens sessions and gives orders
PULSE = 1.0  # seconds between two looks at whether to stop
SMALL = 1 << 20  # bytes of what parties send each other beside the engine's messages
DRAINING = "it is shutting down"
IDLE = "nobody asked anything"
ASK_AGAIN = "ask again: the next request opens a new session; see that party's log if it happens again"


class Programs:
    """What a role can run: a program for each length that it serves, compiled from its own exported folder.

    exported: the role's part of the model. state: where the engine keeps what must outlive the process. Raises what
    `Engine.compile` raises.
    """

    def __init__(self, role: str, exported: Folder, engine: Engine, state: Path | None = None) -> None:
        self.role, self.exported, self.state = role, exported, state
        self.by_length: dict[int, Program] = {
            length: engine.compile(graph) for length, graph in sorted(exported.graphs.items())
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What must be equal at every party, by what it is."""
        return {
            "version of mpcify": __version__,
            "lengths or batch": [[*self.by_length], self.exported.batch],
            "graphs, settings or version of the engine": [program.facts() for program in self.by_length.values()],
        }

    @property
    def limits(self) -> Limits:
        """What a peer may send at most: as much as these programs do."""
        largest = max(SMALL, *(program.largest_message for program in self.by_length.values()))
        return Limits(message=largest, waiting=2 * largest)


class Seats:
    """A role's parties in one session, one a length; the weights are shared once."""

    def __init__(self, programs: Programs, links: Links) -> None:
        self.programs, self.links = programs, links
        self.parties: dict[int, Party] = {}

    def open(self, length: int) -> Cost:
        """Joins a length's program, and shares the weights that are not shared yet."""
        beside = next(iter(self.parties.values()), None)
        program = self.programs.by_length[length]
        party = program.join(self.programs.role, self.links, self.programs.state, beside)
        self.parties[length] = party
        weights = self.programs.exported.weights
        return party.hold(weights)

    def close(self) -> None:
        """Ends the parties; their links are closed then."""
        for party in self.parties.values():
            party.close()


@contextmanager
def session_errors(links: Links) -> Iterator[None]:
    """Whatever fails in the block ends the session: its links are closed, with the reason if peers may read it.

    Raises MPC-706 for a link that broke or a peer that fell silent, and what has a number as it is.
    """
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        links.close(str(error))
        raise MpcifyError(706, f"session of {links.name}", str(error), ASK_AGAIN) from error
    except MpcifyError as error:
        links.close(f"MPC-{error.code} at {links.name}")
        raise
    except BaseException:
        links.close(f"MPC-903 at {links.name}")
        raise


@dataclass(frozen=True)
class Patience:
    """idle: seconds after which a session in which nobody asks anything is closed. clock: monotonic seconds."""

    idle: float = 3600.0
    clock: Callable[[], float] = time.monotonic


class Service:
    """A party that is not the client, from its start until `stop`. What fails ends a session and never the service.

    watch: is called at least once in PULSE seconds while it waits.
    """

    def __init__(
        self,
        programs: Programs,
        network: Network,
        witness: Witness | None = None,
        patience: Patience | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.programs, self.network = programs, network
        self.witness, self.patience, self.watch = witness or Witness(), patience or Patience(), watch
        self.stopping = threading.Event()
        self.answered = 0  # requests

    def serve(self) -> None:
        """Takes sessions until `stop`; a request that runs then is answered first."""
        while not self.stopping.is_set():
            self.look()
            try:
                links = self.network.accept(PULSE)
            except TimeoutError:
                continue
            except ConnectionError:
                return
            self.session(links)

    def look(self) -> None:
        """What is done while nothing else is."""
        self.witness.waits()
        self.watch()

    def stop(self) -> None:
        """Lets `serve` end after what runs now. Any thread or signal handler may call it."""
        self.stopping.set()

    def session(self, links: Links) -> None:
        """One session, from the handshake to its end, of which the witness hears."""
        session: str | None = None
        seats = Seats(self.programs, links)
        self.witness.works()
        try:
            with session_errors(links):
                session = shake_hands(links, self.programs.facts)
                self.witness.session_opened(session)
                reason = self.orders(links, seats, session)
            links.close(reason)
            self.witness.session_ended(session, REASONS[reason])
        except Exception as error:
            self.witness.session_failed(session, error)
        finally:
            links.close()
            seats.close()

    def orders(self, links: Links, seats: Seats, session: str) -> str:
        """Does what the client asks until it has gone or this party stops; why the session ended."""
        number, follows = 0, True  # whether the next order comes at once, as on one that opens a length
        while follows or not self.stopping.is_set():
            number += 1
            message = self.next_order(links, number)
            if isinstance(message, Ended):
                return message.reason
            order = Order.from_bytes(message, CLIENT)
            self.witness.works()
            costs = self.obey(order, number, seats)
            if order.do == "answer":
                self.answered += 1
                self.witness.answered(session, number, order.length, costs[""])
            links.send(CLIENT, cost_key(number), costs_to_bytes(costs))
            follows = order.do == "open"
        return DRAINING

    def next_order(self, links: Links, number: int) -> "bytes | Ended":
        """The next order's message, or why there is none."""
        began = self.patience.clock()
        while True:
            try:
                return links.receive(CLIENT, order_key(number), PULSE)
            except TimeoutError:
                self.look()
            except ConnectionError:
                if links.closed not in REASONS:
                    raise
            if links.closed in REASONS:  # between two orders
                return Ended(links.closed)
            if links.closed is not None:  # by another peer: the client shall not find out by asking
                raise ConnectionError(f"{links.name} lost a peer: {links.closed}")
            if self.stopping.is_set():
                return Ended(DRAINING)
            if self.patience.clock() - began > self.patience.idle:
                return Ended(IDLE)

    def obey(self, order: Order, number: int, seats: Seats) -> Mapping[str, Cost]:
        """Does one order; what it cost this party."""
        if order.do == "echo":
            return {"": echo(seats.links, order.length, number)}
        if order.do == "open":
            if order.length in seats.parties or order.length not in self.programs.by_length:
                raise against_protocol(CLIENT, "it opens a length that is open, or that is not served")
            return {"": seats.open(order.length)}
        if order.length not in seats.parties:
            raise against_protocol(CLIENT, "it asks for a length that it did not open")
        party = seats.parties[order.length]
        if order.do == "profile":
            return party.profile(None)[1]
        return {"": party.answer(None)[1]}


def echo(links: Links, size: int, number: int) -> Cost:
    """Sends the client's next message, of `size` bytes, back to it."""
    if size > SMALL:
        raise against_protocol(CLIENT, "it asks for an echo of too many bytes")
    message = links.receive(CLIENT, echo_key(number))
    if len(message) != size:
        raise against_protocol(CLIENT, "it sent an echo of another size")
    links.send(CLIENT, echo_key(number), message)
    return Cost()


@dataclass(frozen=True)
class Ended:
    """A session has no further order. reason: why."""

    reason: str


LEFT = "the client has left"
REASONS = {"": "client-left", LEFT: "client-left", DRAINING: "draining", IDLE: "idle"}
