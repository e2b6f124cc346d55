"""From a torch trace to our graph: every ATen node to the graph's words, the replacements to composites.

Constants of the trace (positions, shapes) are computed here; weights stay inputs.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.fx import Node
from torch.fx.node import map_aggregate
from transformers import PreTrainedModel

from mpcify.conversion.facts import longest_text, takes_images
from mpcify.conversion.families import TESTED_FAMILY
from mpcify.conversion.position_bias import bias_by_distance, spread
from mpcify.conversion.student import encoder_layers
from mpcify.conversion.survey import export_program, layer_path, module_path, prove
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder, Weights
from mpcify.graph.graph import Graph, Part

IDENTITIES = ("dropout", "contiguous", "clone", "alias", "detach", "to", "_to_copy", "lift_fresh_copy")
PARTS: dict[str, Part] = {"attention": "attention", "activation": "activation", "layernorm": "layernorm"}


class Tracer:
    """Reads one exported program. `values` holds, for each node, a name in the graph, or a constant."""

    def __init__(self, student: PreTrainedModel, batch: int, length: int, embeddings: str) -> None:
        self.student, self.embeddings = student, embeddings
        self.builder = Builder(batch, length)
        self.values: dict[Node, Any] = {}
        self.layers = {site.layer for site in encoder_layers(student)}
        self.layer, self.number = "", -1  # the layer that runs, and which in the order of execution
        self.visited: set[str] = set()  # the linear modules it has called
        self.path = ""
        self.entered = False

    def run(self) -> tuple[Graph, Weights]:
        """The graph, with composites, and its weights."""
        program = export_program(self.student, self.builder.batch, self.builder.length)
        prove(program, self.student)
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        state = {**program.state_dict, **program.constants}
        outputs: list[str] = []
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.placeholder(node, names, state)
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "output":
                outputs = [self.values[item] for item in node.args[0]]
        self.builder.layer, self.builder.part = None, "head"
        last = self.builder.operations.pop(outputs[0])
        logits = self.builder.emit("logits", last.kind, last.inputs, **last.attributes)
        return self.builder.finish(None, [logits]), self.builder.weights

    def placeholder(self, node: Node, names: dict[str, str], state: dict[str, Any]) -> Any:
        """A weight by its name, a buffer's value, or one of the client's inputs."""
        if node.name in names:
            name, tensor = names[node.name], state[names[node.name]]
            if not tensor.is_floating_point():
                return tensor
            self.builder.layer = None
            return Weight(name.removeprefix("model."), tensor.detach().double().numpy())
        shape = tuple(node.meta["val"].shape)
        if node.name == "inputs_embeds":
            return self.embedded(shape)
        if node.name == "token_type_ids":
            return self.builder.input("segment", "client", (*shape, 1))
        return node.name  # pixels and the mask: their one reader knows what to do

    def embedded(self, shape: tuple[int, ...]) -> str:
        """The tokens' embeddings: the client's own input, or a product of one-hot rows with the owner's table."""
        if self.embeddings == "client":
            return self.builder.input("embeddings", "client", shape)
        table = self.student.get_input_embeddings().weight.detach().double().numpy()
        tokens = self.builder.input("tokens", "client", (*shape[:2], len(table)))
        word = self.builder.weight("word_embeddings", table)
        zero = self.builder.weight("word_embeddings.bias", np.zeros(table.shape[1]))
        return self.builder.emit("embeddings", "linear", (tokens, word, zero))

    def call(self, node: Node) -> Any:
        """One ATen node: a constant if nothing secret reaches it, else an operation."""
        target = str(node.target)
        name = target.split(".")[1] if "." in target else target
        arguments = torch.fx.node.map_arg(node.args, lambda item: self.values[item])
        secret = [item for item in flatten(arguments) if isinstance(item, (str, Weight, Lookup))]
        looked_up = [item for item in secret if isinstance(item, Lookup)]
        if len(looked_up) == len(secret):
            found = compute(node, arguments)
            return Lookup(looked_up[0].name, found) if looked_up else found
        if name in IDENTITIES:
            return arguments[0]
        self.enter(node, name)
        if looked_up and name != "attention":
            raise self.unknown(node)
        handler: Callable[..., Any] | None = getattr(self, f"aten_{name}", None)
        if handler is None:
            raise self.unknown(node)
        return handler(node, *arguments, **node.kwargs)

    def enter(self, node: Node, name: str) -> None:
        """Sets where the next operations belong. Layers count as they run: one with shared weights each time."""
        self.path = module_path(node)
        layer = layer_path(self.path)
        if layer not in self.layers:
            self.builder.layer, self.builder.part = None, "head" if self.entered else "embedding"
            return
        self.entered = True
        if layer != self.layer or (name == "linear" and self.path in self.visited):
            self.layer, self.number, self.visited = layer, self.number + 1, set()
        if name == "linear":
            self.visited.add(self.path)
        self.builder.layer = self.number
        self.path = f"layer.{self.builder.layer}.{self.path.removeprefix(layer).strip('.')}".rstrip(".")

    def emit(self, kind: str, inputs: tuple[str, ...], **attributes: Any) -> str:
        """Appends an operation, named after the module that calls it."""
        if self.builder.layer is not None:
            self.builder.part = PARTS.get(kind, "linear")
        plain = kind in ("linear", "layernorm", "activation", "attention")
        return self.builder.emit(
            self.path if plain and self.path else f"{self.path}.{kind}".strip("."), kind, inputs, **attributes
        )

    def unknown(self, node: Node) -> MpcifyError:
        """The error for a node that no word of the graph says."""
        return MpcifyError(401, module_path(node) or node.name, f"the model calls {node.target}", TESTED_FAMILY)

    def name(self, value: Any) -> str:
        """The graph's name of a value; a weight used as it is becomes an input."""
        return self.builder.weight(value.name, value.value) if isinstance(value, Weight) else value

    # One method an ATen operation; the arguments are ATen's own.

    def aten_linear(self, node: Node, x: str, weight: "Weight", bias: "Weight | None" = None) -> str:
        zero = Weight(weight.name.removesuffix("weight") + "bias", np.zeros(len(weight.value)))
        return self.linear(self.name(x), Weight(weight.name, weight.value.T), bias or zero)

    def linear(self, x: str, weight: "Weight", bias: "Weight") -> str:
        return self.emit("linear", (x, self.name(weight), self.name(bias)))

    def aten_layer_norm(
        self,
        node: Node,
        x: str,
        shape: list[int],
        g: "Weight | None" = None,
        b: "Weight | None" = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> str:
        if len(shape) != 1 or g is None or b is None:
            raise self.unknown(node)
        return self.emit("layernorm", (self.name(x), self.name(g), self.name(b)), eps=eps)

    def aten_embedding(self, node: Node, table: "Weight", index: Any, *_: Any) -> "str | Lookup":
        """Positions are a slice of their table; token types T₀ + s(T₁ − T₀) for the secret 0/1 segment s.

        What is looked up in any other way, an attention may read as its bias.
        """
        if index == "segment":
            first, second = table.value[0], table.value[1]
            return self.linear(
                "segment", Weight(f"{table.name}.step", (second - first)[None]), Weight(f"{table.name}.base", first)
            )
        rows = torch.unique(index.reshape(-1, index.shape[-1]), dim=0)
        start = int(rows[0, 0])
        if len(rows) == 1 and torch.equal(rows[0], torch.arange(start, start + len(rows[0]))):
            return self.emit("slice", (self.name(table),), axis=0, start=start, stop=start + len(rows[0]))
        if torch.unique(index).numel() == 1:
            return self.emit("slice", (self.name(table),), axis=0, start=start, stop=start + 1)
        return Lookup(table.name, torch.from_numpy(table.value)[index])

    def aten_conv2d(
        self, node: Node, pixels: str, weight: "Weight", bias: "Weight", stride: list[int], *rest: Any
    ) -> str:
        """A patch convolution: the client unfolds, the owner's product is linear.

        Output (batch, hidden, rows, columns).
        """
        batch, width, height, columns = node.meta["val"].shape
        kernel = tuple(weight.value.shape[2:])
        if pixels != "pixel_values" or tuple(stride) != kernel or any(item not in ([0, 0], [1, 1], 1) for item in rest):
            raise self.unknown(node)
        flat = weight.value.reshape(width, -1).T
        patches = self.builder.input("patches", "client", (batch, height * columns, len(flat)))
        hidden = self.linear(patches, Weight(weight.name, flat), bias)
        turned = self.emit("transpose", (hidden,), axes=(0, 2, 1))
        return self.emit("reshape", (turned,), shape=(batch, width, height, columns))

    def aten_attention(
        self,
        node: Node,
        q: str,
        k: str,
        v: str,
        mask: Any,
        bias: "Lookup | None",
        c: Any,
        log_gamma: Any,
        kind: str,
        centre: bool,
        t: int,
        scaling: float,
    ) -> str:
        extra = tuple(self.name(item) for item in (c, log_gamma) if item is not None)
        if bias is not None:
            extra = (self.score_bias(node, bias), *extra)
        self.builder.length = self.builder.shape(k)[2]  # for images only now known: patches and extra tokens
        attributes = {
            "attention": kind,
            "centre_keys": centre,
            "t": t,
            "scaling": scaling,
            "length": self.builder.shape(k)[2],
        }
        return self.emit("attention", (q, k, v, *extra), **attributes)

    def score_bias(self, node: Node, found: "Lookup") -> str:
        """A bias on scores as b (heads, 2N − 1), which serves every length. Raises MPC-401 for one that is not b's."""
        if self.by_distance is None or found.value.ndim != 4:
            raise self.unknown(node)
        expected = spread(self.by_distance, found.value.shape[-1])
        if not torch.equal(found.value, expected.expand_as(found.value)):
            raise self.unknown(node)
        return self.builder.weight(f"{found.name}/distances", self.by_distance.numpy())

    @cached_property
    def by_distance(self) -> torch.Tensor | None:
        """The student's b, float64."""
        found = bias_by_distance(self.student)
        return None if found is None else found.double()

    def aten_activation(self, node: Node, x: str, name: str) -> str:
        return self.emit("activation", (x,), activation=name)

    def aten_add(self, node: Node, a: Any, b: Any, alpha: float = 1) -> str:
        if isinstance(b, (int, float)):
            return self.emit("shift", (self.name(a),), by=float(b) * alpha)
        if alpha != 1 or isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            raise self.unknown(node)
        return self.emit("add", (self.name(a), self.name(b)))

    def aten_mul(self, node: Node, a: Any, b: Any) -> str:
        if isinstance(b, (int, float)):
            return self.emit("scale", (self.name(a),), by=float(b))
        raise self.unknown(node)

    def aten_div(self, node: Node, a: Any, b: Any) -> str:
        if isinstance(b, (int, float)):
            return self.emit("scale", (self.name(a),), by=1 / float(b))
        raise self.unknown(node)

    def reshaped(self, node: Node, x: Any, *_: Any) -> str:
        return self.emit("reshape", (self.name(x),), shape=tuple(node.meta["val"].shape))

    aten_view = aten_reshape = aten_flatten = aten_unsqueeze = aten_squeeze = reshaped

    def aten_expand(self, node: Node, x: Any, *_: Any, **__: Any) -> str:
        return self.emit("broadcast", (self.name(x),), shape=tuple(node.meta["val"].shape))

    def aten_transpose(self, node: Node, x: str, a: int, b: int) -> str:
        axes = list(range(len(self.builder.shape(x))))
        axes[a], axes[b] = axes[b], axes[a]
        return self.emit("transpose", (x,), axes=tuple(axes))

    def aten_permute(self, node: Node, x: str, axes: list[int]) -> str:
        return self.emit("transpose", (x,), axes=tuple(axes))

    def aten_slice(
        self, node: Node, x: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
    ) -> str:
        x = self.name(x)
        first, last, stride = slice(start, end, step).indices(self.builder.shape(x)[dim])
        if stride != 1:
            raise self.unknown(node)
        return self.emit("slice", (x,), axis=dim, start=first, stop=last)

    def aten_select(self, node: Node, x: Any, dim: int, index: int) -> str:
        x = self.name(x)
        index %= self.builder.shape(x)[dim]
        row = self.emit("slice", (x,), axis=dim, start=index, stop=index + 1)
        return self.emit("reshape", (row,), shape=tuple(node.meta["val"].shape))

    def aten_cat(self, node: Node, items: list[Any], dim: int = 0) -> str:
        return self.emit("concat", tuple(self.name(item) for item in items), axis=dim)

    def aten_tanh(self, node: Node, x: str) -> str:
        return self.emit("tanh", (x,))

    def aten_relu(self, node: Node, x: str) -> str:
        return self.emit("relu", (x,))

    def aten_gelu(self, node: Node, x: str, approximate: str = "none") -> str:
        return self.emit("gelu" if approximate == "none" else "gelu-tanh", (x,))


class Weight:
    """A weight that no operation has read yet: its name and value."""

    def __init__(self, name: str, value: np.ndarray) -> None:
        self.name, self.value = name, value


class Lookup:
    """What the owner looks up in a table at places that are public, and computes of it: the table's name, the values.

    Its shape changes with the length, so that it is no weight.
    """

    def __init__(self, name: str, value: torch.Tensor) -> None:
        self.name, self.value = name, value


def compute(node: Node, arguments: Any) -> Any:
    """What an ATen node gives, if all that it reads is known."""
    known = map_aggregate(arguments, lambda item: item.value if isinstance(item, Lookup) else item)
    options = {key: value for key, value in node.kwargs.items() if key not in ("layout", "pin_memory", "device")}
    return node.target(*known, **options)  # type: ignore[operator, misc]


def flatten(values: Any) -> list[Any]:
    """Every leaf of nested lists and tuples."""
    if isinstance(values, (list, tuple)):
        return [leaf for item in values for leaf in flatten(item)]
    return [values]


def trace_graph(student: PreTrainedModel, batch: int, length: int, embeddings: str = "client") -> tuple[Graph, Weights]:
    """A student's graph at a fixed shape, before any pass, and its weights in float64.

    embeddings: `client` (the client looks up its tokens) or `one-hot` (the table is the owner's). For images length
    counts for nothing: it is the number of patches, and one for each extra token.
    Raises MPC-204, MPC-401, and MPC-405 for a length that the model has no positions for.
    """
    if not takes_images(student) and not 1 < length <= longest_text(student):
        what = f"the model takes 2 to {longest_text(student)} tokens"
        raise MpcifyError(405, f"length {length}", what, "choose a length in between")
    return Tracer(student, batch, length, embeddings).run()
