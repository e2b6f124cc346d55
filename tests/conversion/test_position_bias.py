"""MPNet's attention calls ours, with its bias; the teacher's own stays what it was."""

from typing import Any

import pytest
import torch
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from mpcify.conversion.blocks import find_blocks
from mpcify.conversion.calibrate import enter
from mpcify.conversion.convert import convert
from mpcify.conversion.position_bias import bias_by_distance, position_bias, spread
from mpcify.conversion.student import encoder_layers
from mpcify.errors import MpcifyError
from mpcify.recipe import Recipe
from tests.makers import make_teacher

LONGEST = 38  # of 40 positions
IDS = torch.randint(4, 15, (2, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])


@pytest.fixture
def model() -> Any:
    return make_teacher("mpnet", relative_attention_num_buckets=32)


def test_raw_scores_hold_the_bias(model: Any) -> None:
    student = convert(model, Recipe("2quad-freediv", "quad"))
    with torch.no_grad():
        outputs = student(IDS, attention_mask=MASK, output_attentions=True, output_hidden_states=True)
        entering = outputs.hidden_states[:-1]
        for site, hidden, scores in zip(encoder_layers(student), entering, outputs.attentions, strict=True):
            attention = student.get_submodule(site.attention)
            q, k = (linear(hidden).view(2, 9, 4, 8).transpose(1, 2) for linear in (attention.q, attention.k))
            bias = model.mpnet.encoder.compute_position_bias(hidden)
            assert bias.abs().max() > 0.1
            torch.testing.assert_close(scores, q @ k.transpose(2, 3) / 8**0.5 + bias)


def test_exact_scores_are_the_teachers_before_softmax(model: Any) -> None:
    with torch.no_grad():
        theirs = model(IDS, attention_mask=MASK, output_attentions=True).attentions
        ours = convert(model, "exact")(IDS, attention_mask=MASK, output_attentions=True).attentions
    for mine, his in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.masked_fill(MASK[:, None, None] == 0, -torch.inf).softmax(-1), his)


def test_a_head_mask_is_nothing_to_the_model_and_refused_by_its_attention(model: Any) -> None:
    """transformers 5 has none: it ignores the argument, in teacher and student alike."""
    student = convert(model, "exact")
    with torch.no_grad():
        for one in (model, student):
            assert torch.equal(one(IDS, head_mask=torch.zeros(2, 4)).logits, one(IDS).logits)
        with pytest.raises(MpcifyError, match=r"MPC-203 .*head_mask"):
            student.mpnet.encoder.layer[0].attention.attn(torch.randn(1, 4, 32), None, None, head_mask=torch.zeros(4))


def test_the_teachers_attention_stays_its_own(model: Any) -> None:
    student = convert(model, "exact")
    for site in encoder_layers(student):
        assert type(model.get_submodule(site.attention)) is MPNetSelfAttention
        mine = type(student.get_submodule(site.attention))
        assert (mine.__name__, mine.__mro__[1]) == ("MPNetSelfAttention", MPNetSelfAttention)


def test_all_layers_train_one_bias(model: Any) -> None:
    student = convert(model, "softmax-freediv")
    student(IDS, attention_mask=MASK).logits.sum().backward()
    assert student.mpnet.encoder.relative_attention_bias.weight.grad.abs().max() > 0
    assert sum("relative_attention_bias" in name for name, _ in student.named_parameters()) == 1


@pytest.mark.parametrize("length", [1, 2, 9, LONGEST])
def test_one_number_a_distance_gives_the_bias_of_every_length(length: int, model: Any) -> None:
    found, whole = bias_by_distance(model), position_bias(model, length)
    assert found is not None
    assert whole is not None
    assert found.shape == (4, 2 * LONGEST - 1)
    assert torch.equal(spread(found, length), whole)
    assert torch.equal(whole, model.mpnet.encoder.compute_position_bias(torch.zeros(1, length, 32))[0])


def test_a_bias_that_depends_on_more_than_the_distance_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.randn(1, 4, LONGEST, LONGEST)
    monkeypatch.setattr(type(model.mpnet.encoder), "compute_position_bias", lambda *_: whole)
    with pytest.raises(MpcifyError, match="MPC-204"):
        bias_by_distance(model)


def test_other_families_have_none() -> None:
    bert = make_teacher("bert")
    assert position_bias(bert, 9) is None
    assert bias_by_distance(bert) is None


def test_calibration_keeps_a_batchs_bias_once(model: Any) -> None:
    """It is as large as the scores of the whole batch, and the same for every text."""
    student = convert(model, "2quad-freediv")
    (state,) = enter(student, [{"input_ids": IDS, "attention_mask": MASK}], find_blocks(student)[0])
    mask, bias = state.args
    assert (tuple(mask.shape), tuple(bias.shape)) == ((2, 1, 1, 9), (2, 4, 9, 9))
    assert bias.untyped_storage().nbytes() == 4 * 4 * 9 * 9
