import json

import pytest
import transformers

import mpcify
from mpcify.conversion.convert import load_model
from mpcify.errors import MpcifyError


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "vit"])
def test_every_layer_is_found_and_nothing_blocks(family, teacher):
    findings = mpcify.check(teacher(family))
    assert not any(finding.blocks for finding in findings)
    replaced = [finding for finding in findings if finding.kind == "replace"]
    assert [finding.code for finding in replaced] == ["attention", "activation"] * 2


@pytest.mark.parametrize(
    "family, module, function",
    [
        ("bert", "bert.pooler.activation", "tanh"),
        ("roberta", "classifier", "tanh"),
        ("electra", "classifier", "gelu"),
        ("mpnet", "classifier", "tanh"),
        ("distilbert", "", "relu"),
    ],
)
def test_functions_of_the_head_are_listed_as_kept(family, module, function, teacher):
    (finding,) = [finding for finding in mpcify.check(teacher(family)) if finding.kind == "keep"]
    assert finding.module.startswith(module)
    assert finding.what.startswith(function)


def test_a_blocker_is_a_finding_with_a_remedy(teacher):
    model = teacher("bert")
    model.classifier.bias.data[0] = float("inf")
    (finding,) = mpcify.check(model)
    assert (finding.code, finding.module, finding.kind, finding.blocks) == (
        "MPC-205",
        "classifier.bias",
        "config",
        True,
    )
    assert finding.remedy


def kind_of(folder, **fields):
    """The code, kind and remedy of the one finding that blocks a checkpoint whose config.json is changed."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    (finding,) = mpcify.check(folder)
    return finding.code, finding.kind, finding.remedy


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "vit", "albert"])
@pytest.mark.parametrize("suffix", ["Model", "ForMaskedLM", "ForPreTraining"])
def test_a_model_without_a_head_is_to_be_fine_tuned(family, suffix, checkpoint):
    kind = type(load_model(folder := checkpoint(family))).__name__
    name = kind.replace("ForSequenceClassification", suffix).replace("ForImageClassification", suffix)
    if family == "vit" and suffix != "Model":
        name = "ViTForMaskedImageModeling"
    if not hasattr(transformers, name):
        pytest.skip("transformers has no such class")
    code, how, remedy = kind_of(folder, architectures=[name])
    assert (code, how, f"as {kind}" in remedy) == ("MPC-203", "config", True)


@pytest.mark.parametrize("name", ["DebertaV2ForMaskedLM", "DebertaV2Model", "DebertaV2ForTokenClassification"])
def test_the_family_decides_before_the_task(name, checkpoint):
    code, kind, remedy = kind_of(checkpoint("bert"), architectures=[name], model_type="deberta-v2")
    assert (code, kind, "fine-tune" in remedy) == ("MPC-203", "not-yet", False)


def test_so_does_the_trace_of_a_family_that_is_in_no_table(checkpoint, monkeypatch):
    monkeypatch.setattr("mpcify.conversion.convert.REFUSED", {})
    code, kind, remedy = kind_of(checkpoint("bert"), architectures=["DebertaV2ForMaskedLM"], model_type="deberta-v2")
    assert (code, kind, "fine-tune" in remedy) == ("MPC-203", "not-yet", False)


@pytest.mark.parametrize("name", ["BertForTokenClassification", "BertForQuestionAnswering", "BertForMultipleChoice"])
def test_another_task_is_not_supported_yet(name, checkpoint):
    assert kind_of(checkpoint("bert"), architectures=[name])[:2] == ("MPC-203", "not-yet")


def test_every_family_is_proven_by_its_graph(teacher, monkeypatch):
    assert not any(finding.blocks for finding in mpcify.check(teacher("albert")))

    def refuse(student, source):
        raise MpcifyError(401, "layer", "the model calls aten.other", "use another family")

    monkeypatch.setattr("mpcify.lowering.check.prove_equal", refuse)
    for family in ("albert", "bert"):
        blocking = [(finding.code, finding.kind) for finding in mpcify.check(teacher(family)) if finding.blocks]
        assert blocking == [("MPC-401", "not-yet")]


def test_a_family_that_no_test_covers_is_said_to_be(teacher):
    assert "albert" in [finding.module for finding in mpcify.check(teacher("albert"))]


def test_a_missing_model_is_an_error(tmp_path):
    with pytest.raises(MpcifyError, match="MPC-201"):
        mpcify.check(tmp_path / "nowhere")
