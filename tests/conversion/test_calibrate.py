"""Calibration brings a student near its teacher before any training, in every family, and leaves the teacher alone."""

import copy
import math
import re
from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion import fits
from mpcify.conversion.blocks import find_blocks
from mpcify.conversion.calibrate import enter
from mpcify.conversion.calibrate import fit_layers as calibrate
from mpcify.conversion.convert import convert
from mpcify.conversion.fits import scaling_scores
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.recipe import Recipe
from tests.makers import make_calm_teacher, make_model

FAMILIES = ("bert", "roberta", "electra", "distilbert", "vit")
make = partial(make_calm_teacher, vocabulary=50)


def make_batches(model: PreTrainedModel, count: int = 4, size: int = 16) -> list[dict[str, Tensor]]:
    """Random texts, half of them padded, or random images."""
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        return [{"pixel_values": torch.randn(size, 1, 8, 8, generator=generator)} for _ in range(count)]
    mask = torch.ones(size, 12, dtype=torch.long)
    mask[::2, 7:] = 0
    return [
        {"input_ids": torch.randint(5, 50, (size, 12), generator=generator), "attention_mask": mask}
        for _ in range(count)
    ]


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


def test_the_refit_solves_the_weighted_ridge_problem() -> None:
    """The first W_O, against an independent solver: the rows of the ridge appended to the rows of the data."""
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    (batch,) = make_batches(student, count=1)
    calibrate(fitted := copy.deepcopy(student), [batch], teacher)
    attention, with_c = (model.bert.encoder.layer[0].attention.self for model in (student, fitted))
    for name in ("c", "log_gamma"):  # so that the attention's output below is what the refit sees
        getattr(attention, name).data.copy_(getattr(with_c, name))
    dense = student.bert.encoder.layer[0].attention.output.dense
    old = torch.cat([dense.weight, dense.bias[:, None]], 1).detach().double()
    context, target = [], []
    with torch.no_grad():
        embeddings = teacher.bert.embeddings(batch["input_ids"])
        for model, into in ((student, context), (teacher, target)):
            layer = model.bert.encoder.layer[0]
            watch = layer.attention.output.dense.register_forward_hook(
                lambda _, args, output, into=into: into.extend((args[0], output))
            )
            model(**batch)
            watch.remove()
    real = batch["attention_mask"] > 0
    wanted = (target[1] + embeddings)[real].double()
    weight = 1 / wanted.std(-1, keepdim=True)
    x = torch.cat([context[0][real].double(), torch.ones_like(weight)], 1) * weight
    y = (wanted - embeddings[real].double()) * weight
    ridge = (1e-3 * (x * x).sum(0).mean()).sqrt() * torch.eye(x.shape[1], dtype=torch.float64)
    expected = torch.linalg.lstsq(torch.cat([x, ridge]), torch.cat([y, ridge @ old.T])).solution.T
    calibrate(student, [batch], teacher)
    found = torch.cat([dense.weight, dense.bias[:, None]], 1).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32 forwards


def distance_of_heads(student: PreTrainedModel, teacher: PreTrainedModel, batches: list[dict[str, Tensor]]) -> Tensor:
    """How far each head of BERT's first layer is from the teacher's, with the best factor on it: squares summed."""
    found: dict[PreTrainedModel, list[Tensor]] = {student: [], teacher: []}
    for model, rows in found.items():
        dense = model.bert.encoder.layer[0].attention.output.dense
        watch = dense.register_forward_hook(lambda _, args, output, rows=rows: rows.append(args[0]))
        for batch in batches:
            model(**batch)
            rows[-1] = rows[-1][batch["attention_mask"] > 0].unflatten(-1, (2, -1)).double()
        watch.remove()
    ours, wanted = (torch.cat(rows) for rows in found.values())
    factor = (ours * wanted).sum((0, 2)) / (ours**2).sum((0, 2))
    return ((factor[:, None] * ours - wanted) ** 2).sum((0, 2))


@torch.no_grad()
def test_c_is_where_no_other_is_nearer_to_the_teachers_attention() -> None:
    """The first layer's heads, against a search: every c of a grid, each with its best γ."""
    teacher = make(scale=0.8)  # scores that differ enough for c to matter
    student = convert(teacher, "2quad-freediv")
    batches = make_batches(student)
    calibrate(student, batches, teacher)
    attention = student.bert.encoder.layer[0].attention.self
    chosen, grid = attention.c.clone(), torch.logspace(-0.3, 1.3, 33)

    def error(c: Tensor) -> Tensor:
        attention.c.copy_(c)
        return distance_of_heads(student, teacher, batches)

    least, others = error(chosen), torch.stack([error(c.expand(2)) for c in grid])
    assert (least <= others.min(0).values * 1.001).all()
    assert (least < 0.99 * error(torch.full((2,), 5.0))).any()


