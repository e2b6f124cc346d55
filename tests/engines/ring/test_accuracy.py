"""Tiny students of every family and recipe answer as they do in floats, to two hundredths of a logit.

They do whether the client knows the inputs, or no party.
"""

import numpy as np
import pytest

from mpcify.engines.ring.config import KNOWN_TO
from mpcify.engines.ring.kernels import products
from mpcify.engines.ring.kernels.floats import Cuda
from mpcify.engines.ring.protocols.products import Multiplier
from mpcify.recipe import Recipe
from tests.engines.ring import models
from tests.makers import FAMILIES

# which softmax, and t
ATTENTIONS = (("2quad-freediv", None), ("softmax-freediv", 6), ("softmax-freediv", 4), ("softmax-freediv", 2))


def students() -> list[tuple[str, str, int | None, bool, str]]:
    """Every family with every attention; keys centred or not, and both sorts of embeddings, with each in turn."""
    found = [("bert", "softmax-freediv", 8, False, "client")]
    for i, family in enumerate(FAMILIES):
        for j, (attention, t) in enumerate(ATTENTIONS):
            embeddings = "client" if family == "vit" or (i + j) % 2 else "one-hot"
            found.append((family, attention, t, bool((i + j // 2) % 2), embeddings))
    return found


@pytest.mark.parametrize("family, attention, t, centred, embeddings", students())
def test_a_student_answers_as_in_floats(
    family: str, attention: str, t: int | None, centred: bool, embeddings: str
) -> None:
    options = {} if t is None else {"t": t}
    model = models.student(family, Recipe(attention, "quad", centre_keys=centred, **options), embeddings)
    wanted = model.plain["logits"]
    assert np.abs(wanted).max() > 0.1
    for inputs in KNOWN_TO:
        with model.compile(inputs=inputs).load(model.weights) as session:
            found, _ = session.run(model.inputs)
        np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=2e-2)


@pytest.mark.parametrize("known_to", KNOWN_TO)
@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv"])
def test_padding_adds_nothing_whatever_it_holds(recipe: str, known_to: str) -> None:
    """Its values leave their declared ranges and wrap, and then are weighed with an exact zero."""
    model = models.student("bert", recipe)
    padding = model.inputs["share"][..., 0] == 0
    assert padding.any()
    inputs = {**model.inputs, "embeddings": model.inputs["embeddings"].copy()}
    inputs["embeddings"][padding] = 1000 * np.random.default_rng(0).standard_normal((padding.sum(), 32))
    with model.compile(inputs=known_to).load(model.weights) as session:
        found, _ = session.run(inputs)
    np.testing.assert_allclose(found["logits"], model.plain["logits"], rtol=0, atol=2e-2)


@pytest.mark.parametrize("ring", [64, 56, 48])
def test_a_narrower_cap_costs_little(ring: int) -> None:
    model = models.student("bert", "2quad-freediv")
    program = model.compile(ring=ring)
    assert max(width.ring for width in program.plan.widths) <= ring
    with program.load(model.weights) as session:
        found, _ = session.run(model.inputs)
    np.testing.assert_allclose(found["logits"], model.plain["logits"], rtol=0, atol=5e-3)


@pytest.mark.parametrize("ring", [64, 40])
def test_a_party_whose_weights_are_on_a_gpu_answers_alike(monkeypatch: pytest.MonkeyPatch, ring: int) -> None:
    """On a machine without one its products run where torch is."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        monkeypatch.setattr(products, "_on_gpu", lambda widest: Cuda(widest, "cpu"))
    model = models.student("bert", "2quad-freediv")
    with model.compile(ring=ring, device="cuda").load(model.weights) as session:
        kept = [held.kernel for held in session.parties["owner"].weights.values() if isinstance(held, Multiplier)]
        found, _ = session.run(model.inputs)
    assert kept
    assert all(isinstance(kernel, Cuda) for kernel in kept)
    np.testing.assert_allclose(found["logits"], model.plain["logits"], rtol=0, atol=2e-2)
