"""What a student's config.json says is typed and strict, and its declared ranges are those of its weights alone."""

import json

import pytest
import torch

import mpcify
from mpcify.conversion.convert import convert, extra_parameters, load
from mpcify.conversion.facts import weights_digest
from mpcify.conversion.student import (
    Base,
    StudentConfig,
    encoder_layers,
    ranges_of,
    recipe_name,
    recipe_of,
    set_ranges,
    settings_digest,
    student_config,
    update_config,
)
from mpcify.errors import MpcifyError
from mpcify.recipe import Recipe, read_recipe
from mpcify.replacements.modules import Activation

RANGES = {"logits": {"value": (-4.0, 8.0)}}


@pytest.fixture
def student(teacher):
    return convert(teacher("bert"), "softmax-freediv")


def test_a_config_is_its_json_and_back(student):
    config = student_config(student)
    assert config.recipe == recipe_of(student) == read_recipe("softmax-freediv")
    assert config.layers == encoder_layers(student)
    assert (config.calibrated, config.refit, config.base) == (False, None, None)
    assert (config.ranges, config.weights_sha256) == ({}, None)
    assert config.to_json() == student.config.mpcify
    assert not {"ranges", "taught"} & config.to_json().keys(), "as a student that has none was always written"
    update_config(student, base=Base("base", "0" * 64), calibrated=True, refit=False, taught={128: 3, 16: 40})
    set_ranges(student, RANGES)
    values = json.loads(json.dumps(student.config.mpcify))
    assert StudentConfig.from_json(values) == student_config(student)
    assert StudentConfig.from_json(values).to_json() == values
    assert values["weights_sha256"] == weights_digest(student)
    assert values["settings_sha256"] == settings_digest(student)
    assert list(values["taught"].items()) == [("16", 40), ("128", 3)]


@pytest.mark.parametrize(
    "own, activation, name",
    [
        ("gelu", "own", "exact"),
        ("gelu", "gelu", "exact"),
        ("gelu", "relu", "softmax+relu"),
        ("gelu", "gelu-tanh", "exact-tanh"),
        ("relu", "own", "exact"),
        ("relu", "gelu", "softmax+gelu"),
        ("gelu_new", "own", "exact"),
        ("silu", "gelu", "softmax+gelu"),
    ],
)
@pytest.mark.filterwarnings("ignore::mpcify.errors.MpcifyWarning")
def test_a_student_is_named_exact_if_its_functions_are_its_teachers_own(teacher, own, activation, name):
    model = teacher("bert", hidden_act=own)
    assert recipe_name(model) == "exact"
    student = convert(model, Recipe("softmax", activation))
    assert recipe_name(student) == student_config(student).recipe_name == name


@pytest.mark.parametrize(
    "own, recipe, found",
    [
        ("gelu", "puma", False),
        ("gelu_new", "puma", False),
        ("gelu", "exact-tanh", False),
        ("relu", "exact", False),
        ("relu", "puma", True),
        ("silu", "exact-tanh", True),
        ("gelu", Recipe("softmax", ("gelu", "relu")), True),
    ],
)
@pytest.mark.filterwarnings("ignore::mpcify.errors.MpcifyWarning")
def test_an_activation_of_another_family_than_the_teachers_asks_for_calibration(teacher, own, recipe, found):
    assert student_config(convert(teacher("bert", hidden_act=own), recipe)).approximates is found


@pytest.mark.parametrize(
    "change, code, word",
    [
        ({"colour": 1}, 202, "colour"),
        ({"version": 2}, 302, "version"),
        ({"attention": "hardmax"}, 302, "attention"),
        ({"own_activation": None}, 202, "own_activation"),
        ({"calibrated": "yes"}, 202, "calibrated"),
        ({"refit": 1}, 202, "refit"),
        ({"weights_sha256": 7}, 202, "weights_sha256"),
        ({"settings_sha256": 7}, 202, "settings_sha256"),
        ({"base": {"name": "base"}}, 202, "base"),
        ({"base": ["base"]}, 202, "base"),
        ({"taught": None}, 202, "taught"),
        ({"taught": [16, 24]}, 202, "taught"),
        ({"taught": {"17": 5}}, 202, "taught"),
        ({"taught": {"016": 5}}, 202, "taught"),
        ({"taught": {"16": 0}}, 202, "taught"),
        ({"taught": {"16": 5.0}}, 202, "taught"),
        ({"taught": {"16": True}}, 202, "taught"),
        ({"taught": {"16": "5"}}, 202, "taught"),
        ({"layers": None}, 202, "layers"),
        ({"layers": [{"layer": "a"}]}, 202, "layers"),
        ({"layers": ["a"]}, 202, "layers"),
    ],
    ids=str,
)
def test_a_field_that_is_unknown_or_wrong_is_refused(student, change, code, word, tmp_path):
    with pytest.raises(MpcifyError, match=f"MPC-{code} .*{word}"):
        StudentConfig.from_json({**student.config.mpcify, **change})
    student.save_pretrained(tmp_path / "student")
    path = tmp_path / "student" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "mpcify": {**values["mpcify"], **change}}))
    with pytest.raises(MpcifyError, match=f"MPC-{code}"):
        load(tmp_path / "student")


@pytest.mark.parametrize("values", [[], "softmax", 3])
def test_anything_but_an_object_is_refused(values):
    with pytest.raises(MpcifyError, match="MPC-202"):
        StudentConfig.from_json(values)


