"""One role of a program over links to the others: the weights' masks, sets of randomness, and requests."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import OUTPUT, Arrays, Party, not_shared
from mpcify.engines.interpret import check_arrays
from mpcify.engines.ring.failure import SAME, WHERE, for_peers
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.plan import Slot, is_repeated
from mpcify.engines.ring.prg import Place, Purpose
from mpcify.engines.ring.protocols.products import Multiplier
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.roles import Client, Dealer, Inbox, Outbox, Owner
from mpcify.engines.ring.seat import Seat
from mpcify.engines.ring.sharing import RingSharing, checked
from mpcify.engines.ring.values import encode
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph

if TYPE_CHECKING:
    from mpcify.engines.ring.engine import RingProgram


class Costs:
    """What a role spends, by operation, the client's inputs and the outputs: each has a cost, if of nothing."""

    def __init__(self, role: str, graph: Graph) -> None:
        inputs = (item.name for item in (*graph.held_by("client"), *graph.held_by("public")))
        names = (
            *inputs,
            *(operation.name for operation in graph.operations),
            *(OUTPUT + name for name in graph.outputs),
        )
        self.role, self.spent = role, dict.fromkeys(names, Cost(bytes_per_party={role: 0}))

    def add(self, step: Step, start: float, sent: int = 0, messages: int = 0) -> None:
        """Adds what a step cost since `start`."""
        cost = Cost(time.perf_counter() - start, sent, messages, {self.role: sent})
        self.spent[step.operation] = self.spent[step.operation] + cost


@dataclass
class Prepared:
    """A set that waits for its request: the role in it (the dealer is done), and what it cost by operation so far."""

    role: Client | Owner | None
    costs: Mapping[str, Cost]


