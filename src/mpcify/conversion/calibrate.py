"""Calibration by regression: a student's first weights, layer by layer, before any training."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.batches import model_inputs
from mpcify.conversion.blocks import LayerBlocks, evaluating, find_blocks, not_finite, watching
from mpcify.conversion.convert import extra_parameters, task_of
from mpcify.conversion.regression import State, regress, set_gamma, set_scale, set_shift, set_vertex
from mpcify.conversion.student import update_config
from mpcify.errors import MpcifyError
from mpcify.progress import progress_bar


@torch.no_grad()
def calibrate_layers(
    student: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], teacher: PreTrainedModel | None = None
) -> None:
    """Sets γ, and with a teacher c, W_Q, W_O, b₁ (for Quad) and W₂, layer by layer from the first. No labels needed.

    γ = 1/mean(row sum / m) over real queries, one a head, for freeDiv attentions. With a teacher, `set_shift` sets c of
    `2quad-freediv` before it, and `set_scale` the scale of scores in `softmax-freediv` (W_Q, b_Q); after it, ridge
    regression changes W_O and b_O, `set_vertex` shifts b₁, and ridge regression changes W₂ and b₂: see `regression`. A
    layer that is called more than once (ALBERT) keeps its weights.

    batches: about 1,000 texts or images in all: dicts of `input_ids`, `attention_mask` (batch, n) and what else the
    model takes; their hidden states are kept in memory. The teacher is not changed. Afterwards `config.mpcify` says
    `calibrated`, and `refit` if there was a teacher.
    Raises MPC-108 for no batches, MPC-204 if a layer is not made of two residual sums, MPC-602 for values that are
    not finite, MPC-604 for a teacher of another shape, and what `model_inputs` raises for a batch.
    """
    if teacher is not None:
        refuse_other(teacher, student)
    for model in (student, *([] if teacher is None else [teacher])):
        if model.dtype.itemsize < 4:
            what = f"its weights are {str(model.dtype).removeprefix('torch.')}, and regression needs float32"
            raise MpcifyError(206, type(model).__name__, what, "give model.float()")
    layers = find_blocks(student)
    batches = list(batches)
    if not batches:
        raise MpcifyError(108, "calibration", "there are no texts to calibrate on", "give about 1,000 training texts")
    both = (student,) if teacher is None else (student, teacher)
    with evaluating(*both), progress_bar("calibration, layers", len(layers)) as report:
        states = enter(student, batches, layers[0])
        targets = None if teacher is None else enter(teacher, batches, layers[0])
        for done, blocks in enumerate(layers, 1):
            if teacher is None or targets is None or blocks.calls > 1:
                set_gamma(student, blocks, states)
            else:
                set_shift(student, teacher, blocks, states, targets)
                set_scale(student, teacher, blocks, states, targets)
                set_gamma(student, blocks, states)
                regress(student, teacher, blocks.site.layer, blocks.attention, states, targets)
                set_vertex(student, teacher, blocks, states, targets)
                regress(student, teacher, blocks.site.layer, blocks.feed_forward, states, targets)
            states = advance(student, blocks, states)
            targets = None if teacher is None or targets is None else advance(teacher, blocks, targets)
            report(done)
    update_config(student, calibrated=True, refit=teacher is not None)


def enter(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], first: LayerBlocks) -> list[State]:
    """The batches where they enter the first encoder layer."""
    layer = model.get_submodule(first.site.layer)
    states = []
    for batch in batches:
        inputs = model_inputs(model, batch)
        with watching([layer], last=layer) as calls:
            model(**inputs)
        (call,) = calls
        real = inputs.get("attention_mask", torch.ones(call.input.shape[:2], device=model.device)) > 0
        terms = {name: once(term) for name, term in call.kwargs.items()}
        states.append(State(call.input, real, tuple(map(once, call.args[1:])), terms))
    return states


def once(term: Any) -> Any:
    """A term of a layer, kept once if it is the same for all rows of a batch: a position bias is as large as scores."""
    if isinstance(term, Tensor) and term.ndim and torch.equal(term, term[:1].expand_as(term)):
        return term[:1].clone().expand_as(term)
    return term


def advance(model: PreTrainedModel, blocks: LayerBlocks, states: list[State]) -> list[State]:
    """The batches after an encoder layer. Raises MPC-602 if they are not finite."""
    layer = model.get_submodule(blocks.site.layer)
    after = []
    for state in states:
        for _ in range(blocks.calls):
            output = state.through(layer)
            state = replace(state, hidden=output[0] if isinstance(output, tuple) else output)
        if not torch.isfinite(state.hidden[state.real]).all():
            raise not_finite(model, blocks.site.layer)
        after.append(state)
    return after


def refuse_other(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Raises MPC-604 unless the teacher has the student's weights, c and γ aside, and its labels in their order."""
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
    if task_of(teacher.config, type(teacher).__name__) != task_of(student.config, type(student).__name__):
        what = "the teacher's are not the student's, in their order"
        raise MpcifyError(604, "labels", what, "name the model that the student was converted from")
