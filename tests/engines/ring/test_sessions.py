"""Whole sessions: randomness is drawn once, every message is taken once, and links carry what views were shown for."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mpcify.engines.engine import Party
from mpcify.engines.ring import seat as seat_module
from mpcify.engines.ring.config import PARTIES
from mpcify.engines.ring.engine import RingProgram
from mpcify.engines.ring.prg import KEY, Place, Prg, Purpose, derive
from mpcify.engines.ring.seat import DRAWN
from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.memory import connect
from tests.engines.parties import answer, join
from tests.engines.ring import models
from tests.engines.ring.models import Arrays, Model, declared, scene_of
from tests.engines.ring.scene import Shifted, keys
from tests.engines.ring.views import FromClient, FromOwner
from tests.engines.samples import drawn_model, drawn_request

Change = Callable[[str, str, str, bytes], bytes]


@dataclass
class Session:
    """All parties of some programs, over links whose messages are kept, and changed by `change` on their way."""

    programs: tuple[RingProgram, ...]
    weights: Arrays
    change: Change = lambda sender, receiver, key, data: data
    messages: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.links: Mapping[str, Links] = connect(PARTIES, "a session", timeout=10)
        for sender, end in self.links.items():
            end.post = self.posting(sender, end.post)  # type: ignore[method-assign]
        self.parties: list[dict[str, Party]] = []
        for program in self.programs:
            beside = self.parties[0] if self.parties else None
            self.parties.append(join(program, self.links, self.weights, beside))

    def posting(self, sender: str, post: Any) -> Any:
        def changed(receiver: str, name: str, message: bytes) -> None:
            message = self.messages[sender, receiver, name] = self.change(sender, receiver, name, bytes(message))
            post(receiver, name, message)

        return changed

    def ask(self, inputs: Arrays, program: int = 0) -> Arrays:
        """The outputs of a request. Raises what the client raises, or else the first party that fails."""
        found = answer(self.parties[program], inputs)
        for got in found.values():
            if isinstance(got, MpcifyError) and got.code != 706:
                raise got
        assert not isinstance(found["client"], MpcifyError), found["client"]
        return found["client"][0]

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: Any) -> None:
        for parties in self.parties:
            for party in parties.values():
                party.close()


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> dict[Prg, Counter[tuple[Place, Purpose, tuple[int, ...]]]]:
    """How often each stream of each end of a key is drawn, and in which shape."""
    found: dict[Prg, Counter[tuple[Place, Purpose, tuple[int, ...]]]] = {}
    lock, words = threading.Lock(), Prg.words

    def counted(self: Prg, place: Place, purpose: Purpose, shape: tuple[int, ...]) -> np.ndarray:
        with lock:
            found.setdefault(self, Counter())[place, purpose, shape] += 1
        return words(self, place, purpose, shape)

    monkeypatch.setattr(Prg, "words", counted)
    return found


@pytest.fixture(scope="module")
def two_lengths() -> tuple[Model, Model]:
    """A model at two lengths, with the same weights and ranges."""
    short, long = (declared(*drawn_model(1, length), drawn_request(drawn_model(1, length)[0], 3)) for length in (2, 5))
    return short, Model(long.graph.with_ranges(short.graph.ranges), long.weights, long.inputs)


def test_every_stream_of_a_key_is_drawn_once_by_each_who_has_it(
    two_lengths: tuple[Model, Model], drawn_once: dict[Prg, Counter[Any]]
) -> None:
    """Over requests of two programs of a session: no place serves two uses, and both ends draw the same for it."""
    programs = tuple(model.compile(ahead=2) for model in two_lengths)
    with Session(programs, two_lengths[0].weights) as session:
        for program in (0, 1, 1, 0, 0, 1):
            session.ask(two_lengths[program].inputs, program)
        seats = {role: party.seat for role, party in session.parties[0].items()}
        for seat in seats.values():
            seat.worker.shutdown(wait=True)
    for found in drawn_once.values():
        streams = Counter((place, purpose) for place, purpose, _ in found)
        assert set(found.values()) == {1}, "a stream was drawn twice"
        assert set(streams.values()) == {1}, "a stream was drawn in two shapes"
    for one, other in (("client", "owner"), ("client", "dealer"), ("owner", "dealer")):
        ends = [drawn_once.get(seats[a].keys[b], Counter()) for a, b in ((one, other), (other, one))]
        assert set(ends[0]) == set(ends[1])
        assert ends[0]
    sets = {place.set for found in drawn_once.values() for place, purpose, _ in found if purpose != Purpose.WEIGHT}
    assert 0 not in sets, "set 0 is that of the weights"
    assert len(sets) >= 3


def test_every_use_has_a_stream_of_its_own() -> None:
    """Counter blocks begin 2^32 blocks apart, so that no stream runs into another however long it is."""
    places = [Place(program, number, step) for program in (0, 1) for number in (0, 1, 256) for step in (0, 1, 256)]
    starts = sorted(int.from_bytes(place.nonce(purpose)) for place in places for purpose in Purpose)
    assert min(b - a for a, b in pairwise(starts)) >= 1 << 32


def test_keys_differ_by_pair_and_session() -> None:
    uses = [(session, use) for session in ("a", "b", "") for use in ("client-owner", "client-dealer", "")]
    found = {derive(bytes(KEY), session, use) for session, use in uses}
    assert len(found) == len(uses)
    assert {len(key) for key in found} == {KEY}


def test_the_dealer_gets_its_keys_and_masked_weights_and_nothing_else() -> None:
    """Nor does it get the key of client and owner, or a part of it."""
    model = models.drawn(2)
    with Session((model.compile(ahead=1),), model.weights) as session:
        for _ in range(3):
            session.ask(model.inputs)
        to_dealer = {(sender, key.split("#")[0]) for sender, receiver, key in session.messages if receiver == "dealer"}
        drawn = {data for (_, receiver, key), data in session.messages.items() if key == "key" and receiver != "dealer"}
        given = {data for (_, receiver, key), data in session.messages.items() if key == "key" and receiver == "dealer"}
        said = {data for (_, receiver, key), data in session.messages.items() if key.startswith("answered")}
    assert to_dealer == {
        ("client", "key"),
        ("owner", "key"),
        ("client", "agree"),
        ("owner", "agree"),
        ("owner", "weight"),
        ("owner", "answered"),
    }
    assert said == {b""}
    assert len(drawn | given) == 4
    assert DRAWN == {"client": ("owner", "dealer"), "owner": ("client", "dealer"), "dealer": ()}


def test_the_dealers_messages_go_to_the_owner_alone_and_the_client_downloads_nothing() -> None:
    model = models.drawn(0)
    with Session((model.compile(),), model.weights) as session:
        session.ask(model.inputs)
        to_client = {(sender, key) for sender, receiver, key in session.messages if receiver == "client"}
    assert {(sender, key.split("#")[0]) for sender, key in to_client if sender == "dealer"} == {("dealer", "agree")}


@pytest.mark.parametrize(
    "sender, receiver, kind",
    [
        ("client", "dealer", "key"),
        ("owner", "dealer", "weight#0"),
        ("dealer", "owner", "1/dealt/0#1"),
        ("client", "owner", "1/ahead/0#1"),
        ("client", "owner", "1/said/1#1"),
        ("owner", "client", "1/said/2#1"),
    ],
)
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_message_of_another_length_is_refused(sender: str, receiver: str, kind: str, change: Any) -> None:
    def changed(a: str, b: str, name: str, data: bytes) -> bytes:
        return change(data) if (a, b, name) == (sender, receiver, kind) else data

    model = models.drawn(1)
    with pytest.raises(MpcifyError, match="MPC-707"), Session((model.compile(),), model.weights, changed) as session:
        session.ask(model.inputs)


@pytest.mark.parametrize(
    "sender, receiver, kind", [("client", "owner", "1/said/1#1"), ("dealer", "owner", "1/dealt/0#1")]
)
def test_a_message_that_comes_again_or_late_is_refused_or_never_read(sender: str, receiver: str, kind: str) -> None:
    model = models.drawn(1)
    with Session((model.compile(),), model.weights) as session:
        session.ask(model.inputs)
        data, links = session.messages[sender, receiver, kind], session.links[sender]
        with pytest.raises(ValueError, match="before"):
            links.send(receiver, kind, data)
        with pytest.raises(ValueError, match="before"):
            links.post(receiver, kind, data)
        with pytest.raises(ValueError, match="before"):
            session.links[receiver].receive(sender, kind)
        links.post(receiver, kind.replace("#1", "#9"), data)  # of a set that never was
        expected = model.plain["logits"]
        np.testing.assert_allclose(session.ask(model.inputs)["logits"], expected, rtol=0, atol=1e-2)


def test_every_request_has_a_set_of_its_own(two_lengths: tuple[Model, Model]) -> None:
    """Each role counts them by itself, and all come to the same numbers."""
    programs = tuple(model.compile(ahead=ahead) for model, ahead in zip(two_lengths, (0, 3), strict=True))
    with Session(programs, two_lengths[0].weights) as session:
        for program in (0, 1, 0, 1, 1, 0):
            session.ask(two_lengths[program].inputs, program)
    first = [key.split("/said/1#") for sender, _, key in session.messages if "/said/1#" in key and sender == "client"]
    assert [(int(program), int(number)) for program, number in first] == [
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
        (2, 3),
        (1, 3),
    ]


NAMES = {"client-owner": "k01", "client-dealer": "k02", "dealer-owner": "k12"}


def received(
    monkeypatch: pytest.MonkeyPatch,
    secrets: Mapping[str, Shifted],
    role: str,
    model: Model,
    weights: Arrays,
    inputs: Arrays,
) -> dict[tuple[str, str], bytes]:
    """What a role receives in a request whose keys are these; but for the keys themselves, and for outputs."""
    monkeypatch.setattr(seat_module, "derive", lambda secret, session, use: use)
    monkeypatch.setattr(seat_module, "Prg", lambda use: secrets[NAMES[use]])
    program = model.compile()
    last = f"1/said/{len(program.plan.levels) - 1}#1"
    with Session((program,), weights) as session:
        session.ask(inputs)
    return {
        (sender, name): data
        for (sender, receiver, name), data in session.messages.items()
        if receiver == role and name not in ("key", last)
    }


def test_the_links_carry_to_the_owner_the_same_for_other_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, secrets = models.student("bert", "2quad-freediv"), keys()
    inputs = {name: np.roll(array, 1, 1) * 0.5 + 0.25 for name, array in model.inputs.items()}
    program = model.compile()
    FromOwner(scene_of(program, *model.held).run(), scene_of(program, model.weights, inputs, secrets)).hide()
    told = received(monkeypatch, keys(), "owner", model, *model.held)
    other = received(monkeypatch, secrets, "owner", model, model.weights, inputs)
    assert {kind.split("#")[0] for _, kind in told} >= {"agree", "1/dealt/0", "1/ahead/0", "1/said/1"}
    assert other == told
    assert received(monkeypatch, keys(), "owner", model, model.weights, inputs) != told


def test_the_links_carry_to_the_client_the_same_for_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model, secrets = models.student("bert", "2quad-freediv"), keys()
    weights = {name: array[..., ::-1] * 0.9 + 0.01 for name, array in model.weights.items()}
    program = model.compile()
    FromClient(scene_of(program, *model.held).run(), scene_of(program, weights, model.inputs, secrets)).hide()
    told = received(monkeypatch, keys(), "client", model, *model.held)
    other = received(monkeypatch, secrets, "client", model, weights, model.inputs)
    assert len(told) > 10
    assert other == told
    assert received(monkeypatch, keys(), "client", model, weights, model.inputs) != told
