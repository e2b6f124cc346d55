"""What a model really calls, found by watching one forward: the proof that nothing escapes a replacement."""

import copy
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import config as fx_config
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.masking_utils import AttentionMaskInterface

from mpcify.conversion.facts import longest_text, takes_images, takes_segments
from mpcify.conversion.families import TESTED_FAMILY, TESTED_FAMILY_NAMED, family_of
from mpcify.conversion.position_bias import adapt
from mpcify.conversion.student import LayerSites, encoder_layers
from mpcify.errors import MpcifyError
from mpcify.replacements.modules import EXPORTING, Activation, key_mask, refuse_unknown_terms

PROBE = "mpcify-probe"
# Held while a model is built, watched or traced: transformers' tables and torch's tracing are the whole process's.
ALONE = threading.RLock()
ACTIVATION_CLASSES = tuple(
    {entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values()} | {nn.GELU, Activation}
)
# Torch's tracing then does not note the code that each node comes from, a third of its time. Older ones ignore it.
NO_LINES = "do_not_emit_stack_traces"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what a weight may be stored as
# What no encoder layer may still hold once its functions are swapped.
FOREIGN = re.compile(
    r"aten\.(_?softmax|_?safe_softmax|scaled_dot_product_\w+|gelu|relu|silu|sigmoid|tanh|erf|exp|elu|mish|hardtanh)_?\b"
)


@dataclass(frozen=True)
class Survey:
    """What a forward called: the encoder layers, and the functions outside them.

    kept: (module, function) of the head's activations.
    """

    layers: tuple[LayerSites, ...]
    kept: tuple[tuple[str, str], ...]


def layer_path(module: str) -> str:
    """The encoder layer that a module belongs to: its path up to the first number ("" outside every layer)."""
    match = re.match(r"(.*?\.\d+)(?:\.|$)", module)
    return match[1] if match else ""


def sample_inputs(model: PreTrainedModel, batch: int = 1, length: int = 8) -> dict[str, Tensor]:
    """Inputs of the right shapes: embeddings and mask (and token types) of `length` tokens, or pixels; all ones.

    Of fewer tokens if the model does not take so many.
    """
    config = model.config
    if takes_images(model):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.ones(batch, config.num_channels, height, width)}
    width, length = model.get_input_embeddings().weight.shape[1], min(length, longest_text(model))
    inputs = {"inputs_embeds": torch.ones(batch, length, width), "attention_mask": torch.ones(batch, 1, 1, length)}
    if takes_segments(model):
        inputs["token_type_ids"] = torch.zeros(batch, length, dtype=torch.long)
    return inputs


@contextmanager
def probing(seen: list[tuple[nn.Module, int]]) -> Iterator[None]:
    """While open, the attention implementation PROBE exists; it notes who calls it, with how many heads.

    The caller holds ALONE.
    """

    def attention(
        module: nn.Module, query: Tensor, *_: Any, score_bias: Tensor | None = None, **terms: Any
    ) -> tuple[Tensor, None]:
        terms["is_causal"] = terms.get("is_causal") or getattr(module, "is_causal", False)
        refuse_unknown_terms(terms)
        seen.append((module, query.shape[1]))
        return query.transpose(1, 2).contiguous(), None

    AttentionInterface.register(PROBE, attention)
    AttentionMaskInterface.register(PROBE, key_mask)
    try:
        yield
    finally:
        AttentionInterface._global_mapping.pop(PROBE)
        AttentionMaskInterface._global_mapping.pop(PROBE)


def unproven(where: str, what: str) -> MpcifyError:
    """The error for a model whose forward does not prove the conversion."""
    return MpcifyError(204, where, what, TESTED_FAMILY_NAMED)


class Listener(TorchDispatchMode):
    """Hears which activation modules a forward calls, and which non-linear functions, in which module."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = [""]
        self.activations: dict[str, None] = {}
        self.functions: list[tuple[str, str]] = []

    def follow(self, names: dict[nn.Module, str]) -> None:
        """Keeps `stack` at the module that is running."""
        for module, name in names.items():
            module.register_forward_pre_hook(lambda *_, name=name: self.enter(name))
            module.register_forward_hook(lambda *_: self.leave())
            if isinstance(module, ACTIVATION_CLASSES):
                module.register_forward_hook(lambda *_, name=name: self.activations.setdefault(name))

    def enter(self, name: str) -> None:
        self.stack.append(name)

    def leave(self) -> None:
        self.stack.pop()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match = FOREIGN.match(str(function))
        if match:
            self.functions.append((self.stack[-1], match[1]))
        return function(*args, **(kwargs or {}))


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turns whatever a model raises while it runs or is traced into MPC-204; our own errors pass."""
    try:
        yield
    except MpcifyError:
        raise
    except Exception as problem:
        raise unproven(where, f"the model cannot be traced ({type(problem).__name__})") from problem


