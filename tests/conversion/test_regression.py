"""What calibration changes in one layer, against an independent solver, or a search."""

import copy
import math

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion import regression
from mpcify.conversion.blocks import find_blocks
from mpcify.conversion.calibrate import calibrate_layers as calibrate
from mpcify.conversion.calibrate import enter
from mpcify.conversion.convert import convert
from mpcify.conversion.regression import scaling_scores
from mpcify.errors import MpcifyWarning
from mpcify.recipe import Recipe
from tests.conversion.teachers import make, make_batches


def test_the_refit_solves_the_weighted_ridge_problem() -> None:
    """The first W_O, against an independent solver: the rows of the ridge appended to the rows of the data."""
    teacher = make()
    student = convert(teacher, "2quad-freediv")
    (batch,) = make_batches(student, count=1)
    calibrate(calibrated := copy.deepcopy(student), [batch], teacher)
    attention, with_c = (model.bert.encoder.layer[0].attention.self for model in (student, calibrated))
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
    for family, name in (("bert", "query"), ("distilbert", "q_lin"), ("mpnet", "q"), ("vit", "q_proj")):
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
    monkeypatch.setattr(regression, "scaling_scores", lambda *_: None)
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
