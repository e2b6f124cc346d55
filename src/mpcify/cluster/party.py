"""A party that serves: it takes the sessions that the client opens, one after the other, until it is told to stop."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpcify.cluster.desk import Desk, Held
from mpcify.cluster.handshake import against_protocol, shake_hands
from mpcify.cluster.orders import MISSING, THERE, Order, cost_key, costs_to_bytes, echo_key, half_key, order_key
from mpcify.cluster.programs import SMALL, Programs, Seats
from mpcify.cluster.session import ASK_AGAIN, CLIENT, DRAINING, IDLE, REASONS, session_errors
from mpcify.cluster.witness import Witness
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Party
from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.network import Network

PULSE = 1.0  # seconds between two looks at whether to stop
LATE = 5.0  # seconds that a half may come later than the order for it


@dataclass(frozen=True)
class Patience:
    """idle: seconds after which a session in which nobody asks anything is closed. clock: monotonic seconds."""

    idle: float = 3600.0
    clock: Callable[[], float] = time.monotonic


class Service:
    """A party that is not the client, from its start until `stop`. What fails ends a session and never the service.

    watch: is called at least once in PULSE seconds while it waits. desk: where the owner gets its halves of requests,
    if inputs are delegated.
    """

    def __init__(
        self,
        programs: Programs,
        network: Network,
        witness: Witness | None = None,
        patience: Patience | None = None,
        watch: Callable[[], None] = lambda: None,
        desk: Desk | None = None,
    ) -> None:
        self.programs, self.network, self.desk = programs, network, desk
        self.witness, self.patience, self.watch = witness or Witness(), patience or Patience(), watch
        self.stopping = threading.Event()
        self.answered = 0  # requests
        self.held: Held | None = None  # of the desk, for the next answer

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
            if self.held is not None:
                self.held.fail(MpcifyError(706, "session", "it ended before the answer", ASK_AGAIN))
                self.held = None

    def orders(self, links: Links, seats: Seats, session: str) -> str:
        """Does what the client asks until it has gone or this party stops; why the session ended."""
        number, follows = 0, True  # whether the next order comes at once, as on one that opens a length
        while follows or not self.stopping.is_set():
            number += 1
            try:
                message = self.next_order(links, number)
            except ConnectionError:
                seats.check()
                raise
            if isinstance(message, Ended):
                return message.reason
            order = Order.from_bytes(message, CLIENT)
            self.witness.works()
            began = time.perf_counter()
            costs = self.obey(order, number, seats)
            if order.do == "answer":
                self.answered += 1
                self.witness.answered(session, number, order.length, costs[""], began)
            links.send(CLIENT, cost_key(number), costs_to_bytes(costs))
            follows = order.do in ("open", "half")
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
        if order.do == "half":
            return {"": self.take_half(order, number, seats.links)}
        if order.do == "profile" and self.programs.delegated:
            raise against_protocol(CLIENT, "it asks for a profile, and knows no inputs")
        if order.do == "profile":
            return party.profile(None)[1]
        if self.programs.delegated:
            return {"": self.answer_half(party, order.length)}
        return {"": party.answer(None)[1]}

    def take_half(self, order: Order, number: int, links: Links) -> Cost:
        """Takes a request's half from the desk, and says whether it is there; a party without a desk does nothing."""
        if not self.programs.delegated or self.held is not None:
            raise against_protocol(CLIENT, "it asks for a half where there is none, or for a second one")
        if self.desk is not None:
            self.held = self.desk.take(order.id, order.length, LATE)
            links.send(CLIENT, half_key(number), MISSING if self.held is None else THERE)
        return Cost()

    def answer_half(self, party: Party, length: int) -> Cost:
        """One request, with the half that was taken; its half of the answer goes to whoever brought that."""
        held = self.held
        if self.desk is not None and (held is None or held.half.length != length):
            raise against_protocol(CLIENT, "it asks for an answer without a half of that length")
        answer, cost = party.answer_half(None if held is None else held.half.content)
        if held is not None and answer is not None:
            held.give(answer, cost)
            self.held = None
        return cost


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
