import json

import pytest

from mpcify.errors import MpcifyError
from mpcify.recipe import RECIPES, Recipe, read_recipe


def test_every_named_recipe_is_found_by_its_name():
    for name, recipe in RECIPES.items():
        assert read_recipe(name) == recipe
        assert recipe.name == name


def test_keys_are_centred_where_no_row_sum_makes_up_for_their_mean():
    assert [name for name, recipe in RECIPES.items() if recipe.centre_keys] == ["2quad-freediv", "softmax-freediv"]
    assert Recipe.from_json({"attention": "softmax-freediv", "activation": "quad"}).centre_keys
    assert Recipe.from_json({"attention": "2quad-freediv", "activation": "quad"}).centre_keys
    assert not Recipe.from_json({"attention": "2quad", "activation": "quad"}).centre_keys


def test_a_recipe_survives_its_json():
    recipe = Recipe(("softmax", "2quad-freediv"), ("gelu-poly", "quad"), centre_keys=True, t=5)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.attention_of(1) == "2quad-freediv"
    assert recipe.activation_of(0) == "gelu-poly"
    assert recipe.name == "mixed+mixed"


def test_a_recipe_file_is_read(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"version": 1, "attention": "relu-freediv", "activation": "relu"}')
    assert read_recipe(path) == Recipe("relu-freediv", "relu")


@pytest.mark.parametrize(
    "content, code",
    [
        ("not json", 302),
        ("[]", 302),
        ('{"attention": "softmax"}', 302),
        ('{"attention": "softmax", "activation": "quad", "colour": 1}', 302),
        ('{"attention": "softplus", "activation": "quad"}', 302),
        ('{"attention": [], "activation": "quad"}', 302),
        ('{"attention": "softmax", "activation": "quad", "t": 0}', 302),
        ('{"attention": "softmax", "activation": "quad", "t": true}', 302),
        ('{"attention": "softmax", "activation": "quad", "centre_keys": 1}', 302),
        ('{"attention": "softmax", "activation": "quad", "version": 2}', 302),
    ],
)
def test_a_wrong_recipe_file_is_refused(tmp_path, content, code):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(MpcifyError) as raised:
        read_recipe(path)
    assert raised.value.code == code


@pytest.mark.parametrize("name", ["2quadd", "nowhere.json"])
def test_an_unknown_recipe_is_refused(name):
    with pytest.raises(MpcifyError, match="MPC-301"):
        read_recipe(name)


def test_a_list_must_name_every_layer():
    with pytest.raises(MpcifyError, match=r"MPC-303 .*names 2 layers, the model has 3"):
        Recipe("softmax", ("quad", "quad")).check_layers(3)


def test_a_list_with_softmax_freediv_centres_keys_too():
    values = {"attention": ["softmax", "softmax-freediv"], "activation": "quad"}
    assert Recipe.from_json(values).centre_keys
    assert not Recipe.from_json({**values, "centre_keys": False}).centre_keys
