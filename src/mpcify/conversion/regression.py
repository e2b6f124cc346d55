"""What calibration changes in one encoder layer: c, γ and Quad's vertex in closed form, W_O and W₂ by ridge regression.

Under exp_t the scale of scores too, by search. All are sums over the real tokens of all batches, in float64, and none
costs anything at inference.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mpcify.conversion.blocks import Block, Call, LayerBlocks, not_finite, watching
from mpcify.conversion.position_bias import position_bias
from mpcify.errors import MpcifyWarning
from mpcify.replacements.attention import AttentionKind, score_weights
from mpcify.replacements.forms import FORMS, SQUARE

SHIFTS = torch.logspace(-0.3, 1.3, 65, dtype=torch.float64)  # what c may become: 0.5 … 20
SCALES = torch.logspace(-1.2, 0.1, 14, dtype=torch.float64)  # what scores under exp_t are multiplied by: 0.06 … 1.26
VERTICES = torch.linspace(-5, 3, 65, dtype=torch.float64)  # where Quad's parabola may turn, as W₁ x + b₁ sees it
VERTEX = -1.0  # where it turns by itself
RIDGE = 1e-3  # times the mean of the Gram matrix's diagonal


@dataclass(frozen=True)
class State:
    """A batch between two encoder layers: hidden states (batch, n, H) and real tokens (batch, n)."""

    hidden: Tensor
    real: Tensor
    args: tuple[Any, ...]  # what else the layer is called with: the mask, in the family's way
    kwargs: dict[str, Any]

    def through(self, layer: nn.Module) -> Any:
        """What a layer makes of the batch."""
        return layer(self.hidden, *self.args, **self.kwargs)


def set_shift(
    student: PreTrainedModel, teacher: PreTrainedModel, blocks: LayerBlocks, states: list[State], targets: list[State]
) -> None:
    """Sets each head's c so that γ Σⱼ (Sᵢⱼ+c)² (Mⱼ/m) Vⱼ, with any γ > 0, is nearest to the teacher's y (MSE).

    That is A + 2cB + c²D but for γ: three outputs, at c = −1, 0 and 1, give A, B and D, and their products with each
    other and with y are all that the search over c needs. A small c is a sharp head: only c/S matters beside γ.
    """
    attention, heads = student.get_submodule(blocks.site.attention), blocks.site.heads
    form = FORMS[str(attention.mpcify_attention)]
    if attention.c is None or form.power is not SQUARE or form.divides:
        return
    present, products = attention.c.clone(), torch.zeros(heads, 4, 4, dtype=torch.float64, device=student.device)
    for state, target in zip(states, targets, strict=True):
        at = []
        for c in (-1.0, 0.0, 1.0):
            attention.c.fill_(c)  # type: ignore[operator]
            at.append(by_head(student, blocks, state))
        wanted = by_head(teacher, blocks, target).to(at[0])
        terms = torch.stack([at[1], (at[2] - at[0]) / 4, (at[2] + at[0]) / 2 - at[1], wanted])
        products += torch.einsum("ithd,jthd->hij", terms, terms)
    shifts = SHIFTS.to(products)
    powers = torch.stack([torch.ones_like(shifts), 2 * shifts, shifts**2])
    norm = torch.einsum("kc,hkl,lc->ch", powers, products[:, :3, :3], powers)
    reach = torch.einsum("kc,hk->ch", powers, products[:, :3, 3])
    attention.c.copy_(nearest(shifts, norm, reach, present))  # type: ignore[operator, arg-type]


def set_scale(
    student: PreTrainedModel, teacher: PreTrainedModel, blocks: LayerBlocks, states: list[State], targets: list[State]
) -> None:
    """Scales each head's scores: γ Σⱼ exp_t(τ Sᵢⱼ) (Mⱼ/m) Vⱼ, with any γ > 0, is then nearest to the teacher's y (MSE).

    A position bias is left as it is, all layers share it: exp_t(τ QKᵀ/√d + B).
    Softmax divides by a row's sum, so that a high score does no harm. Without that a row with one outweighs all others,
    and γ vanishes; τ < 1 evens them out. It goes into W_Q and b_Q.
    """
    heads = blocks.site.heads
    if not FORMS[str(student.get_submodule(blocks.site.attention).mpcify_attention)].power.steep:
        return
    if (query := scaling_scores(student, blocks, states[0])) is None:
        what = f"{blocks.site.attention}: no linear layer scales its scores: they keep their scale, and γ may vanish"
        warnings.warn(MpcifyWarning(what), stacklevel=3)
        return
    scales = SCALES.to(student.device)
    norm, reach = scales.new_zeros(2, len(scales), heads)
    with scaling(query) as scale:
        for state, target in zip(states, targets, strict=True):
            wanted = by_head(teacher, blocks, target).to(scales.device)
            for index, factor in enumerate(scales):
                scale(factor)
                found = by_head(student, blocks, state)
                norm[index] += (found**2).sum((0, 2))
                reach[index] += (found * wanted).sum((0, 2))
    best = nearest(scales, norm, reach, scales.new_ones(heads)).repeat_interleave(query.out_features // heads)
    for parameter in query.parameters():
        parameter.mul_(best.view(-1, *[1] * (parameter.ndim - 1)).to(parameter.dtype))


def scaling_scores(student: PreTrainedModel, blocks: LayerBlocks, state: State) -> nn.Linear | None:
    """The linear of an attention, with its bias, that its scores are proportional to: that of queries or of keys.

    Scores without a position bias: τ scales QKᵀ alone.
    """
    bias = position_bias(student, state.hidden.shape[1])

    def scores() -> Tensor:
        found: Tensor = through(student, blocks, blocks.site.attention, state).output[1]
        return found if bias is None else found - bias.to(found)

    before = scores()
    for module in student.get_submodule(blocks.site.attention).modules():
        if isinstance(module, nn.Linear):
            with scaling(module) as scale:
                scale(2.0)
                doubled = scores()
            if torch.allclose(doubled, 2 * before, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
                return module
    return None


@contextmanager
def scaling(linear: nn.Linear) -> Iterator[Callable[[float | Tensor], None]]:
    """While open, what it gives multiplies the linear's own W and b by a factor; they are its own again afterwards."""
    own = [(parameter, parameter.clone()) for parameter in linear.parameters()]

    def scale(factor: float | Tensor) -> None:
        for parameter, value in own:
            parameter.copy_(value * factor)

    try:
        yield scale
    finally:
        scale(1.0)


