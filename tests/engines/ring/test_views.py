"""What each party receives shows nothing of the others' secrets: other secrets and moved draws give the same bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.engine import RingProgram
from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.lookup import Output
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import RenewBoth, Square
from mpcify.engines.ring.protocols.products import Linear, Multiplied
from mpcify.engines.ring.protocols.step import Message, Step
from tests.engines.ring import models
from tests.engines.ring.chains import PROTOCOLS, SHAPE, opened
from tests.engines.ring.models import Model, entered_by, scene_of, slots_of
from tests.engines.ring.scene import Chain, Given, Scene, Words, drawn, keys, weight_places
from tests.engines.ring.scene import masked as masked_weights
from tests.engines.ring.views import ExposedError, FromClient, FromOwner


class Case:
    """A protocol, that then is opened and squared, so that what it leaves is used; and an output."""

    def __init__(self, name: str, seed: int) -> None:
        self.random, self.chain = np.random.default_rng(seed), Chain()
        self.source = self.chain.given({role: drawn(self.random, *SHAPE) for role in ("client", "owner", "dealer")})
        step = PROTOCOLS[name](self.chain, self.source)
        if "Mask" in name or "Renew" in name:
            last = self.used(step)
        else:
            again = opened(self.chain, step)
            last = self.chain.add(Square, again, shape=again.shape, opened=again)
        self.chain.add(Output, last, shape=last.shape, messages=1, name="y", scale=1, width=48)
        self.chain.ready(self.chain.steps[-1], 48)
        self.weights = [drawn(self.random, 3, 4), drawn(self.random, 4, 2)]

    def used(self, step: Step) -> Step:
        """A masked value, multiplied."""
        if isinstance(step, MaskBoth | RenewBoth):
            return self.chain.add(Multiplied, step, step, shape=step.shape)
        sizes = (step.shape[-1], 2)
        slot = self.chain.slot(sizes, False)
        return self.chain.add(Linear, step, shape=(2, 2), slot=slot, ahead=True)

    def scene(self, secrets: Any = None, client: Words | None = None, owner: Words | None = None) -> Scene:
        """The scene with these parts in place of the value's own."""
        parts = dict(self.source.parts)
        parts |= {role: part for role, part in (("client", client), ("owner", owner)) if part is not None}
        first = Given(index=0, operation="", sources=(), shape=SHAPE, level=0, parts=parts)
        secrets = secrets or keys()
        weights = [drawn(np.random.default_rng(slot), *s.derived.shape) for slot, s in enumerate(self.chain.slots)]
        return Scene([first, *self.chain.steps[1:]], secrets, self.chain.weigh(weights, secrets))


def owners_view(scene: Scene) -> Any:
    """All that the owner receives."""
    return scene.from_dealer.sent, scene.from_client.sent, scene.bytes_said("client")


def clients_view(scene: Scene) -> Any:
    """All that the client receives, outputs apart."""
    outputs = {step.index for step in scene.steps if isinstance(step, Output)}
    return {step: data for step, data in scene.bytes_said("owner").items() if step not in outputs}


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_owner_receives_the_same_whatever_the_client_holds(name: str, seed: int) -> None:
    case = Case(name, seed)
    told, secret, secrets = case.scene().run(), drawn(case.random, *SHAPE), keys()
    FromOwner(told, case.scene(secrets, client=secret)).hide()
    other = case.scene(secrets, client=secret).run()
    assert owners_view(other) == owners_view(told)


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_client_receives_the_same_whatever_the_owner_holds(name: str, seed: int) -> None:
    case = Case(name, seed)
    told, secret, secrets = case.scene().run(), drawn(case.random, *SHAPE), keys()
    FromClient(told, case.scene(secrets, owner=secret)).hide()
    other = case.scene(secrets, owner=secret).run()
    assert clients_view(other) == clients_view(told)
    assert owners_view(other)[1:] == owners_view(told)[1:]  # what the client says follows from what it received


# Whole models.

