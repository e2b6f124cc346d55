"""The two residual sums of an encoder layer, found by watching one forward: no names of any family.

Every encoder layer adds two projections to what enters them: h + W_O a, a the attention's output, and h + W₂ f, f the
activation's. A LayerNorm reads each sum; in a pre-LayerNorm layer (ViT) the second one leaves the layer as it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mpcify.conversion.student import LayerSites, encoder_layers
from mpcify.conversion.survey import sample_inputs, unproven
from mpcify.errors import MpcifyError
from mpcify.replacements.forms import FORMS, SOFTMAX
from mpcify.replacements.modules import Activation


class Call(NamedTuple):
    """One call of a module."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def input(self) -> Tensor:
        """What the module was called on."""
        return self.args[0]

    @property
    def result(self) -> Tensor:
        """The output, or the first of several."""
        return self.output[0] if isinstance(self.output, tuple) else self.output


class Halt(Exception):  # noqa: N818 - a signal, no error
    """Ends a forward once all that was wanted is known."""


@contextmanager
def watching(modules: Iterable[nn.Module], last: nn.Module | None = None) -> Iterator[list[Call]]:
    """While open, lists the calls of some modules in the order in which they end; the forward ends with `last`'s."""
    calls: list[Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(module, args, kwargs, output))
        if module is last:
            raise Halt

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in dict.fromkeys(modules)]
    try:
        yield calls
    except Halt:
        pass
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Block:
    """A residual sum h + W x: the path of W, and of the module that reads the sum (None if it leaves the layer)."""

    projection: str
    norm: str | None


@dataclass(frozen=True)
class LayerBlocks:
    """An encoder layer's sites, its two residual sums, W₁ between them, and how often one forward calls it.

    ALBERT calls one layer many times.
    """

    site: LayerSites
    attention: Block
    inner: str
    feed_forward: Block
    calls: int


def find_blocks(student: PreTrainedModel) -> list[LayerBlocks]:
    """The residual sums of every encoder layer, from one forward of random inputs.

    Raises MPC-204 if a layer is not two sums h + W x, with h what enters the block (a scale on W x, say), or if a
    layer takes anything but what the last one gave; MPC-602 if they are not finite.
    """
    sites = encoder_layers(student)
    names = {module: name for name, module in student.named_modules()}
    layers = {student.get_submodule(site.layer) for site in sites}
    watched = [module for module in names if isinstance(module, nn.Linear | nn.LayerNorm | Activation)]
    generator = torch.Generator().manual_seed(0)
    inputs = sample_inputs(student)
    for name in {"inputs_embeds", "pixel_values"} & set(inputs):
        inputs[name] = torch.randn(inputs[name].shape, generator=generator)
    inputs = {name: value.to(student.device) for name, value in inputs.items()}
    with evaluating(student), exact_attention(student), torch.no_grad(), watching([*watched, *layers]) as calls:
        student(**inputs)
    ends = [call for call in calls if call.module in layers]
    for call in ends:
        if not torch.isfinite(call.result).all():
            raise not_finite(student, names[call.module])
    for before, after in pairwise(ends):
        if not torch.equal(before.result, after.input) or not same_terms(before, after):
            raise unproven(names[after.module], "it takes more than what the layer before it gives")
    found = []
    for site in sites:
        layer = student.get_submodule(site.layer)
        end = next(index for index, call in enumerate(calls) if call.module is layer)
        inner = [call for call in calls[:end] if names[call.module].startswith(site.layer + ".")]
        attention, first, feed_forward = blocks_of(site, inner, calls[end], names)
        found.append(LayerBlocks(site, attention, first, feed_forward, sum(call.module is layer for call in ends)))
    return found


def blocks_of(
    site: LayerSites, inner: list[Call], end: Call, names: Mapping[nn.Module, str]
) -> tuple[Block, str, Block]:
    """A layer's two sums, and W₁, which feeds the activation: W_O is the linear called before it, W₂ the one after."""
    activation = next(index for index, call in enumerate(inner) if names[call.module] == site.activation)
    linear = [index for index, call in enumerate(inner) if isinstance(call.module, nn.Linear)]
    before, after = ([i for i in linear if i < activation], [i for i in linear if i > activation])
    if len(before) < 2 or not after:
        raise unproven(site.layer, "its linear layers are not those of attention and feed-forward")
    streams, blocks = [end.input], []
    for index in (before[-2], after[0]):
        projection = inner[index]
        norm = next((call for call in inner[index:] if isinstance(call.module, nn.LayerNorm)), None)
        total = end.result if norm is None else norm.input
        rounding = 1e-5 * total.abs().max()
        if all((total - projection.result - stream).abs().max() > rounding for stream in streams):
            raise unproven(names[projection.module], "its output is not simply added to what enters the block")
        blocks.append(Block(names[projection.module], None if norm is None else names[norm.module]))
        streams = [total] if norm is None else [total, norm.result]
    return blocks[0], names[inner[before[-1]].module], blocks[1]


def same_terms(a: Call, b: Call) -> bool:
    """Whether two layers were called with the same further terms (the mask)."""
    pairs = zip([*a.args[1:], *a.kwargs.values()], [*b.args[1:], *b.kwargs.values()], strict=False)
    return len(a.args) == len(b.args) and a.kwargs.keys() == b.kwargs.keys() and all(x is y for x, y in pairs)


def not_finite(student: PreTrainedModel, where: str) -> MpcifyError:
    """The error for values that are not finite before any training. where: the module that they leave."""
    forms = [FORMS[str(student.get_submodule(site.attention).mpcify_attention)] for site in encoder_layers(student)]
    what, remedy = (
        "its output is not finite",
        "check the teacher's accuracy and the calibration data, or choose another recipe",
    )
    if steep := next((form for form in forms if form.power.steep), None):
        what += f": {steep.power.name} ({steep.name}) overflows on scores so high"
        remedy = "calibrate with a teacher, which scales the scores, or choose 2quad-freediv"
    return MpcifyError(602, where, what, remedy)


@contextmanager
def exact_attention(student: PreTrainedModel) -> Iterator[None]:
    """While open, a student's attentions are softmax, which no score makes overflow."""
    attentions = [student.get_submodule(site.attention) for site in encoder_layers(student)]
    names = [module.mpcify_attention for module in attentions]
    for module in attentions:
        module.mpcify_attention = SOFTMAX.name  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, name in zip(attentions, names, strict=True):
            module.mpcify_attention = name


@contextmanager
def on_cpu(model: PreTrainedModel) -> Iterator[None]:
    """While open, a model is on the CPU, where it is traced."""
    device = model.device
    model.to("cpu")
    try:
        yield
    finally:
        model.to(device)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """While open, the models are in evaluation mode."""
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