def survey(kind: type[PreTrainedModel], config: Any) -> tuple[Survey, PreTrainedModel]:
    """Watches one forward of an empty twin of a teacher's class; what it called, and the twin.

    Raises MPC-203 and MPC-204 if its attention or its activations cannot be swapped.
    """
    seen: list[tuple[nn.Module, int]] = []
    listener = Listener()
    with ALONE, probing(seen), torch.device("meta"), refusing(config.model_type):
        twin = meta_twin(kind, config)
        names: dict[nn.Module, str] = {module: name for name, module in twin.named_modules()}
        listener.follow(names)
        inputs = {name: value.to("meta") for name, value in sample_inputs(twin).items()}
        if "attention_mask" in inputs:  # two axes, so that the model makes its own mask of it, and ours sees which
            inputs["attention_mask"] = inputs["attention_mask"][:, 0, 0]
        with torch.no_grad(), listener:
            twin.eval()(**inputs)
    attentions = {names[module]: heads for module, heads in seen}
    if not attentions:
        raise MpcifyError(203, config.model_type, "its attention ignores a replacement", TESTED_FAMILY)
    layers = []
    for attention, heads in attentions.items():
        layer = layer_path(attention)
        inner = [name for name in listener.activations if layer and layer_path(name) == layer]
        if len(inner) != 1:
            raise unproven(attention, f"its layer calls {len(inner)} activation modules instead of one")
        layers.append(LayerSites(layer, attention, inner[0], heads))
    if len({site.layer for site in layers}) != len(layers):
        raise unproven(layers[0].layer, "a layer calls more than one attention")
    if len(seen) != (expected := attention_calls(config, len(layers))):
        raise unproven(config.model_type, f"a forward calls {len(seen)} attentions in {expected} layers")
    kept = dict.fromkeys(
        call for call in listener.functions if layer_path(call[0]) not in {site.layer for site in layers}
    )
    return Survey(tuple(layers), tuple(kept)), twin


HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def plain_values(module: nn.Module) -> dict[str, Any]:
    """A module's own numbers and words (scaling, eps, …), which decide what it computes as its class does."""
    # of no effect here, or looked at elsewhere
    kept = ("training", "name_or_path", "attn_implementation", "gradient_checkpointing", "chunk_size_feed_forward")
    values = {name: value for name, value in vars(module).items() if name not in kept}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str | tuple)}


def refuse_strangers(model: PreTrainedModel, twin: PreTrainedModel) -> None:
    """Raises MPC-206 if something changed the model: a module, a method, a hook, a number, or a weight's shape."""
    expected = dict(twin.named_modules())
    for name, module in model.named_modules():
        own = expected.pop(name, None)
        where = name or type(model).__name__
        if type(own).__name__ != type(module).__name__ or (name and not is_built_as(module, own)):
            raise customised(where, f"a {type(module).__name__} stands where its class builds another module")
        if "forward" in vars(module):
            raise customised(where, "its forward is replaced")
        for hooks in HOOKS:
            # transformers leaves hooks of its own behind, which only note outputs
            if any(not str(hook.__module__).startswith("transformers.") for hook in getattr(module, hooks).values()):
                raise customised(where, "it has hooks")
        theirs = plain_values(own)  # type: ignore[arg-type]
        for field, value in plain_values(module).items():
            if (
                field in theirs
                and not field.startswith("_")
                and theirs[field] != value
                and not isinstance(module, nn.Dropout)
            ):
                raise customised(where, f"its {field} is not what its config says")
    if expected:
        raise customised(next(iter(expected)), "the module is missing")
    state = twin.state_dict()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise customised(name, "it is no tensor, as of a quantised model")
        if name in state and state[name].shape != value.shape:
            raise customised(name, "its shape is not what its config says")
        if name in state and state[name].is_floating_point() and value.dtype not in FLOATS:
            raise customised(name, f"it holds {str(value.dtype).removeprefix('torch.')}, not plain floats")


def is_built_as(module: nn.Module, twin: nn.Module | None) -> bool:
    """Whether a module is of its twin's class, or of the one that an adapter of ours in the twin stands for."""
    return type(module) in type(twin).__mro__[:2]


def customised(where: str, what: str) -> MpcifyError:
    """The error for a model that something else has changed."""
    return MpcifyError(206, where, what, "undo the customisation (merge adapters, say), save the model and try again")


def export_program(model: PreTrainedModel, batch: int, length: int) -> torch.export.ExportedProgram:
    """The model's trace at a fixed shape: each replacement one node, weights as named parameters."""
    inputs = sample_inputs(model, batch, length)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Tensor) -> Tensor:
            plain = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
            return self.model(**inputs, **plain).logits

    with ALONE:
        training, exporting = model.training, EXPORTING.set(True)
        traced_lines = getattr(fx_config, NO_LINES, False)
        setattr(fx_config, NO_LINES, True)
        model.eval()
        try:
            with torch.no_grad(), refusing(model.config.model_type):
                return torch.export.export(Logits(), (), inputs, strict=False)
        finally:
            model.train(training)
            EXPORTING.reset(exporting)
            setattr(fx_config, NO_LINES, traced_lines)


def module_path(node: torch.fx.Node) -> str:
    """The path of the innermost module that a node of an exported program comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return path.removeprefix("model.")


def attention_calls(config: Any, layers: int) -> int:
    """How many attentions one forward calls: one a layer, more than there are modules if a module is called again."""
    return int(getattr(config, "num_hidden_layers", None) or layers)


def prove(program: torch.export.ExportedProgram, student: PreTrainedModel) -> None:
    """Raises MPC-204 unless a student's trace calls our functions and no other, in every encoder layer."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    layers = {site.layer for site in encoder_layers(student)}
    expected = attention_calls(student.config, len(layers))
    for name in ("attention", "activation"):
        count = sum(str(node.target) == f"mpcify.{name}.default" for node in nodes)
        if count != expected:
            raise unproven("the traced model", f"{count} of {expected} layers call the replaced {name}")
    for node in nodes:
        path = module_path(node)
        if FOREIGN.match(str(node.target)) and layer_path(path) in layers:
            raise unproven(path, f"the layer still calls {node.target}")


def own_activation_name(config: Any) -> str:
    """The activation that a teacher's config names."""
    return str(getattr(config, family_of(config.model_type).activation_field, ""))


def meta_twin(kind: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    """An empty model of a class, on the current device, with the probe as its attention."""
    twin = kind._from_config(copy.deepcopy(config), attn_implementation=PROBE)
    adapt(twin)
    return twin
