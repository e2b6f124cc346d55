"""Whatever happens to a cluster, in whatever order: no wrong answer, no unnumbered failure, no wait without end.

Once all parties are there again the next request is answered.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mpcify.cluster import party
from mpcify.cluster.party import Patience
from mpcify.cluster.witness import Witness
from mpcify.engines.engine import Engine
from mpcify.engines.plain import PlainEngine
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.party import Prepared, RingParty
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.inference import PrivateModel
from tests.cluster.conftest import Cluster
from tests.cluster.faults import Lines, crash_at_the_next_order, faulty_lines
from tests.cluster.trusting import TrustingConfig

TEXTS = {4: "a good film", 8: "a bad film film film film"}
WEIGHTS = 1  # messages of weights in a session: the bag has one matrix, and its owner says all at once
BOUND = 20.0  # real seconds for anything
IDLE = 3600.0
SESSION = range(703, 708)  # the numbers of what a session may meet

LENGTHS = st.sampled_from([*TEXTS])
SERVING = st.sampled_from([1, 2])  # parties by their place


@dataclass(frozen=True)
class Sort:
    """What the parties run: engine(version), how close its answers are, and how its messages of weights begin."""

    engine: Callable[[int], Engine]
    close: float
    weights: str


SORTS = {
    "trusting": Sort(lambda version: TrustingConfig(word="ab"[version]).build(), 1e-6, "trusting/weights"),
    "ring": Sort(lambda version: RingConfig(ring=(64, 48)[version], force=True).build(), 1e-3, "weight#"),
}


@dataclass(frozen=True)
class Opened(Witness):
    """The ids of a client's sessions."""

    ids: list[str] = field(default_factory=list)

    def session_opened(self, session: str) -> None:
        self.ids.append(session)


class World:
    """A cluster on faulty lines, its client, and what a request must answer."""

    def __init__(self, exported: Path, lines: Lines, sort: Sort, connecting: float = 0.05) -> None:
        self.lines, self.sort, self.connecting = lines, sort, connecting
        self.running, self.opened = Cluster(exported, engine=sort.engine(0)), Opened()
        self.parties = self.running.engine.parties
        with PrivateModel(read_all(exported), PlainEngine()) as plain:
            self.expected = {length: plain([text])[0] for length, text in TEXTS.items()}
        self.pool = ThreadPoolExecutor(8)
        self.wrong: set[str] = set()  # roles that are not there, about to go, or of another version
        for role in self.parties[1:]:
            self.start(role)
        self.private = self.connect()

    def start(self, role: str, version: int = 0) -> None:
        self.running.engines[role] = self.sort.engine(version)
        self.running.start(role, patience=Patience(IDLE, self.lines.clock))

    def connect(self) -> PrivateModel:
        return self.running.connect(self.connecting, witness=self.opened)

    def restart(self, role: str, version: int = 0) -> None:
        self.running.stop(role)
        self.start(role, version)

    @property
    def sound(self) -> bool:
        return not self.wrong and self.lines.losing is None and not self.lines.clock.rushing

    def ask(self, length: int) -> Future[np.ndarray]:
        return self.pool.submit(lambda: self.private([TEXTS[length]])[0])

    def check(self, answer: Future[np.ndarray], length: int, must: bool) -> bool:
        """Whether a request was answered, rightly; else it failed with a number, and it had a reason to.

        Once one has failed, nobody waits any more for a message that was lost.
        """
        failed = answer.exception(BOUND)
        if failed is None:
            np.testing.assert_allclose(answer.result(), self.expected[length], rtol=0, atol=self.sort.close)
        else:
            self.lines.clock.rushing = False
            assert isinstance(failed, MpcifyError)
            assert failed.code in SESSION
            assert not must, failed
        return failed is None

    def close(self) -> None:
        self.private.close()
        for role in [*self.running.services]:
            self.running.stop(role)
        self.pool.shutdown(wait=False)