@torch.no_grad()
def test_scores_under_exp_t_are_scaled_to_where_no_other_scale_is_nearer_to_the_teachers_attention() -> None:
    """Of the first layer's heads one has sharp scores: a row's sum is what softmax would divide it by."""
    teacher = make(scale=0.5)
    sharp = teacher.bert.encoder.layer[0].attention.self.query
    sharp.weight[:8] *= 3
    torch.nn.init.normal_(sharp.bias, std=0.5)
    student = convert(teacher, "softmax-freediv")
    batches = make_batches(student)
    calibrate(alone := copy.deepcopy(student), batches)
    calibrate(student, batches, teacher)
    query, theirs = student.bert.encoder.layer[0].attention.self.query, sharp.weight
    chosen, bias = query.weight.clone(), query.bias.clone()
    scales = (chosen.unflatten(0, (2, -1)) / theirs.unflatten(0, (2, -1))).mean((1, 2))
    torch.testing.assert_close(chosen, scales.repeat_interleave(8)[:, None] * theirs)  # a head's rows alike
    torch.testing.assert_close(bias, scales.repeat_interleave(8) * sharp.bias)

    def error(scale: float) -> Tensor:
        query.weight.copy_(chosen * scale)
        query.bias.copy_(bias * scale)
        return distance_of_heads(student, teacher, batches)

    least, others = error(1.0), torch.stack([error(scale) for scale in (0.25, 0.5, 0.8, 1.25, 2.0)])
    assert (least <= others.min(0).values).all()
    assert scales[0] < 0.5
    query.weight.copy_(theirs)
    query.bias.copy_(sharp.bias)
    assert least[0] < 0.8 * distance_of_heads(student, teacher, batches)[0]
    gamma = [model.bert.encoder.layer[0].attention.self.log_gamma[0] for model in (alone, student)]
    assert gamma[0] < math.log(1e-3) < gamma[1]  # the sharp head's γ had vanished


def test_the_linear_that_scores_are_proportional_to_is_found_without_names() -> None:
    for family, name in (("bert", "query"), ("distilbert", "q_lin"), ("vit", "q_proj")):
        student = convert(make(family), "softmax-freediv")
        blocks = find_blocks(student)[1]
        weights = copy.deepcopy(student.state_dict())
        with torch.no_grad():
            found = scaling_scores(student, blocks, enter(student, make_batches(student), blocks)[0])
        assert found is getattr(student.get_submodule(blocks.site.attention), name)
        assert all(torch.equal(value, weights[key]) for key, value in student.state_dict().items())


def test_scores_that_no_linear_scales_keep_their_scale_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = make()
    student = convert(teacher, "softmax-freediv")
    query = student.bert.encoder.layer[0].attention.self.query
    before = query.weight.clone()
    monkeypatch.setattr(fits, "scaling_scores", lambda *_: None)
    with pytest.warns(MpcifyWarning, match=r"attention\.self: no linear layer scales its scores"):
        calibrate(student, make_batches(student), teacher)
    assert torch.equal(query.weight, before)


@torch.no_grad()
def test_a_quads_bias_moves_to_where_a_parabola_fits_the_activation_best() -> None:
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    batches = make_batches(student)
    inner = student.bert.encoder.layer[0].intermediate.dense
    before = inner.bias.clone()
    calibrate(student, batches, teacher)
    moved = inner.bias - before
    rows: dict[str, list[Tensor]] = {"x": [], "g": []}
    for model, name in ((student, "x"), (teacher, "g")):
        first = model.bert.encoder.layer[0].intermediate
        watched = first.dense if name == "x" else first
        watch = watched.register_forward_hook(lambda _, args, output, name=name: rows[name].append(output))
        for batch in batches:
            model(**batch)
            rows[name][-1] = rows[name][-1][batch["attention_mask"] > 0].double()
        watch.remove()
    x, g = (torch.cat(rows[name]) for name in ("x", "g"))
    x = x - moved

    def correlation(v: Tensor) -> Tensor:
        square, centred = (x - v) ** 2, g - g.mean(0)
        return ((centred * square).mean(0) ** 2) / square.var(0, correction=0)

    best = correlation(-1 - moved)
    for v in torch.linspace(-5, 3, 17):
        assert (best >= correlation(v) * 0.999).all()
    assert moved.abs().max() > 0.1
    gelu = convert(teacher, Recipe(attention="2quad-freediv", activation="gelu"))
    kept = gelu.bert.encoder.layer[0].intermediate.dense.bias.clone()
    calibrate(gelu, batches, teacher)
    assert torch.equal(gelu.bert.encoder.layer[0].intermediate.dense.bias, kept)


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


def test_no_texts_are_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-108"):
        calibrate(convert(make(), "2quad-freediv"), [])


def test_ranges_of_other_weights_are_forgotten() -> None:
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    student.config.mpcify["ranges"] = {"logits": {"value": [-1, 1]}}
    calibrate(student, make_batches(teacher), teacher)
    assert "ranges" not in student.config.mpcify


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


def test_a_log_is_told_how_many_layers_are_done(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mpcify.progress.PAUSE", 0.0)
    teacher = make()
    calibrate(convert(teacher, "2quad-freediv"), make_batches(teacher, 1), teacher)
    assert capfd.readouterr().err.splitlines() == [f"calibration, layers: {done} of 2" for done in (1, 2)]
