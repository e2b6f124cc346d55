"""A checkpoint's weights: every tensor is read for what it is, or the model is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForPreTraining, BertForSequenceClassification

import mpcify
from mpcify.conversion.convert import convert, load_model
from mpcify.errors import MpcifyError
from tests.conversion.refusals import refusal


def change(folder, edit):
    """Edits the tensors of a folder in place."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    whole = {name: tensor.clone() for name, tensor in tensors.items()}
    (folder / "model.safetensors").unlink()
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    return folder


def rename(tensors, old, new):
    """Puts another name on every tensor whose name has `old` in it."""
    for name in list(tensors):
        tensors[name.replace(old, new)] = tensors.pop(name)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "vit"])
def test_layers_that_the_config_does_not_count_are_refused(family, checkpoint):
    folder = checkpoint(family, layers=3)
    values = json.loads((folder / "config.json").read_text())
    field = "n_layers" if family == "distilbert" else "num_hidden_layers"
    (folder / "config.json").write_text(json.dumps({**values, field: 2}))
    (finding,) = mpcify.check(folder)
    assert (finding.code, finding.kind, ".2." in finding.module) == ("MPC-206", "config", True)


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",
        "bert.encoder.layer.0.attention.self.query.lora_A.weight",
        "bert.encoder.layer.0.output.adapter.weight",
        "classifier2.weight",
        "bert.embeddings.LayerNorm.gamma",  # stands for the weight that is there too
        "embeddings.LayerNorm.weight",
    ],
)
def test_a_weight_that_nothing_reads_is_named(name, checkpoint):
    error = refusal(change(checkpoint("bert"), lambda tensors: tensors.update({name: torch.ones(32)})))
    twins = {name, "bert.embeddings.LayerNorm.weight"}
    assert (error.code, error.where in twins) == (206, True), error


def test_heads_of_pretraining_and_counters_are_left_unread(checkpoint):
    folder = checkpoint("bert")
    model = load_model(folder)
    head = BertForPreTraining(model.config)
    heads = {name: value for name, value in head.state_dict().items() if name.startswith("cls.")}
    extra = {"bert.embeddings.position_ids": torch.arange(40)}
    load_model(change(folder, lambda tensors: tensors.update(heads | extra)))


@pytest.mark.parametrize(
    "family, names",
    [
        ("roberta", ["lm_head.dense.weight", "roberta.pooler.dense.weight", "roberta.embeddings.token_type_ids"]),
        ("distilbert", ["vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.bias"]),
        ("electra", ["discriminator_predictions.dense.weight", "generator_lm_head.bias"]),
        ("vit", ["vit.pooler.dense.bias", "decoder.0.weight", "vit.embeddings.mask_token"]),
        ("mpnet", ["lm_head.dense.weight", "mpnet.pooler.dense.weight", "mpnet.embeddings.position_ids"]),
        ("albert", ["predictions.dense.weight", "sop_classifier.classifier.bias"]),
    ],
)
def test_so_are_those_of_other_families(family, names, checkpoint):
    folder = checkpoint(family)
    load_model(change(folder, lambda tensors: tensors.update({name: torch.ones(3) for name in names})))


def test_old_names_and_names_without_the_base_are_read(checkpoint):
    folder = checkpoint("bert")
    expected = load_model(folder).state_dict()

    def edit(tensors):
        rename(tensors, "LayerNorm.weight", "LayerNorm.gamma")
        rename(tensors, "LayerNorm.bias", "LayerNorm.beta")
        rename(tensors, "bert.", "")

    found = load_model(change(folder, edit)).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_plain_floats_are_refused(dtype, checkpoint):
    def edit(tensors):
        tensors["classifier.weight"] = (tensors["classifier.weight"] * 9).to(dtype)

    error = refusal(change(checkpoint("bert"), edit))
    assert (error.code, error.where) == (202, "classifier.weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(dtype, checkpoint):
    folder = change(checkpoint("bert"), lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items()}))
    assert {value.dtype for value in load_model(folder).parameters()} == {torch.float32}


def test_a_model_in_memory_that_holds_integers_is_refused(teacher):
    model = teacher("bert")
    model.classifier.weight.requires_grad_(False)
    model.classifier.weight.data = (model.classifier.weight.data * 9).to(torch.int8)
    with pytest.raises(MpcifyError, match=r"MPC-206 classifier\.weight"):
        convert(model, "exact")


def test_a_weight_of_another_shape_is_named(checkpoint):
    error = refusal(change(checkpoint("bert"), lambda tensors: tensors.update({"classifier.bias": torch.zeros(5)})))
    assert (error.code, error.where) == (202, "classifier.bias")


def test_a_weight_that_is_missing_is_named(checkpoint):
    error = refusal(change(checkpoint("bert"), lambda tensors: tensors.pop("bert.encoder.layer.1.output.dense.bias")))
    assert (error.code, "bert.encoder.layer.1.output.dense.bias" in error.what) == (202, True)


@pytest.mark.parametrize("recipe", ["2quad-freediv", "mpcformer"])
def test_the_weights_of_a_student_are_read_and_no_others(recipe, teacher, tmp_path):
    convert(teacher("bert"), recipe).save_pretrained(tmp_path / "student")
    mpcify.load(tmp_path / "student")
    change(tmp_path / "student", lambda tensors: tensors.update({"bert.encoder.layer.0.c": torch.ones(4)}))
    assert refusal(tmp_path / "student").where == "bert.encoder.layer.0.c"


def test_a_student_with_weights_that_are_not_finite_is_refused(teacher, tmp_path):
    convert(teacher("bert"), "2quad-freediv").save_pretrained(tmp_path / "student")
    name = "bert.encoder.layer.0.attention.self.c"
    error = refusal(change(tmp_path / "student", lambda tensors: tensors[name].fill_(float("inf"))))
    assert (error.code, error.where) == (205, name)


@pytest.fixture
def sharded(checkpoint):
    """The folder of a model in two shards."""
    folder = checkpoint("bert")
    model = BertForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


def test_shards_are_read_as_one(sharded):
    expected = BertForSequenceClassification.from_pretrained(sharded).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_model(sharded).state_dict().items())


def test_a_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refusal(sharded).what


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "pytorch_model.bin"])
def test_an_index_names_safetensors_beside_it_alone(name, sharded):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["classifier.bias"] = name
    path.write_text(json.dumps(index))
    assert refusal(sharded).code == 202


def test_a_weight_in_two_shards_is_refused(sharded):
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    second.write_bytes(first.read_bytes())
    assert "in another file too" in refusal(sharded).what


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 100_000],
    ids=lambda content: content[:24],
)
def test_a_broken_index_is_refused(content, sharded):
    (sharded / "model.safetensors.index.json").write_text(content)
    assert refusal(sharded).code == 202


def test_a_git_lfs_pointer_is_said_to_be_one(checkpoint):
    folder = checkpoint("bert")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refusal(folder).remedy


@pytest.mark.parametrize("kept", [0, 8, 1000, -1])
def test_a_file_that_is_cut_off_is_said_to_be(kept, checkpoint):
    folder = checkpoint("bert")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:kept])
    error = refusal(folder)
    assert (error.code, "cut off" in error.what) == (202, True)