def by_head(model: PreTrainedModel, blocks: LayerBlocks, state: State) -> Tensor:
    """What a layer's attention gives before W_O, real tokens × heads × d, float64."""
    found = through(model, blocks, blocks.attention.projection, state).input[state.real]
    return found.double().unflatten(-1, (blocks.site.heads, -1))


def nearest(choices: Tensor, norm: Tensor, reach: Tensor, present: Tensor) -> Tensor:
    """Each head's choice x for which γ x, with any γ > 0, is nearest to y; `present` if none comes nearer than 0.

    choices: (k). norm, reach: ‖x‖² and x·y, (k, heads). γ x takes (x·y)²/‖x‖² off ‖y‖² if x·y > 0.
    """
    gain = torch.nan_to_num(torch.where(reach > 0, reach**2 / norm, 0.0), 0.0, 0.0)
    return torch.where(gain.amax(0) > 0, choices[gain.argmax(0)].to(present.dtype), present)


def set_vertex(
    student: PreTrainedModel, teacher: PreTrainedModel, blocks: LayerBlocks, states: list[State], targets: list[State]
) -> None:
    """Shifts b₁ so that each Quad is the parabola that correlates best with the teacher's activation.

    Quad(x) is a square of x + 1 beside a constant, and the regression of W₂ scales it as it likes afterwards: what is
    left to choose is v in (x − v)², by the largest cov(g, (x − v)²)² / var((x − v)²); b₁ changes by −1 − v.
    """
    inner = cast(nn.Linear, student.get_submodule(blocks.inner))
    if getattr(student.get_submodule(blocks.site.activation), "name", None) != "quad" or inner.bias is None:
        return
    sums = torch.zeros(8, inner.out_features, dtype=torch.float64, device=student.device)
    for state, target in zip(states, targets, strict=True):
        x = through(student, blocks, blocks.site.activation, state).input[state.real].double()
        g = through(teacher, blocks, blocks.site.activation, target).result[target.real].to(x)
        sums += torch.stack([torch.ones_like(x), x, x**2, x**3, x**4, g, g * x, g * x**2]).sum(1)
    _, x1, x2, x3, x4, g1, gx, gxx = sums / sums[0]
    v = VERTICES.to(sums)[:, None]
    covariance = (gxx - g1 * x2) - 2 * v * (gx - g1 * x1)
    variance = (x4 - x2**2) - 4 * v * (x3 - x2 * x1) + 4 * v**2 * (x2 - x1**2)
    gain = torch.where(variance > 0, covariance**2 / variance, 0.0)
    best = torch.where(torch.isfinite(gain).all(0) & (gain.amax(0) > 0), v.squeeze(1)[gain.argmax(0)], VERTEX)
    inner.bias.add_((VERTEX - best).to(inner.bias.dtype))


