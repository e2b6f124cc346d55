"""config.json: every field that decides what a model computes is judged, and the others change nothing."""

import json
from pathlib import Path

import pytest
import torch

import mpcify
from mpcify.conversion.check import identify
from mpcify.conversion.config import read_config
from mpcify.conversion.convert import convert, load_model
from mpcify.conversion.survey import export_program, prove
from mpcify.errors import MpcifyError
from tests.conversion.refusals import refusal

GONE = "this field is removed"


def edit(folder: Path, **fields) -> Path:
    """Changes fields of a folder's config.json."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in values.items() if value != GONE}))
    return folder


@pytest.mark.parametrize(
    "field, value",
    [
        ("layer_norm_eps", 0),
        ("layer_norm_eps", -1.0),
        ("layer_norm_eps", float("nan")),
        ("vocab_size", 15.0),
        ("vocab_size", True),
        ("hidden_dropout_prob", "0.1"),
        ("hidden_dropout_prob", 1.5),
        ("attention_probs_dropout_prob", -0.1),
        ("num_hidden_layers", "2"),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("intermediate_size", -64),
        ("max_position_embeddings", None),
        ("type_vocab_size", 0),
        ("pad_token_id", 15),
        ("pad_token_id", -1),
        ("hidden_act", "swish42"),
        ("hidden_act", "mpcify-quad"),
        ("is_decoder", "no"),
        ("problem_type", "guess"),
        ("architectures", "BertForSequenceClassification"),
        ("architectures", [3]),
        ("num_labels", "3"),
        ("num_labels", -1),
        ("architectures", GONE),
        ("architectures", []),
        ("model_type", ["bert"]),
        ("model_type", "brt"),
        ("model_type", GONE),
        ("transformers_weights", "adapter_model.bin"),
        ("quantization_config", {"load_in_8bit": True}),
        ("pruned_heads", {"0": [1]}),
    ],
)
def test_a_field_that_no_model_can_have_is_named(field, value, checkpoint):
    error = refusal(edit(checkpoint("bert"), **{field: value}))
    assert (error.code, field in error.what) == (202, True), error


@pytest.mark.parametrize(
    "family, field, value",
    [
        ("distilbert", "n_heads", 5),
        ("distilbert", "activation", "gelo"),
        ("vit", "patch_size", 0),
        ("vit", "qkv_bias", 1),
    ],
)
def test_so_it_is_in_other_families(family, field, value, checkpoint):
    error = refusal(edit(checkpoint(family), **{field: value}))
    assert error.code == 202
    assert field in error.what or (field, "num_attention_heads" in error.what) == ("n_heads", True)


@pytest.mark.parametrize(
    "names",
    [
        {"1": "a", "2": "b", "3": "c"},
        {"0": "a", "1": "b", "3": "c"},
        {"0": "a", "1": "b", "2": "a"},
        {"0": "a", "1": "b", "2": 3},
        {"0": "a", "1": "b", "2": None},
        {"x": "a", "y": "b", "z": "c"},
        ["a", "b", "c"],
        "abc",
        {},
    ],
    ids=str,
)
def test_each_class_from_0_has_a_name_of_its_own(names, checkpoint):
    error = refusal(edit(checkpoint("bert"), id2label=names))
    assert (error.code, "id2label" in error.what) == (202, True)


def test_so_it_is_in_memory(teacher):
    model = teacher("bert")
    model.config.id2label = {0: "a", 1: "b", 2: "a"}
    for verb in (mpcify.check, lambda model: convert(model, "exact")):
        with pytest.raises(MpcifyError, match=r"MPC-202 .*id2label"):
            verb(model)


# How a model is run, not what it computes.
RUNNING = [
    {"gradient_checkpointing": True},
    {"return_dict": False},
    {"use_return_dict": False},
    {"output_attentions": True},
    {"output_hidden_states": True},
    {"use_cache": False},
    {"torchscript": True},
    {"chunk_size_feed_forward": 3},
    {"attn_implementation": "flash_attention_2"},
    {"_attn_implementation": "flash_attention_2"},
    {"fusion_config": {"patch_embeddings": True}},
    {"torch_dtype": "float16"},
    {"dtype": "no type"},
    {"pruned_heads": {}, "quantization_config": None, "position_embedding_type": "absolute"},
]


IDS = torch.tensor([[2, 4, 5, 6, 3]])


@pytest.mark.parametrize("fields", RUNNING, ids=lambda fields: next(iter(fields)))
def test_what_only_says_how_a_model_is_run_changes_nothing(fields, checkpoint):
    folder = checkpoint("bert")
    expected = load_model(folder)(IDS).logits
    model = load_model(edit(folder, **fields))
    assert torch.equal(model(IDS).logits, expected)
    assert not any(finding.blocks for finding in mpcify.check(model))


def test_nor_does_it_in_a_student(checkpoint, tmp_path):
    folder, every = checkpoint("bert"), {name: value for fields in RUNNING for name, value in fields.items()}
    expected = load_model(folder)(IDS).logits
    convert(edit(folder, **every), "exact").save_pretrained(tmp_path / "student")
    student = mpcify.load(edit(tmp_path / "student", **every))
    torch.testing.assert_close(student(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_nor_does_it_in_memory(teacher):
    model = teacher("bert")
    model.config.return_dict, model.config.output_hidden_states = False, True
    model.gradient_checkpointing_enable()
    student = convert(model, "exact")
    assert student(IDS).hidden_states is None
    student.config.return_dict = False
    prove(export_program(student, 1, 8), student)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query", "alibi"])
def test_positions_that_transformers_no_longer_computes_are_refused(kind, checkpoint, teacher):
    error = refusal(edit(checkpoint("bert"), position_embedding_type=kind))
    assert (error.code, kind in error.what) == (203, True)
    assert mpcify.check(teacher("bert", position_embedding_type=kind))[0].code == "MPC-203"


def test_layers_with_configs_of_their_own_are_refused(checkpoint):
    assert refusal(edit(checkpoint("bert"), per_layer_config={"0": {"intermediate_size": 32}})).code == 203


@pytest.mark.parametrize("name", ["RobertaForSequenceClassification", "ViTForImageClassification"])
def test_an_architecture_of_another_family_is_refused(name, checkpoint):
    error = refusal(edit(checkpoint("bert"), architectures=[name]))
    assert (error.code, name in error.what) == (202, True)


@pytest.mark.parametrize("name", ["AutoModelForSequenceClassification", "MyForSequenceClassification"])
def test_a_class_that_transformers_does_not_have_is_refused(name, checkpoint):
    (finding,) = mpcify.check(edit(checkpoint("bert"), architectures=[name]))
    assert (finding.code, finding.kind, name in finding.what) == ("MPC-203", "never", True)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"", b"\xff\xfe", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_config_that_is_no_json_object_is_refused(content, checkpoint):
    folder = checkpoint("bert")
    (folder / "config.json").write_bytes(content)
    error = refusal(folder)
    assert (error.code, "config.json" in error.what) == (202, True)


def test_an_adapter_is_to_be_merged(checkpoint):
    folder = checkpoint("bert")
    (folder / "adapter_config.json").write_text("{}")
    assert "merge_and_unload" in refusal(folder).remedy
    (folder / "config.json").unlink()
    assert "merge_and_unload" in refusal(folder).remedy


def test_the_models_own_code_is_never_run(checkpoint):
    folder = checkpoint("bert")
    for name in ("AutoConfig", "AutoModelForSequenceClassification"):
        (finding,) = mpcify.check(edit(folder, auto_map={name: "code.Class"}))
        assert (finding.code, finding.kind) == ("MPC-203", "never")
    load_model(edit(folder, auto_map={"AutoTokenizer": ["code.Class", None]}))  # a tokenizer is read elsewhere


def test_the_config_is_named_after_its_source(checkpoint):
    folder = checkpoint("bert")
    assert read_config(folder).name_or_path == str(folder)
    assert load_model(folder).name_or_path == str(folder)


def test_family_and_task_are_read_from_the_config_alone(checkpoint):
    folder = checkpoint("bert", labels=1)
    (folder / "model.safetensors").unlink()
    assert identify(folder) == ("bert", "regression")
    assert identify(edit(folder, architectures=["BertModel"])) == ("bert", None)
    assert identify(edit(folder, vocab_size="many")) == ("bert", None)
