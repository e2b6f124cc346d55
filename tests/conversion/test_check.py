import pytest

import mpcify
from mpcify.errors import MpcifyError


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "vit"])
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


def test_a_family_that_no_test_covers_is_said_to_be(teacher):
    assert "albert" in [finding.module for finding in mpcify.check(teacher("albert"))]


def test_a_missing_model_is_an_error(tmp_path):
    with pytest.raises(MpcifyError, match="MPC-201"):
        mpcify.check(tmp_path / "nowhere")
