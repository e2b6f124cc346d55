"""Calibration brings a student near its teacher before any training, in every family, and leaves the teacher alone."""

import copy
import re

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.blocks import find_blocks
from mpcify.conversion.calibrate import calibrate_layers as calibrate
from mpcify.conversion.convert import convert
from mpcify.conversion.student import ranges_of, set_ranges
from mpcify.errors import MpcifyError
from mpcify.recipe import Recipe
from tests.conversion.teachers import FAMILIES, make, make_batches
from tests.makers import make_model


@torch.no_grad()
def hidden_loss(student: PreTrainedModel, teacher: PreTrainedModel, batches: list[dict[str, Tensor]]) -> float:
    """The sum over layers of MSE ÷ variance over real tokens."""
    losses = []
    for batch in batches:
        ours, theirs = (model(**batch, output_hidden_states=True).hidden_states[1:] for model in (student, teacher))
        real = batch.get("attention_mask", torch.ones(ours[0].shape[:2])) > 0
        losses.append(sum(((s[real] - t[real]) ** 2).mean() / t[real].var() for s, t in zip(ours, theirs, strict=True)))
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_refit_brings_every_family_near_its_teacher(family: str, recipe: str) -> None:
    teacher = make(family)
    student = convert(teacher, recipe)
    batches = make_batches(student)
    before = hidden_loss(student, teacher, batches)
    calibrate(student, batches[:2])
    gamma_alone = hidden_loss(student, teacher, batches)
    student.config.mpcify["calibrated"] = False
    calibrate(student, batches[:3], teacher)
    assert hidden_loss(student, teacher, batches[3:]) < 0.2 * min(before, gamma_alone)  # on texts it has not seen
    assert student.config.mpcify["calibrated"] is True


def test_calibration_without_a_teacher_says_that_nothing_was_refitted() -> None:
    student = convert(make(), "2quad-freediv")
    weights = {name: value.clone() for name, value in student.named_parameters()}
    calibrate(student, make_batches(student))
    changed = {name for name, value in student.named_parameters() if not torch.equal(value, weights[name])}
    assert changed == {f"bert.encoder.layer.{layer}.attention.self.log_gamma" for layer in range(2)}
    assert student.config.mpcify["refit"] is False


def test_gamma_is_one_over_the_mean_row_sum_by_hand() -> None:
    """One layer, W_Q = 0 and no biases: every score is 0, so each row sums to Σ c² and γ = 1/c²."""
    teacher = make()
    for layer in teacher.bert.encoder.layer:
        for linear in (layer.attention.self.query, layer.attention.self.key):
            linear.weight.data.zero_()
            linear.bias.data.zero_()
    student = convert(teacher, "2quad-freediv")
    attention = student.bert.encoder.layer[0].attention.self
    attention.c.data.copy_(torch.tensor([2.0, 5.0]))
    calibrate(student, make_batches(student))
    torch.testing.assert_close(attention.log_gamma.exp(), torch.tensor([1 / 4, 1 / 25]))


@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv"])
def test_gamma_counts_real_queries_and_real_keys_only(recipe: str) -> None:
    teacher = make()
    student = convert(teacher, recipe)
    (batch,) = make_batches(student, count=1)
    calibrate(student, [batch])
    attention = student.bert.encoder.layer[0].attention.self
    scores = student(**batch, output_attentions=True).attentions[0].double()
    weights = (scores + 5) ** 2 if recipe == "2quad-freediv" else (1 + scores / 64) ** 64
    sums = []
    for text, count in zip(weights, batch["attention_mask"].sum(-1).tolist(), strict=True):
        sums += list((text[:, :count, :count].sum(-1) / count).T)
    expected = 1 / torch.stack(sums).mean(0)
    torch.testing.assert_close(attention.log_gamma.exp().double(), expected, rtol=1e-5, atol=0)