def through(model: PreTrainedModel, blocks: LayerBlocks, watched: str, state: State) -> Call:
    """The call of one module of a layer, on a batch that enters the layer."""
    module = model.get_submodule(watched)
    with watching([module], last=module) as calls:
        state.through(model.get_submodule(blocks.site.layer))
    return calls[0]


def set_gamma(student: PreTrainedModel, blocks: LayerBlocks, states: list[State]) -> None:
    """γ = 1/mean(row sum / m) over the real queries of all batches; a head whose rows sum to 0 keeps its γ."""
    attention = student.get_submodule(blocks.site.attention)
    if attention.log_gamma is None:
        return
    kind = AttentionKind(attention.mpcify_attention, attention.mpcify_centre_keys, attention.mpcify_t, 1.0)  # type: ignore[arg-type]
    total, count = torch.zeros(blocks.site.heads, dtype=torch.float64, device=student.device), 0
    for state in states:
        scores = through(student, blocks, blocks.site.attention, state).output[1]
        weights = score_weights(kind, scores, attention.c).double()  # type: ignore[arg-type]
        share = (state.real / state.real.sum(-1, keepdim=True)).double()  # Mⱼ/m: batch × n
        rows = torch.einsum("bhij,bj->bih", weights, share)
        total += rows[state.real].sum(0)
        count += int(state.real.sum())
    if not torch.isfinite(total).all():
        raise not_finite(student, blocks.site.attention)
    present = attention.log_gamma
    present.copy_(torch.where(total > 0, (count / total).log().to(present.dtype), present))  # type: ignore[operator, arg-type]


def regress(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layer: str,
    block: Block,
    states: list[State],
    targets: list[State],
) -> None:
    """Ridge regression of W and b, towards the present ones, so that the student's sum h + W x becomes the teacher's.

    With x the input of W, s and t the student's and the teacher's sums, and r = t − s: Δ = (XᵀX + λI)⁻¹ XᵀR,
    λ = 10⁻³ · mean diag(XᵀX), each real token weighted by 1/std(t).
    """
    projection = cast(nn.Linear, student.get_submodule(block.projection))
    biased = projection.bias is not None
    columns = projection.in_features + int(biased)
    gram = projection.weight.new_zeros(columns, columns, dtype=torch.float64)
    cross = projection.weight.new_zeros(columns, projection.out_features, dtype=torch.float64)
    for state, target in zip(states, targets, strict=True):
        inputs, present = residual_sum(student, layer, block, state)
        _, wanted = residual_sum(teacher, layer, block, target)
        wanted, present = wanted[target.real].to(present.device).double(), present[state.real].double()
        weight = 1 / wanted.std(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).eps)
        rows = inputs[state.real].double()
        if biased:
            rows = torch.cat([rows, torch.ones_like(weight)], 1)
        rows = rows * weight
        gram += rows.T @ rows
        cross += rows.T @ ((wanted - present) * weight)
    if not (torch.isfinite(gram).all() and torch.isfinite(cross).all()):
        raise not_finite(student, block.projection)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    change = torch.linalg.solve(gram, cross)
    projection.weight.add_(change[: projection.in_features].T.to(projection.weight.dtype))
    if biased:
        projection.bias.add_(change[-1].to(projection.bias.dtype))


def residual_sum(model: PreTrainedModel, layer: str, block: Block, state: State) -> tuple[Tensor, Tensor]:
    """x and h + W x of a block, (batch, n, ·) each."""
    whole, projection = model.get_submodule(layer), model.get_submodule(block.projection)
    reader = whole if block.norm is None else model.get_submodule(block.norm)
    with watching([projection, reader], last=reader) as calls:
        state.through(whole)
    inside, last = calls
    return inside.input, last.result if block.norm is None else last.input