class RingParty(Party):
    """A role of one program; others of the same parties may have the same seat."""

    def __init__(self, program: "RingProgram", seat: Seat) -> None:
        self.program, self.graph, self.seat, self.role = program, program.graph, seat, seat.role
        seat.agree(program.facts())
        seat.programs += 1
        self.number = seat.programs
        self.plan, self.levels = program.plan, program.plan.levels
        self.read_last = program.plan.read_last(lambda step: step.level)
        self.dealt_last = program.plan.read_last(lambda step: step.index)
        self.sets = 0
        self.weights: dict[int, Any] | None = None
        self.arrays: dict[str, np.ndarray] = {}
        self.waiting: deque[Future[Prepared]] = deque()
        self.lock = threading.Lock()

    # Weights.

    def hold(self, weights: Arrays | None) -> Cost:
        self.seat.check()
        self.refuse("owner", weights)
        owned = {}
        if self.role == "owner":
            try:
                owned = check_arrays(self.graph.held_by("owner"), weights or {})
            except MpcifyError as error:  # the others wait for it
                self.close(for_peers(self.role, error))
                raise
        self.seat.held = owned
        return self.place(owned)

    def place(self, owned: Arrays) -> Cost:
        """Masks the weights that the session has not masked yet. owned: the owner's."""
        with self.seat.failing():
            self.seat.settle()
            start, before = time.perf_counter(), self.seat.links.sent
            self.weights = {
                number: self.masked(slot, owned) for number, slot in enumerate(self.plan.slots) if slot.bits
            }
            if self.role == "owner":
                encoded = {
                    key: encode(derived.compute(owned), scale) for key, (derived, scale) in self.plan.owned.items()
                }
                self.arrays = encoded
        sent = self.seat.links.sent - before
        self.top_up()
        return Cost(time.perf_counter() - start, sent.bytes, sent.messages, {self.role: sent.bytes})

    def masked(self, slot: Slot, owned: Arrays) -> Any:
        """A weight as this role holds it: F, W or B; of a session's equal ones the first is used again."""
        if slot.key not in self.seat.weights:
            number = len(self.seat.weights)
            self.seat.weights[slot.key] = number, self.mask(slot, number, owned)
        return self.seat.weights[slot.key][1]

    def mask(self, slot: Slot, number: int, owned: Arrays) -> Any:
        """Masks a weight: F = PRG(k₀₁) at client and owner, and B = W − F goes to the dealer."""
        links, key, place = self.seat.links, f"weight#{number}", Place(0, 0, number)
        shape = slot.derived.shape
        if self.role == "dealer":
            inbox = Inbox(lambda: links.receive("owner", key))
            held = inbox.take(shape, slot.bits)
            inbox.end()
        elif self.role == "client":
            held = self.seat.keys["owner"].words(place, Purpose.WEIGHT, shape)
        else:
            held = encode(slot.derived.compute(owned), slot.scale)
            hidden = held - self.seat.keys["client"].words(place, Purpose.WEIGHT, shape)
            links.send("dealer", key, bytes(formulas.pack(hidden, slot.bits)))
        return held if slot.vector else Multiplier(held, slot.bits, self.program.config.device)

    # Sets of randomness.

    def top_up(self) -> None:
        """Has as many sets prepared as the settings say."""
        with self.lock, suppress(ConnectionError):  # the session ends meanwhile, and what is asked next says why
            while len(self.waiting) < self.program.config.ahead:
                self.waiting.append(self.begin())

    def prepare_next(self) -> None:
        """Prepares one set more, and returns when it waits for its request."""
        with self.seat.failing():
            with self.lock:
                future = self.begin()
                self.waiting.append(future)
            self.seat.done(future)

    def begin(self) -> Future[Prepared]:
        """Has the next set prepared; each number is given once."""
        self.sets += 1
        return self.seat.begin(self.prepare, self.sets)

    def take(self) -> Prepared:
        """The next set, prepared. It is used up with this."""
        with self.lock:
            future = self.waiting.popleft() if self.waiting else self.begin()
        return self.seat.done(future)

    def prepare(self, number: int) -> Prepared:
        """Prepares a set: deals it, or draws, receives and sends what a request needs ahead.

        The client sends no message before the owner has taken the one before: the owner, who listens to the client for
        orders too, would otherwise have to hold whatever comes.
        """
        seat, keys, costs = self.seat, self.seat.keys, Costs(self.role, self.graph)
        links, weights = seat.links, self.weights or {}

        dealt, ahead = (self.turns(kind, number) for kind in ("dealt", "ahead"))

        def give(data: bytes) -> None:
            links.send("owner", next(dealt), data)

        def send_ahead(data: bytes) -> None:
            if seat.untaken:
                seat.hear("owner", "taken")
            seat.untaken = True
            links.send("owner", next(ahead), data)

        def take_dealt() -> bytes:
            return links.receive("dealer", next(dealt))

        def take_ahead() -> bytes:
            data = links.receive("client", next(ahead))
            links.send("client", seat.key("taken"), b"")
            return data

        with seat.failing():
            if self.role == "dealer":
                self.await_answers()
                dealer = Dealer(self.number, number, weights, (keys["client"], keys["owner"]), Outbox(give))
                self.walk(dealer.out, costs, lambda step: self.deal(step, dealer))
                return Prepared(None, costs.spent)
            if self.role == "client":
                client = Client(self.number, number, weights, keys["dealer"], Outbox(send_ahead))
                self.walk(client.out, costs, lambda step: ahead_of_request(step, client))
                return Prepared(client, costs.spent)
            inboxes = Inbox(take_dealt), Inbox(take_ahead)
            owner = Owner(self.number, number, weights, keys["dealer"], *inboxes)
            owner.arrays = self.arrays
            self.walk(None, costs, lambda step: step.prepare(owner))
            for inbox in inboxes:
                inbox.end()
            return Prepared(owner, costs.spent)

    def await_answers(self) -> None:
        """Returns once every request is answered, as the owner tells the dealer: dealing takes its cores and lines."""
        links, seat = self.seat.links, self.seat
        while seat.turns.get("answered", 0) < seat.requests:
            seat.hear("owner", "answered", links.timeout * (len(self.levels) + 2))

    def turns(self, kind: str, number: int) -> Iterator[str]:
        """The keys of a set's messages of a kind. The set's number stands at the end, so that keys do not grow with the
        number of requests.
        """
        return (f"{self.number}/{kind}/{turn}#{number}" for turn in itertools.count())

    def deal(self, step: Step, dealer: Dealer) -> None:
        """Deals for a step, and forgets what was dealt for it alone."""
        step.deal(dealer)
        for index in self.dealt_last.get(step.index, ()):
            del dealer.values[index]

    def walk(self, out: Outbox | None, costs: Costs, act: Callable[[Step], None]) -> None:
        """Does something at every step, and sends what comes of it. Raises ConnectionError if the session ends."""
        step = self.plan.steps[0]
        for step in self.plan.steps:
            if self.seat.links.closed is not None:
                raise self.seat.ended()
            start, before = time.perf_counter(), out.bytes if out else 0
            act(step)
            costs.add(step, start, (out.bytes if out else 0) - before)
        if out is not None:
            out.flush()
            costs.add(step, time.perf_counter(), 0, out.messages)

    # Requests.

    def check(self, inputs: Arrays) -> None:
        self.given(inputs)

    def answer(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, Cost]:
        outputs, costs = self.profile(inputs)
        return outputs, sum(costs.values(), Cost())

    def profile(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, dict[str, Cost]]:
        """As `answer`, with what each operation cost."""
        self.seat.check()
        given = self.given(inputs)
        role, costs = self.request(inputs=given)
        outputs = None
        if isinstance(role, Client):
            outputs = {step.name: role.values[step.index] for step in self.plan.outputs}
        return outputs, costs

    def answer_half(self, half: bytes | None) -> tuple[bytes | None, Cost]:
        answer, costs = self.profile_half(half)
        return answer, sum(costs.values(), Cost())

    def profile_half(self, half: bytes | None) -> tuple[bytes | None, dict[str, Cost]]:
        """As `answer_half`, with what each operation cost."""
        sharing = self.program.sharing
        if sharing is None:
            raise not_shared()
        self.seat.check()
        role, costs = self.request(entered=self.entered(sharing, half))
        return None if role is None else sharing.answers.pack(role.values), costs

    def entered(self, sharing: RingSharing, half: bytes | None) -> dict[int, np.ndarray]:
        """This party's part of a request's inputs. Raises MPC-503 for a half that is not its own, MPC-707 for one of
        another size, and for one that came before."""
        if self.role not in sharing.half_sizes:
            if half is not None:
                raise MpcifyError(503, WHERE, f"{self.role} was given a half of inputs", "give it None")
            return {}
        half = half or b""
        found = sharing.entered(self.role, half)
        self.seat.once(half)
        return found

    def request(
        self, inputs: Mapping[str, np.ndarray] | None = None, entered: Mapping[int, np.ndarray] | None = None
    ) -> tuple[Client | Owner | None, dict[str, Cost]]:
        """One request with a set of its own: the role after it, and what each operation cost.

        inputs, entered: as a `Role` has them.
        """
        with self.seat.failing():
            if self.weights is None and self.seat.held is not None:  # by another program of the session
                self.place(self.seat.held)
            if self.weights is None:
                raise MpcifyError(503, WHERE, "a request was made before weights were placed", "call hold first")
            prepared = self.take()
            self.seat.requests += 1
            role, costs = prepared.role, Costs(self.role, self.graph)
            if role is not None:
                role.inputs, role.entered = inputs or {}, entered or {}
                keys = self.turns("said", role.number)
                for number, (key, level) in enumerate(zip(keys, self.levels, strict=False)):
                    self.talk(role, key, level, costs)
                    for index in self.read_last.get(number, ()):
                        role.values.pop(index, None)
            if self.role == "owner":
                self.seat.links.send("dealer", self.seat.key("answered"), b"")
        self.top_up()
        return role, {
            name: replace(spent + prepared.costs[name], offline=prepared.costs[name])
            for name, spent in costs.spent.items()
        }

    def talk(self, role: Client | Owner, key: str, level: list[Step], costs: Costs) -> None:
        """One exchange of messages, and what follows from it without another."""
        links, peer = self.seat.links, "owner" if self.role == "client" else "client"
        talking = [step for step in level if step.talks]
        said: list[bytes | memoryview] = []
        for step in talking:
            start = time.perf_counter()
            message = step.say(role)
            if message is not None:
                said.append(formulas.pack(*message))
            costs.add(step, start, 0 if message is None else len(said[-1]))
        if said:
            start = time.perf_counter()
            links.send(peer, key, b"".join(said))
            costs.add(talking[0], start, 0, 1)
        expected = [step.words(peer) for step in talking]
        heard = memoryview(b"")
        if any(expected):
            start = time.perf_counter()
            heard = memoryview(links.receive(peer, key))
            costs.add(talking[0], start)
            if len(heard) != sum(formulas.packed_size(*words) for words in expected if words):
                raise MpcifyError(707, WHERE, f"a message from {peer} has another length", SAME)
        for step, words in zip(talking, expected, strict=True):
            start = time.perf_counter()
            size = formulas.packed_size(*words) if words else 0
            step.hear(role, formulas.unpack(heard[:size], *words) if words else None)
            heard = heard[size:]
            costs.add(step, start)
        for step in level:
            if not (self.role == "client" and step.ahead):
                start = time.perf_counter()
                step.compute(role)
                costs.add(step, start)

    def given(self, inputs: Arrays | None) -> dict[str, np.ndarray]:
        """A request's inputs: the client's. MPC-503 for what is not this party's, MPC-402 for what no ring holds."""
        if self.program.sharing is not None:
            what = "no party knows the inputs: they come in two halves"
            raise MpcifyError(503, WHERE, what, "give client and owner their halves")
        public = {item.name for item in self.graph.held_by("public")}
        if self.role != "client":
            self.refuse("client", {name: array for name, array in (inputs or {}).items() if name not in public})
            return {}
        return checked(self.graph, self.plan, inputs or {})

    def refuse(self, holder: str, given: Arrays | None) -> None:
        """Raises MPC-503 if this party is given what another holds."""
        if given and self.role != holder:
            what = f"{self.role} was given {', '.join(list(given)[:3])}, which {holder} alone holds"
            raise MpcifyError(503, WHERE, what, f"give {self.role} what is its own")

    @property
    def failed(self) -> MpcifyError | None:
        return self.seat.failed

    def close(self, reason: str = "") -> None:
        self.seat.close(reason)


def ahead_of_request(step: Step, client: Client) -> None:
    """What the client does of a step before the request."""
    step.prepare(client)
    if step.ahead or (is_repeated(step) and step.sources[0] in client.values):
        step.compute(client)