def test_padding_changes_nothing() -> None:
    """The same texts in longer rows give the same student, to the precision of float32 sums."""
    teacher = make()
    students = []
    for extra in (0, 5):
        student = convert(teacher, "2quad-freediv")
        batches = [
            {name: torch.nn.functional.pad(value, (0, extra)) for name, value in batch.items()}
            for batch in make_batches(student)
        ]
        calibrate(student, batches, teacher)
        students.append(student)
    for (name, a), b in zip(students[0].named_parameters(), students[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_an_exact_student_stays_its_teacher() -> None:
    teacher = make()
    student = convert(teacher, "exact")
    batches = make_batches(student)
    calibrate(student, batches, teacher)
    torch.testing.assert_close(student(**batches[0]).logits, teacher(**batches[0]).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_teacher_is_untouched_bit_for_bit(family: str) -> None:
    teacher = make(family).train()
    before = copy.deepcopy(teacher.state_dict())
    student = convert(teacher, "2quad-freediv")
    calibrate(student, make_batches(student), teacher)
    assert teacher.training
    assert not any(module._forward_hooks for module in teacher.modules())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_blocks_are_found_without_names() -> None:
    bert, vit = (find_blocks(convert(make(family), "2quad-freediv")) for family in ("bert", "vit"))
    assert bert[1].attention.projection == "bert.encoder.layer.1.attention.output.dense"
    assert bert[1].feed_forward.norm == "bert.encoder.layer.1.output.LayerNorm"
    assert vit[0].attention.norm == "vit.layers.0.layernorm_after"
    assert vit[0].feed_forward.norm is None  # the sum is the residual stream itself


def test_a_layer_that_is_called_twice_keeps_its_weights() -> None:
    torch.manual_seed(0)
    teacher = make_model("albert", width=16, vocabulary=50)
    student = convert(teacher, "2quad-freediv")
    calibrate(student, make_batches(student), teacher)
    theirs = dict(teacher.named_parameters())
    assert all(torch.equal(value, theirs[name]) for name, value in student.named_parameters() if name in theirs)


def test_values_that_are_not_finite_name_the_layer() -> None:
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    student.bert.encoder.layer[1].intermediate.dense.weight.data.fill_(1e30)
    with pytest.raises(MpcifyError, match=re.escape("MPC-602 bert.encoder.layer.1")):
        calibrate(student, make_batches(student), teacher)
    assert student.config.mpcify["calibrated"] is False


def test_a_teacher_of_another_shape_is_refused() -> None:
    student = convert(make(), "2quad-freediv")
    with pytest.raises(MpcifyError, match="MPC-604"):
        calibrate(student, make_batches(student), make("electra"))


def test_weights_of_16_bits_are_refused_with_the_cast_that_helps() -> None:
    student = convert(make(), "2quad-freediv")
    with pytest.raises(MpcifyError, match=r"MPC-206 .*bfloat16.*model\.float\(\)"):
        calibrate(student.bfloat16(), make_batches(student), make())


def test_a_teacher_with_labels_in_another_order_is_refused() -> None:
    teacher, student = make(), convert(make(), "2quad-freediv")
    teacher.config.id2label = dict(enumerate(reversed(student.config.id2label.values())))
    with pytest.raises(MpcifyError, match="MPC-604 labels"):
        calibrate(student, make_batches(student), teacher)


def test_no_texts_are_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-108"):
        calibrate(convert(make(), "2quad-freediv"), [])


def test_ranges_of_other_weights_are_forgotten() -> None:
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    set_ranges(student, {"logits": {"value": (-1, 1)}})
    assert ranges_of(student)
    calibrate(student, make_batches(teacher), teacher)
    assert not ranges_of(student)


def test_scores_under_which_exp_t_overflows_are_scaled_by_calibration() -> None:
    """Scores of some hundreds: (1 + S/2⁸)^(2⁸) is beyond float32, which leaves nothing to measure γ on."""
    teacher = make()
    for layer in teacher.bert.encoder.layer:
        layer.attention.self.query.weight.data *= 3e2
    student, batches = convert(teacher, Recipe("softmax-freediv", "quad", True, 8)), make_batches(teacher)
    assert not torch.isfinite(student.eval()(**batches[0]).logits).all()
    assert len(find_blocks(student)) == 2
    with pytest.raises(MpcifyError, match=r"MPC-602 .*exp_t .*overflows .*calibrate with a teacher"):
        calibrate(student, batches)
    calibrate(student, batches, teacher)
    assert torch.isfinite(student(**batches[0]).logits).all()


@pytest.mark.parametrize("code, change", [(105, {"attention_mask": torch.zeros(2, 3)}), (208, {"input_ids": 99})])
def test_what_no_request_could_be_is_one_error(code: int, change: dict[str, object]) -> None:
    teacher = make()
    ids = torch.full((2, 3), change.get("input_ids", 7))
    batch = {"input_ids": ids, "attention_mask": change.get("attention_mask", torch.ones(2, 3))}
    with pytest.raises(MpcifyError, match=f"MPC-{code}"):
        calibrate(convert(teacher, "2quad-freediv"), [batch], teacher)


def test_further_columns_change_nothing() -> None:
    teacher = make("distilbert")
    batches = make_batches(teacher, 2)
    wide = [{**batch, "token_type_ids": batch["input_ids"] % 2, "idx": batch["input_ids"][:, 0]} for batch in batches]
    one, other = convert(teacher, "2quad-freediv"), convert(teacher, "2quad-freediv")
    calibrate(one, batches, teacher)
    calibrate(other, wide, teacher)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_log_says_how_many_layers_are_done(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mpcify.progress.PAUSE", 0.0)
    teacher = make()
    calibrate(convert(teacher, "2quad-freediv"), make_batches(teacher, 1), teacher)
    assert capfd.readouterr().err.splitlines() == [f"calibration, layers: {done} of 2" for done in (1, 2)]
