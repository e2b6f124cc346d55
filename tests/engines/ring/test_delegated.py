"""Inputs that no party knows: a client who is no party shares them in halves, and adds halves of the outputs."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.engine import Party, Program
from mpcify.engines.ring import seat
from mpcify.engines.ring.config import KNOWN_TO, PARTIES, RingConfig
from mpcify.engines.ring.sharing import SEED, RingSharing
from mpcify.errors import MpcifyError
from mpcify.network.memory import connect
from tests.engines.parties import answer, join, measured, together
from tests.engines.ring import models
from tests.engines.ring.models import Arrays, Model
from tests.engines.ring.scene import drawn, integers, signed

MODELS = {
    **{f"drawn {seed}": lambda seed=seed: models.drawn(seed) for seed in range(2)},
    "one-hot": lambda: models.student("bert", "2quad-freediv", "one-hot", layers=1),
    "pairs of texts": lambda: models.student("bert", "2quad-freediv", layers=1),
}


def sharing_of(model: Model) -> RingSharing:
    found = model.compile(inputs="delegated").sharing
    assert found is not None
    return found


# Halves.


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


def test_the_halves_of_inputs_add_up_to_them(model: Model) -> None:
    sharing = sharing_of(model)
    client, owner = sharing.split(model.inputs)
    assert {"client": len(client), "owner": len(owner)} == sharing.half_sizes
    first, second = sharing.entered("client", client), sharing.entered("owner", owner)
    for step in sharing.plan.inputs:
        whole = signed(integers(first[step.index]) + second[step.index], step.ring)
        np.testing.assert_array_equal(whole, step.encoded(model.inputs))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_halves_of_outputs_add_up_to_them(seed: int) -> None:
    """To the bit, for every output of the ring."""
    random, sharing = np.random.default_rng(seed), sharing_of(models.drawn(0))
    (step,) = sharing.plan.outputs
    values = drawn(random, *step.shape) >> (64 - step.width)
    client = drawn(random, *step.shape)
    halves = [sharing.answers.pack({step.index: words}) for words in (client, values - client)]
    assert {len(half) for half in halves} == {sharing.answer_size}
    np.testing.assert_array_equal(sharing.join(*halves)[step.name], values / step.scale)


def test_the_clients_half_is_a_seed_and_the_owners_hides_its_input_by_it(model: Model) -> None:
    """Whatever the input is, some x₀ leads to the same half for the owner, and all of them are as likely."""
    sharing = sharing_of(model)
    others = {name: np.roll(array, 1, 1) * 0.5 + 0.25 for name, array in model.inputs.items()}
    with patch("secrets.token_bytes", lambda size: b"\7" * size):
        (client, owner), (same, other) = sharing.split(model.inputs), sharing.split(others)
    assert client == same == b"\7" * SEED
    assert owner != other
    part = sharing.entered("owner", owner)
    parts = models.entered_by(sharing, others, "owner", part)
    hidden = {step.index: step.encoded(others) - parts["client"][step.index] for step in sharing.plan.inputs}
    assert sharing.halves.pack(hidden) == owner
    with patch.object(RingSharing, "drawn", lambda *_: parts["client"]):
        assert sharing.split(others)[1] == owner


def test_each_request_has_halves_of_its_own(model: Model) -> None:
    sharing = sharing_of(model)
    halves = [half for _ in range(3) for half in sharing.split(model.inputs)]
    assert len({*halves}) == 6


@pytest.mark.parametrize("change", [lambda half: half[:-1], lambda half: half + b"\0", lambda half: b""])
def test_a_half_of_another_size_is_refused(change: Any) -> None:
    sharing = sharing_of(models.drawn(1))
    right = bytes(sharing.answer_size)
    for halves in ((change(right), right), (right, change(right))):
        with pytest.raises(MpcifyError, match=f"MPC-707 .*not of {sharing.answer_size}"):
            sharing.join(*halves)
    for role, size in sharing.half_sizes.items():
        with pytest.raises(MpcifyError, match=f"MPC-707 .*not of {size}"):
            sharing.entered(role, change(bytes(size)))


def test_inputs_that_no_ring_holds_are_not_shared() -> None:
    model = models.drawn(1)
    sharing = sharing_of(model)
    with pytest.raises(MpcifyError, match="MPC-402 client input x"):
        sharing.split({**model.inputs, "x": np.full_like(model.inputs["x"], 2.0**30)})
    with pytest.raises(MpcifyError, match="MPC-503 client input x: nothing given"):
        sharing.split({"gate": model.inputs["gate"]})


# Parties.


class Delegated:
    """Parties of a program whose inputs they do not know, and the messages between them."""

    def __init__(self, model: Model, program: Program) -> None:
        self.model, self.program = model, program
        links = connect(PARTIES, timeout=20)
        self.sizes = measured(links)
        self.links = links
        self.parties = join(program, links, model.weights)

    def ask(self, client: bytes, owner: bytes) -> dict[str, Any]:
        """What each role gets of a request."""
        halves = {"client": client, "owner": owner}
        return together(lambda role: self.parties[role].answer_half(halves.get(role)), PARTIES)

    def is_right(self, inputs: Arrays) -> None:
        sharing = self.program.sharing
        assert sharing is not None
        found = self.ask(*sharing.split(inputs))
        assert found["dealer"][0] is None
        outputs = sharing.join(found["client"][0], found["owner"][0])
        np.testing.assert_allclose(outputs["logits"], self.floats(inputs)["logits"], rtol=0, atol=5e-3)

    def floats(self, inputs: Arrays) -> Arrays:
        """The outputs in floats."""
        return replace(self.model, inputs=inputs).plain


@pytest.fixture(params=[0, 2])
def delegated(request: pytest.FixtureRequest) -> Iterator[Delegated]:
    model = models.drawn(1)
    found = Delegated(model, model.compile(inputs="delegated", ahead=request.param))
    yield found
    for party in found.parties.values():
        party.close()


def sets(parties: dict[str, Party]) -> dict[str, int]:
    """How many sets each party has begun."""
    return {role: party.sets for role, party in parties.items()}  # type: ignore[attr-defined]


def test_parties_answer_halves_and_none_gets_an_output(delegated: Delegated) -> None:
    inputs = delegated.model.inputs
    for size in (1.0, 0.5, 1.0):
        delegated.is_right({name: array * size for name, array in inputs.items()})
    assert max(delegated.sizes) <= delegated.program.largest_message


def test_what_is_refused_uses_up_no_set_and_the_session_goes_on(delegated: Delegated) -> None:
    parties, sharing = delegated.parties, delegated.program.sharing
    assert sharing is not None
    client, owner = sharing.split(delegated.model.inputs)
    delegated.ask(client, owner)
    before = sets(parties)
    for role, half in (("client", client), ("owner", owner)):
        for wrong in (None, b"", half[:-1], half + b"\0"):
            with pytest.raises(MpcifyError, match=f"MPC-707 .*not of {sharing.half_sizes[role]}"):
                parties[role].answer_half(wrong)
        with pytest.raises(MpcifyError, match=r"MPC-707 .*came again"):
            parties[role].answer_half(half)
    with pytest.raises(MpcifyError, match=r"MPC-503 .*dealer was given a half"):
        parties["dealer"].answer_half(client)
    for party in parties.values():
        for ask in (party.answer, party.profile):
            for inputs in (delegated.model.inputs, None):
                with pytest.raises(MpcifyError, match=r"MPC-503 .*no party knows the inputs"):
                    ask(inputs)
    assert sets(parties) == before
    delegated.is_right(delegated.model.inputs)


def test_halves_are_remembered_in_bounded_memory(delegated: Delegated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "REMEMBERED", 3)
    place = delegated.parties["client"].seat  # type: ignore[attr-defined]
    for number in range(9):
        place.once(bytes([number]))
    assert len(place.halves) == 3
    with pytest.raises(MpcifyError, match="MPC-707"):
        place.once(bytes([8]))


def test_halves_are_refused_if_the_client_is_a_party() -> None:
    model = models.drawn(1)
    program = model.compile()
    assert program.sharing is None
    parties = join(program, connect(PARTIES, timeout=20), model.weights)
    for party in parties.values():
        for half in (None, bytes(SEED)):
            with pytest.raises(MpcifyError, match="MPC-501 inputs"):
                party.answer_half(half)
    found, _ = answer(parties, model.inputs)["client"]
    np.testing.assert_allclose(found["logits"], model.plain["logits"], rtol=0, atol=5e-3)
    parties["client"].close()


def test_halves_of_two_clients_give_neither_of_their_answers(delegated: Delegated) -> None:
    """What comes of it if they are mixed up are numbers of neither."""
    sharing, inputs = delegated.program.sharing, delegated.model.inputs
    assert sharing is not None
    others = {name: array * 0.5 for name, array in inputs.items()}
    found = delegated.ask(sharing.split(inputs)[0], sharing.split(others)[1])
    outputs = sharing.join(found["client"][0], found["owner"][0])
    for one in (inputs, others):
        assert np.abs(outputs["logits"] - delegated.floats(one)["logits"]).max() > 0.1
    delegated.is_right(inputs)


def test_parties_that_do_not_agree_who_knows_the_inputs_are_refused() -> None:
    model, links = models.drawn(1), connect(PARTIES, timeout=20)
    known, delegated = (model.compile(inputs=inputs) for inputs in KNOWN_TO)

    def joined(role: str) -> Party:
        return (known if role == "owner" else delegated).join(role, links[role])

    found = together(joined, PARTIES)
    assert any(isinstance(error, MpcifyError) and error.code == 705 for error in found.values())


@pytest.mark.parametrize("inputs", ["", "owner", "Delegated"])
def test_other_inputs_are_refused(inputs: str) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-501 inputs .* use --inputs client or delegated"):
        RingConfig(inputs=inputs)


def test_no_message_goes_to_the_client_but_what_the_steps_say(delegated: Delegated) -> None:
    """An output's half stays where it is, and a half of the inputs goes to no other party."""
    kinds: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()
    for end in delegated.links.values():
        post = end.post

        def kept(peer: str, key: str, message: bytes, sender: str = end.name, post: Any = post) -> None:
            with lock:
                kinds[sender, peer] += key.split("/")[1] == "said" if "/" in key else 0
            post(peer, key, message)

        end.post = kept  # type: ignore[method-assign]
    sharing = delegated.program.sharing
    assert sharing is not None
    delegated.ask(*sharing.split(delegated.model.inputs))
    spoken = Counter(
        {
            (role, peer): sum(any(step.words(role) for step in level) for level in delegated.program.plan.levels)  # type: ignore[attr-defined]
            for role, peer in (("client", "owner"), ("owner", "client"))
        }
    )
    assert +kinds == spoken
