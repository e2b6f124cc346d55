"""An owner who deviates at will learns nothing of the client's input, if it does not collude with the dealer.

Theorem. Let an owner send the client any messages, each as late as it likes and in the light of all that it has
received, and the dealer any B. For any two inputs of the client there is a bijection of the draws of k₀₂, which the
owner does not know, under which the client's messages and what the dealer gives the owner are the same for both inputs.

Proof. The client is a function of its input, of draws and of what it heard. Each of its messages is a word plus or less
a draw, or this without its lowest bits, and the draw is used for nothing else that leaves the client (D₀ of Open,
Lookup, Mask and MaskBoth, a of Renew and RenewBoth); the word depends on its input, on what it heard, and on other
draws. Whatever the owner said, that draw can be moved by the difference of the words, above the bits that are left out.
What the dealer gives the owner is a secret less a share that the client draws: that share is moved by the difference of
the secrets. If the input came in two halves, the owner has had x₁ = x − x₀, and x₀, which is as uniform, is moved by
the difference of the inputs. In the order of the steps each move depends on earlier draws alone, so all moves together
are a bijection, and the draws stay uniform. The dealer hears nothing, and the owner gets no output.

So the owner must not learn when or how the client fails either: a message of the right length is never refused for what
it holds.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.config import KNOWN_TO
from mpcify.engines.ring.protocols.lookup import Output
from tests.engines.ring import models
from tests.engines.ring.models import Model, entered_by, scene_of
from tests.engines.ring.scene import Scene, Words, drawn, keys, received
from tests.engines.ring.views import FromOwner

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", params=["drawn", "freediv", "softmax, one-hot"])
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "drawn":
        return models.drawn(1)
    if request.param == "freediv":
        return models.student("bert", "2quad-freediv", layers=1)
    return models.student("bert", "softmax-freediv", "one-hot", layers=1)


def arbitrary(scene: Scene, seed: int) -> dict[int, Words]:
    """Messages of the right length in place of the owner's: extremes, noise, or all the same."""
    random, heard = np.random.default_rng(seed), {}
    for step in scene.steps:
        words = step.words("owner")
        if words is not None:
            count, bits = words
            made = drawn(random, count) if random.random() < 0.8 else np.full(count, random.integers(-1, 2))
            heard[step.index] = received(made, bits)
    return heard


def sent(scene: Scene) -> tuple[list[bytes], list[bytes], dict[int, bytes]]:
    """All that reaches the owner: of the dealer, of the client ahead, and during the request."""
    return scene.from_dealer.sent, scene.from_client.sent, scene.bytes_said("client")


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, known_to=st.sampled_from(KNOWN_TO))
def test_whatever_the_owner_says_it_receives_the_same_for_other_inputs(model: Model, seed: int, known_to: str) -> None:
    program, secrets = model.compile(inputs=known_to), keys()
    honest = scene_of(program, model.weights, model.inputs).run()
    heard = arbitrary(honest, seed)
    random = np.random.default_rng(seed)
    weights = {name: random.standard_normal(array.shape) for name, array in model.weights.items()}  # what makes B
    told = scene_of(program, weights, model.inputs, heard=heard).run()
    assert sent(told) != sent(honest)
    inputs = {name: array + random.standard_normal(array.shape) for name, array in model.inputs.items()}
    halves = None if program.sharing is None else entered_by(program.sharing, inputs, "owner", told.entered["owner"])
    FromOwner(told, scene_of(program, weights, inputs, secrets, halves=halves)).hide()
    assert sent(scene_of(program, weights, inputs, secrets, heard=heard, halves=halves).run()) == sent(told)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_nothing_that_the_client_sends_depends_on_the_output(model: Model, seed: int) -> None:
    """Nor does anything read it: what the owner says of it may be anything, and the next request is the same."""
    program = model.compile()
    outputs = {step.index for step in program.plan.outputs}
    assert not [step for step in program.plan.steps if outputs.intersection(step.sources)]
    assert all(isinstance(step, Output) and step.words("client") is None for step in program.plan.outputs)
    honest = scene_of(program, model.weights, model.inputs).run()
    heard = {step.index: words for step in program.plan.steps if (words := honest.hear(step, "owner")) is not None}
    heard |= {index: words for index, words in arbitrary(honest, seed).items() if index in outputs}
    told = scene_of(program, model.weights, model.inputs, heard=heard).run()
    assert sent(told) == sent(honest)
    assert all((told.client.values[index] != honest.client.values[index]).any() for index in outputs)
