"""Calibration: a student's first weights, layer by layer, before any training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedModel

from mpcify.conversion.blocks import Block, LayerBlocks, evaluating, find_blocks, not_finite, watching
from mpcify.conversion.convert import extra_parameters
from mpcify.errors import MpcifyError
from mpcify.replacements.attention import AttentionKind, score_weights

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


@torch.no_grad()
def calibrate(
    student: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], teacher: PreTrainedModel | None = None
) -> None:
    """Sets γ, and with a teacher refits W_O, W₂ and their biases, layer by layer from the first. No labels are needed.

    γ = 1/mean(row sum / m) over real queries, one a head, for freeDiv attentions. The refit is ridge regression towards
    the present weights: with x the input of W, s and t the student's and the teacher's sums h + W x, and r = t − s,
    Δ = (XᵀX + λI)⁻¹ XᵀR, λ = 10⁻³ · mean diag(XᵀX), each real token weighted by 1/std(t). A layer that is called more
    than once (ALBERT) keeps its W.

    batches: about 1,000 texts or images in all: dicts of `input_ids`, `attention_mask` (batch, n) and what else the
    model takes; their hidden states are kept in memory. The teacher is not changed. Afterwards `config.mpcify` says
    `calibrated`, and `refit` where there was a teacher.
    Raises MPC-108 for no batches, MPC-204 where a layer is not made of two residual sums, MPC-602 for values that are
    not finite, MPC-604 for a teacher of another shape.
    """
    if teacher is not None:
        refuse_other(teacher, student)
    layers = find_blocks(student)
    batches = list(batches)
    if not batches:
        raise MpcifyError(108, "calibration", "there are no texts to calibrate on", "give about 1,000 training texts")
    with evaluating(student, *([] if teacher is None else [teacher])):
        states = enter(student, batches, layers[0])
        targets = None if teacher is None else enter(teacher, batches, layers[0])
        for blocks in tqdm(layers, desc="calibrate", unit="layer", disable=None):
            fit_gamma(student, blocks, states)
            if teacher is not None and targets is not None and blocks.calls == 1:
                for block in (blocks.attention, blocks.feed_forward):
                    refit(student, teacher, blocks.site.layer, block, states, targets)
            states = advance(student, blocks, states)
            targets = None if teacher is None or targets is None else advance(teacher, blocks, targets)
    settings = {**student.config.mpcify, "calibrated": True, "refit": teacher is not None}
    settings.pop("ranges", None)  # they were those of other weights
    student.config.mpcify = settings


def enter(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], first: LayerBlocks) -> list[State]:
    """The batches where they enter the first encoder layer."""
    layer = model.get_submodule(first.site.layer)
    states = []
    for batch in batches:
        inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
        with watching([layer], last=layer) as calls:
            model(**inputs)
        (call,) = calls
        real = inputs.get("attention_mask", torch.ones(call.input.shape[:2], device=model.device)) > 0
        states.append(State(call.input, real, call.args[1:], call.kwargs))
    return states


def advance(model: PreTrainedModel, blocks: LayerBlocks, states: list[State]) -> list[State]:
    """The batches after an encoder layer. Raises MPC-602 where they are not finite."""
    layer = model.get_submodule(blocks.site.layer)
    after = []
    for state in states:
        for _ in range(blocks.calls):
            output = state.through(layer)
            state = replace(state, hidden=output[0] if isinstance(output, tuple) else output)
        if not torch.isfinite(state.hidden[state.real]).all():
            raise not_finite(blocks.site.layer)
        after.append(state)
    return after


def fit_gamma(student: PreTrainedModel, blocks: LayerBlocks, states: list[State]) -> None:
    """γ = 1/mean(row sum / m) over the real queries of all batches; a head whose rows sum to 0 keeps its γ."""
    layer, attention = (student.get_submodule(path) for path in (blocks.site.layer, blocks.site.attention))
    if attention.log_gamma is None:
        return
    kind = AttentionKind(attention.mpcify_attention, attention.mpcify_centre_keys, attention.mpcify_t, 1.0)  # type: ignore[arg-type]
    total, count = torch.zeros(blocks.site.heads, dtype=torch.float64, device=student.device), 0
    for state in states:
        with watching([attention], last=attention) as calls:
            state.through(layer)
        weights = score_weights(kind, calls[0].output[1], attention.c).double()  # type: ignore[arg-type]
        share = (state.real / state.real.sum(-1, keepdim=True)).double()  # Mⱼ/m: batch × n
        rows = torch.einsum("bhij,bj->bih", weights, share)
        total += rows[state.real].sum(0)
        count += int(state.real.sum())
    if not torch.isfinite(total).all():
        raise not_finite(blocks.site.attention)
    present = attention.log_gamma
    present.copy_(torch.where(total > 0, (count / total).log().to(present.dtype), present))  # type: ignore[operator, arg-type]


def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layer: str,
    block: Block,
    states: list[State],
    targets: list[State],
) -> None:
    """Ridge regression of W and b, so that the student's sum h + W x becomes the teacher's; see `calibrate`."""
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
        raise not_finite(block.projection)
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


def refuse_other(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Raises MPC-604 unless the teacher has the student's weights, c and γ aside."""
    own = extra_parameters(student)
    theirs = extra_parameters(teacher)
    shapes = {name: value.shape for name, value in student.named_parameters() if name not in own}
    others = {name: value.shape for name, value in teacher.named_parameters() if name not in theirs}
    if shapes != others:
        name = sorted(set(shapes.items()) ^ set(others.items()))[0][0]
        raise MpcifyError(
            604,
            name,
            "the teacher and the student differ in this weight's shape, or one lacks it",
            "name the model that the student was converted from",
        )