class Machine(RuleBasedStateMachine):
    """Everything that can happen between two requests, or in one."""

    exported: Path
    sort: Sort
    used: Counter[tuple[str, bytes, int, int]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()

    @initialize()
    def begin(self) -> None:
        self.lines = self.stack.enter_context(faulty_lines())
        self.world = World(self.exported, self.lines, self.sort)

    @rule(lengths=st.lists(LENGTHS, min_size=1, max_size=3), at_once=st.booleans())
    def request(self, lengths: list[int], at_once: bool) -> None:
        """Requests, one after the other or at once; the same ones among them."""
        must = self.world.sound
        if at_once:
            asked = [self.world.ask(length) for length in lengths]
            for length, answer in zip(lengths, asked, strict=True):
                self.world.check(answer, length, must)
        for length in lengths:
            must = self.world.sound
            self.world.check(self.world.ask(length), length, must)

    @rule(sender=st.integers(0, 2), after=st.integers(0, 24))
    def lose(self, sender: int, after: int) -> None:
        """One of the messages to come is lost: a hello, an order, weights, what is sent ahead, inputs, an answer …"""
        self.lines.lose(self.world.parties[sender], after)

    @rule(place=SERVING, done=st.booleans())
    def crash_in_a_request(self, place: int, done: bool) -> None:
        role = self.world.parties[place]
        crash_at_the_next_order(self.world.running, role, done)
        self.world.wrong.add(role)

    @rule(place=SERVING)
    def crash_while_nobody_asks(self, place: int) -> None:
        role = self.world.parties[place]
        self.world.running.services[role].stop()
        self.world.running.services[role].network.close()
        self.world.wrong.add(role)

    @rule(place=SERVING)
    def another_version_comes(self, place: int) -> None:
        role = self.world.parties[place]
        self.world.restart(role, 1)
        self.world.wrong.add(role)

    @rule(place=SERVING)
    def drain_and_restart(self, place: int) -> None:
        role = self.world.parties[place]
        self.world.restart(role)
        self.world.wrong.discard(role)

    @rule()
    def nobody_asks_for_long(self) -> None:
        self.lines.clock.skipped += IDLE + 1
        links = self.world.private.source and self.world.private.source.links  # type: ignore[attr-defined]
        end = time.monotonic() + BOUND
        while links and links.closed is None and self.world.sound:
            assert time.monotonic() < end
            time.sleep(0.005)

    @rule()
    def another_client_comes(self) -> None:
        self.world.private.close()
        self.world.private = self.world.connect()

    @rule()
    def heal(self) -> None:
        """All parties are back, and nothing is lost any more: the next request is answered."""
        for role in [*self.world.wrong]:
            self.drain_and_restart(self.world.parties.index(role))
        if self.lines.clock.rushing:  # a message was lost that nobody has asked for yet
            self.another_client_comes()
            self.lines.clock.rushing = False
        self.lines.losing = None
        for length in TEXTS:
            self.world.check(self.world.ask(length), length, must=True)

    @invariant()
    def nothing_is_used_twice(self) -> None:
        if hasattr(self, "world"):
            assert len({*self.world.opened.ids}) == len(self.world.opened.ids)
            assert self.lines.keys_used() <= {1}
            assert max(self.lines.weights_shared(self.sort.weights), default=0) <= WEIGHTS
            assert max(self.used.values(), default=0) <= 1

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "world"):
                self.heal()
                self.world.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "PULSE", 0.02)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, bytes, int, int]]:
    """How often each set of randomness was taken: by its role, key, program and number."""
    used, take = Counter[tuple[str, bytes, int, int]](), RingParty.take

    def counted(party: RingParty) -> Prepared:
        prepared = take(party)
        if (role := prepared.role) is not None:
            used[party.role, role.key.algorithm.key, role.program, role.number] += 1
        return prepared

    monkeypatch.setattr(RingParty, "take", counted)
    return used


@pytest.fixture(params=SORTS.values(), ids=SORTS)
def sort(request: pytest.FixtureRequest) -> Sort:
    return request.param  # type: ignore[no-any-return]


def test_whatever_happens_in_whatever_order(exported: Path, sort: Sort, used: Counter[Any]) -> None:
    made = type("Made", (Machine,), {"exported": exported, "sort": sort, "used": used})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        made, settings=settings(max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=checks)
    )


@pytest.fixture
def world(exported: Path, sort: Sort) -> Any:
    with faulty_lines() as lines:
        made = World(exported, lines, sort, connecting=10.0)
        yield made
        made.close()


def test_duplicates_at_once_get_the_same_answer(world: World) -> None:
    for answer in [world.ask(4) for _ in range(8)]:
        assert world.check(answer, 4, must=True)
    assert len(world.opened.ids) == 1


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("done", [False, True], ids=["before it did it", "between doing and saying so"])
def test_a_party_that_crashes_in_a_request_costs_that_one_alone(world: World, place: int, done: bool) -> None:
    role = world.parties[place]
    assert world.check(world.ask(4), 4, must=True)
    crash_at_the_next_order(world.running, role, done)
    assert not world.check(world.ask(4), 4, must=False)
    world.restart(role)
    assert world.check(world.ask(4), 4, must=True)
    assert len({*world.opened.ids}) == 2


def test_requests_that_wait_for_a_session_that_died_open_another(world: World) -> None:
    assert world.check(world.ask(4), 4, must=True)
    third = world.parties[2]
    service, begun, over = world.running.services[third], threading.Event(), threading.Event()

    def dying(*order: object) -> dict[str, Any]:
        begun.set()
        over.wait(BOUND)
        service.stop()
        service.network.close()
        return {}

    service.obey = dying  # type: ignore[method-assign, assignment]
    first = world.ask(4)
    assert begun.wait(BOUND)
    waiting = [world.ask(length) for length in (4, 8, 4, 8)]
    over.set()
    assert not world.check(first, 4, must=False)
    world.restart(third)
    for answer, length in zip(waiting, (4, 8, 4, 8), strict=True):
        assert world.check(answer, length, must=True)
    assert len(world.opened.ids) == 2


@pytest.mark.parametrize("sender", range(3))
@pytest.mark.parametrize("after", range(14))
def test_whichever_message_of_a_session_is_lost_costs_one_request_at_most(
    world: World, sender: int, after: int
) -> None:
    world.lines.lose(world.parties[sender], after)
    answered = [world.check(world.ask(4), 4, must=False) for _ in range(4)]
    assert sum(answered) >= 3
    assert all(answered) or world.lines.losing is None