def test_a_model_that_is_no_student_has_no_config(teacher):
    with pytest.raises(MpcifyError, match="MPC-207"):
        student_config(teacher("bert"))
    assert recipe_of(teacher("bert")) == read_recipe("exact")


def any_weight(student):
    return student.bert.encoder.layer[1].output.dense.weight


def log_gamma(student):
    return next(iter(extra_parameters(student).values()))


@pytest.mark.parametrize("weight", [any_weight, log_gamma])
def test_a_student_whose_weights_change_has_lost_its_ranges(student, weight, tmp_path):
    set_ranges(student, RANGES)
    assert ranges_of(student) == RANGES
    parameter = weight(student)
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.view(-1)[0].nextafter_(torch.tensor(10.0))  # the least change that there is
    assert ranges_of(student) == {}
    student.save_pretrained(tmp_path / "changed")  # by any code: what stands in config.json does not count
    assert ranges_of(load(tmp_path / "changed")) == {}
    with torch.no_grad():
        parameter.copy_(before)
    assert ranges_of(student) == RANGES
    student.save_pretrained(tmp_path / "student")
    assert ranges_of(load(tmp_path / "student")) == RANGES


def eps(student):
    student.bert.encoder.layer[1].output.LayerNorm.eps = 1.0


def centres(student):
    student.bert.encoder.layer[0].attention.self.mpcify_centre_keys = False


def activation(student):
    student.bert.encoder.layer[0].intermediate.intermediate_act_fn = Activation("relu")


@pytest.mark.parametrize("change", [eps, centres, activation])
def test_a_student_whose_settings_change_has_lost_its_ranges(student, change):
    set_ranges(student, RANGES)
    change(student)
    assert ranges_of(student) == {}


def test_settings_that_are_changed_in_config_json_lose_them_too(student, tmp_path):
    set_ranges(student, RANGES)
    student.save_pretrained(tmp_path / "student")
    path = tmp_path / "student" / "config.json"
    before = json.loads(path.read_text())
    for changed in ({"layer_norm_eps": 1.0}, {"mpcify": {**before["mpcify"], "t": 3}}):
        path.write_text(json.dumps({**before, **changed}))
        assert ranges_of(load(tmp_path / "student")) == {}
    path.write_text(json.dumps(before))
    assert ranges_of(load(tmp_path / "student")) == RANGES


def test_training_by_a_loop_of_the_users_own_loses_them_and_engines_say_so(checkpoint, declare, tmp_path):
    folder = checkpoint("bert")
    student = convert(folder, "2quad-freediv")
    declare(student, folder, ["the film is good", "a very dull film"])
    student.save_pretrained(tmp_path / "declared")
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    student(input_ids=torch.tensor([[2, 4, 5, 3]]), labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    student.save_pretrained(tmp_path / "trained")
    options = {"engine": "spu", "accept_embedding_leak": True, "length": 16}
    with mpcify.compile(tmp_path / "declared", **options) as private:
        assert private.exported.declared
    with mpcify.compile(tmp_path / "trained", **options) as private, pytest.raises(MpcifyError, match="MPC-406"):
        private(["the film is good"])


def test_ranges_without_a_digest_are_those_of_the_weights_that_they_are_loaded_with(student, tmp_path):
    student.config.mpcify["ranges"] = {"logits": {"value": [-4, 8]}}
    student.save_pretrained(tmp_path / "student")
    assert "weights_sha256" not in json.loads((tmp_path / "student" / "config.json").read_text())["mpcify"]
    loaded = load(tmp_path / "student")
    assert ranges_of(loaded) == RANGES
    loaded.classifier.bias.data += 1
    assert ranges_of(loaded) == {}


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "mpnet", "albert", "vit"])
def test_the_digest_is_the_same_after_saving_and_loading(family, teacher, tmp_path):
    student = convert(teacher(family), "2quad-freediv")
    set_ranges(student, RANGES)
    student.save_pretrained(tmp_path / "student")
    assert ranges_of(load(tmp_path / "student")) == RANGES


def test_another_recipe_declares_nothing_and_was_taught_nothing(student):
    set_ranges(student, RANGES)
    update_config(student, taught={16: 40})
    other = convert(student, "2quad-freediv")
    assert ranges_of(other) == {}
    assert student_config(other).taught == {}


@pytest.mark.parametrize(
    "recipe, taught, enough",
    [
        ("2quad-freediv", {}, None),
        ("2quad-freediv", {16: 5, 24: 3}, (16, 24)),
        ("2quad-freediv", {16: 995, 24: 9, 32: 10}, (16,)),
        ("2quad-freediv", {16: 900, 24: 9, 32: 10}, (16, 32)),
        ("2quad-freediv", {16: 60_000, 24: 20, 32: 19}, (16, 24)),
        ("mpcformer", {16: 60_000, 24: 19}, (16,)),
        ("puma", {16: 60_000}, None),
        ("exact", {16: 60_000}, None),
    ],
)
def test_a_bucket_is_taught_enough_by_20_texts_or_by_one_in_a_hundred(teacher, recipe, taught, enough):
    """A recipe that is as exact as its teacher, or nearly, has nothing to be taught."""
    student = convert(teacher("bert"), recipe)
    update_config(student, taught=taught)
    assert student_config(student).taught_enough == enough