MODELS: dict[str, Callable[[], Model]] = {
    **{f"drawn {seed}": lambda seed=seed: models.drawn(seed) for seed in range(3)},
    "freediv": lambda: models.student("bert", "2quad-freediv"),
    "softmax, one-hot": lambda: models.student("bert", "softmax-freediv", "one-hot"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


def test_a_whole_request_shows_the_owner_nothing_of_the_inputs(model: Model) -> None:
    program, secrets = model.compile(), keys()
    told = scene_of(program, model.weights, model.inputs).run()
    inputs = {name: np.roll(array, 1, 1) * 0.5 + 0.25 for name, array in model.inputs.items()}
    FromOwner(told, scene_of(program, model.weights, inputs, secrets)).hide()
    other = scene_of(program, model.weights, inputs, secrets).run()
    assert owners_view(other) == owners_view(told)
    assert owners_view(scene_of(program, model.weights, inputs).run()) != owners_view(told)


def test_a_whole_request_shows_the_client_nothing_of_the_weights_but_its_outputs(model: Model) -> None:
    """An output message is y less what the client has: it follows from the client's view and y."""
    program, secrets = model.compile(), keys()
    told = scene_of(program, model.weights, model.inputs).run()
    weights = {name: array[..., ::-1] * 0.9 + 0.01 for name, array in model.weights.items()}
    FromClient(told, scene_of(program, weights, model.inputs, secrets)).hide()
    other = scene_of(program, weights, model.inputs, secrets).run()
    assert clients_view(other) == clients_view(told)
    for step in program.plan.outputs:
        off = other.said["owner", step.index] - told.said["owner", step.index]
        change = (other.client.values[step.index] - told.client.values[step.index]) * step.scale
        np.testing.assert_array_equal((off - np.rint(change).astype(np.int64)) % (1 << step.width), 0)


def test_if_no_party_knows_the_inputs_a_whole_request_shows_the_owner_nothing_of_them(model: Model) -> None:
    """Nor of the outputs: its half of them follows from what it receives, and adds up with the client's."""
    program, secrets = model.compile(inputs="delegated"), keys()
    assert program.sharing is not None
    told = scene_of(program, *model.held).run()
    inputs = {name: np.roll(array, 1, 1) * 0.5 + 0.25 for name, array in model.inputs.items()}
    halves = entered_by(program.sharing, inputs, "owner", told.entered["owner"])
    FromOwner(told, scene_of(program, model.weights, inputs, secrets, halves=halves)).hide()
    other = scene_of(program, model.weights, inputs, secrets, halves=halves).run()
    assert owners_view(other) == owners_view(told)
    assert program.sharing.answers.pack(other.owner.values) == program.sharing.answers.pack(told.owner.values)
    bare = scene_of(program, model.weights, inputs, halves=halves).run()
    assert owners_view(bare) != owners_view(told)
    (found, _), (right, _), (wrong, _) = (outputs_of(program, scene) for scene in (other, bare, told))
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-2)
    assert np.abs(found - wrong).max() > 0.02


def test_if_no_party_knows_the_inputs_a_whole_request_shows_the_client_neither_them_nor_the_weights(
    model: Model,
) -> None:
    """The client is the delegate here. All that it receives is the same, and so its half of the outputs."""
    program, secrets = model.compile(inputs="delegated"), keys()
    assert program.sharing is not None
    told = scene_of(program, *model.held).run()
    inputs = {name: np.roll(array, 1, 1) * 0.5 + 0.25 for name, array in model.inputs.items()}
    weights = {name: array[..., ::-1] * 0.9 + 0.01 for name, array in model.weights.items()}
    halves = entered_by(program.sharing, inputs, "client", told.entered["client"])
    FromClient(told, scene_of(program, weights, inputs, secrets, halves=halves)).hide()
    other = scene_of(program, weights, inputs, secrets, halves=halves).run()
    assert other.bytes_said("owner") == told.bytes_said("owner"), "there is no message with an output"
    assert program.sharing.answers.pack(other.client.values) == program.sharing.answers.pack(told.client.values)
    assert np.abs(outputs_of(program, other)[0] - outputs_of(program, told)[0]).max() > 0.02


def test_the_halves_of_an_answer_say_no_more_than_the_answer(model: Model) -> None:
    """The client's is any word that the dealer and it draw for nothing else; the owner's is the answer less that."""
    program, secrets = model.compile(inputs="delegated"), keys()
    told = scene_of(program, *model.held).run()
    for step in program.plan.outputs:
        secrets["k02"].shift(told.dealer.place(step.index), Purpose.OTHER, drawn(np.random.default_rng(1), *step.shape))
    other = scene_of(program, *model.held, secrets).run()
    (outputs, halves), (same, others) = (outputs_of(program, scene) for scene in (told, other))
    np.testing.assert_array_equal(outputs, same)
    assert halves[0] != others[0]
    assert halves[1] != others[1]
    assert other.bytes_said("client") == told.bytes_said("client"), "the draw is in nothing else"
    assert other.bytes_said("owner") == told.bytes_said("owner")


def outputs_of(program: RingProgram, scene: Scene) -> tuple[Words, tuple[bytes, bytes]]:
    """The logits that a client who is no party adds up, and their halves."""
    assert program.sharing is not None
    client, owner = (program.sharing.answers.pack(role.values) for role in (scene.client, scene.owner))
    return program.sharing.join(client, owner)["logits"], (client, owner)


def test_the_dealer_receives_the_same_whatever_the_weights_are(model: Model) -> None:
    """W − F, with F moved as W is."""
    program, secrets = model.compile(), keys()
    weights = {name: array * -1.5 + 0.1 for name, array in model.weights.items()}
    first, second = (slots_of(program, held) for held in (model.weights, weights))
    told = masked_weights(program.plan.slots, first, secrets)["dealer"]
    for index, place in weight_places(program.plan.slots).items():
        if (place, Purpose.WEIGHT) not in secrets["k01"].shifts:
            secrets["k01"].shift(place, Purpose.WEIGHT, second[index] - first[index])
    other = masked_weights(program.plan.slots, second, secrets)["dealer"]
    assert {index: part.tobytes() for index, part in other.items()} == {i: part.tobytes() for i, part in told.items()}


# Controls: what the comparison is for, it finds.


@pytest.mark.parametrize("again, same", [(1, False), (2, True)])
def test_a_set_that_is_used_twice_is_found(again: int, same: bool) -> None:
    """Two requests; of the first the owner sees the same for another input. If the second has a set of its own, it
    does not change; if it has the same one, no draws hide both."""
    model = models.drawn(1)
    program, secrets = model.compile(), keys()
    told = scene_of(program, model.weights, model.inputs).run()
    second = {name: array * 0.7 for name, array in model.inputs.items()}
    other = {name: array * 0.5 for name, array in model.inputs.items()}
    told_again = scene_of(program, model.weights, second, number=again).run()
    FromOwner(told, scene_of(program, model.weights, other, secrets)).hide()
    found = owners_view(scene_of(program, model.weights, second, secrets, again).run()) == owners_view(told_again)
    assert found == same


class Bare(Mask):
    """A step that forgets its mask."""

    def say(self, party: Any) -> Message | None:
        message = super().say(party)
        return None if message is None else (party.values[self.sources[0]], message[1])


class Doubled(Mask):
    """A step that hides its part by twice a mask, and so shows its lowest bit."""

    def say(self, party: Any) -> Message | None:
        mask = None if party.first else party.kept[self.index][0]
        message = super().say(party)
        return None if message is None else (message[0] - mask, message[1])


@pytest.mark.parametrize("kind", [Bare, Doubled])
def test_a_part_that_is_not_hidden_is_found(kind: type[Mask]) -> None:
    chain = Chain()
    parts = {"client": np.array([5, 7])}
    chain.add(kind, chain.given(parts), shape=(2,), messages=1, known=True, ahead=True).ring = 64
    told = Scene(chain.steps).run()
    other = [Given(index=0, operation="", sources=(), shape=(2,), level=0, parts={"client": np.array([6, 7])})]
    with pytest.raises(ExposedError, match=f"what {kind.__name__} says is not hidden"):
        FromOwner(told, Scene([*other, chain.steps[1]])).hide()
