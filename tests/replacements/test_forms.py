"""A new attention form is one row, and one formula a half of the house if its power is new; nothing else knows it."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import mpcify
from mpcify.conversion.convert import convert, extra_parameters, load
from mpcify.lowering import attention as graphs
from mpcify.recipe import Recipe
from mpcify.replacements import attention as formulas
from mpcify.replacements.activation import FUNCTIONS
from mpcify.replacements.forms import ACTIVATIONS, FORMS, RELU, SQUARE, Form, Power

RELU_SQUARE = Power("relu-square", squarings=1)
NEW = [
    Form("2quad-3", SQUARE, shift=3.0),
    Form("2quad-floored", SQUARE, shift=2.0, floor=0.5),
    Form("quad-freediv", SQUARE, first_gamma=0.5),
    Form("relu-quad-freediv", RELU_SQUARE, first_gamma=1.5),
    Form("2relu-quad", RELU_SQUARE, floor=2.0**-6, centre_keys=True),
    Form("relu-half-freediv", RELU, first_gamma=0.5),
]
TEXTS = ["the film is not very good", "dull but good", "a"]


@pytest.fixture(params=NEW, ids=lambda form: form.name)
def form(request, monkeypatch):
    """A form that no code has heard of, and the formulas of (ReLU(S))²."""
    monkeypatch.setitem(FORMS, request.param.name, request.param)
    monkeypatch.setitem(formulas.WEIGHTS, "relu-square", lambda scores, c, t: scores.relu() ** 2)
    monkeypatch.setitem(
        graphs.WEIGHTS,
        "relu-square",
        lambda attention, scores: graphs.squared(attention, graphs.relu(attention, scores)),
    )
    return request.param


def test_a_new_form_converts_is_saved_and_runs_as_transformers_runs_it(form, checkpoint, tmp_path):
    folder = checkpoint("bert")
    recipe = Recipe.from_json({"attention": form.name, "activation": "quad"})
    assert recipe.centre_keys == form.centre_keys
    student = convert(folder, recipe)
    torch.manual_seed(0)
    for name, parameter in extra_parameters(student).items():
        first = form.shift if name.endswith(".c") else np.log(form.first_gamma)
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, first))
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert any(name.endswith(".c") for name in extra_parameters(student)) == (form.shift is not None)
    assert any(name.endswith(".log_gamma") for name in extra_parameters(student)) == (not form.divides)
    student.save_pretrained(tmp_path / "student")
    loaded, tokens = load(tmp_path / "student"), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = [loaded(**tokens(text, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    with mpcify.compile(tmp_path / "student", engine="plain") as private:
        logits, _ = private(TEXTS)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_new_form_runs_on_images_whose_share_of_a_key_is_public(form, checkpoint, tmp_path):
    folder = checkpoint("vit")
    student = convert(folder, Recipe(form.name, "quad", centre_keys=form.centre_keys))
    student.save_pretrained(tmp_path / "student")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8, 8), np.uint8) for _ in range(2)]
    with mpcify.compile(tmp_path / "student", engine="plain") as private:
        logits, _ = private([image_of(pixels) for pixels in images])
    pixels = torch.tensor(np.stack(images)[:, None] / 255 / 0.5 - 1, dtype=torch.float32)
    with torch.no_grad():
        expected = student.eval()(pixel_values=pixels).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def image_of(pixels):
    from PIL import Image

    return Image.fromarray(pixels)


def test_every_form_and_activation_has_its_formulas():
    powers = {form.power.name for form in FORMS.values()}
    assert set(graphs.WEIGHTS) == powers
    assert set(formulas.WEIGHTS) == powers - {"exponential"}  # softmax is torch's own
    assert tuple(FUNCTIONS) == ACTIVATIONS
    assert all(form.name == name for name, form in FORMS.items())


def test_the_forms_are_those_of_the_design():
    rows = {
        name: (f.power.name, f.shift, f.divides, f.first_gamma, f.floor, f.centre_keys, f.exact)
        for name, f in FORMS.items()
    }
    assert rows == {
        "softmax": ("exponential", None, True, None, 0.0, False, True),
        "2quad": ("square", 5.0, True, None, 0.0, False, False),
        "2relu": ("relu", None, True, None, 2.0**-10, False, False),
        "2quad-freediv": ("square", 5.0, False, 1 / 26, 0.0, True, False),
        "softmax-freediv": ("exp_t", None, False, 1.0, 0.0, True, False),
        "relu-freediv": ("relu", None, False, 2.5, 0.0, False, False),
    }
    degrees = {name: (f.power.degree(6), f.power.divisor(6), f.power.steep) for name, f in FORMS.items()}
    assert degrees["softmax-freediv"] == (64, 64, True)
    assert degrees["2quad-freediv"] == (2, 1, False)
    assert degrees["relu-freediv"] == (1, 1, False)
