"""The graph: a model with fixed batch and length as a flat list of a few dozen kinds of operation.

Operations stand in the order in which they run; each is named by its one output. Inputs are tagged with the party that
holds them. Weights are inputs with the role `owner`; their values live apart, as a mapping from name to array (float32,
safetensors on disk), and no operation holds a constant that depends on them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mpcify.errors import MpcifyError
from mpcify.graph.about import About

FORMAT = 1
Role = Literal["owner", "client", "public"]
Rows = Literal["tokens", "scores", "heads", "all"]
Part = Literal["linear", "attention", "activation", "layernorm", "embedding", "head"]

# kind: (number of inputs, attributes). x, a, b are inputs; shapes are numpy's, with broadcasting where it says so.
KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    # products: each is one truncation
    "linear": (3, ()),  # x @ w + b; x (…, p), w (p, q), b (q)
    "matmul": (2, ("transpose",)),  # a @ b, batched over equal leading axes; transpose: a @ bᵀ (last two axes)
    "mul": (2, ()),  # a · b with broadcasting, both secret
    "square": (1, ()),  # x²
    "scale": (1, ("by",)),  # x · by, by a public number
    # a square and the product that reads it: two truncations of the product, none of the square (see `postpone`)
    "square-linear": (3, ("room",)),  # x² @ (room · w) + b
    "square-matmul": (2, ("transpose",)),  # a² @ b
    # local
    "add": (2, ()),  # a + b with broadcasting
    "sub": (2, ()),  # a − b with broadcasting
    "shift": (1, ("by",)),  # x + by, by a public number
    "sum": (1, ("axis",)),  # over one axis, kept with size 1
    "reshape": (1, ("shape",)),
    "transpose": (1, ("axes",)),
    "slice": (1, ("axis", "start", "stop")),
    "concat": (-1, ("axis",)),  # any number of inputs
    "broadcast": (1, ("shape",)),
    # functions with comparisons, divisions or series
    "max": (1, ("axis",)),  # over one axis, kept with size 1
    "exp": (1, ("t",)),  # under shares (1 + x/2ᵗ)^(2ᵗ)
    "reciprocal": (1, ()),
    "tanh": (1, ()),
    "relu": (1, ()),
    "gelu": (1, ()),  # x/2 · (1 + erf(x/√2))
    "gelu-tanh": (1, ()),  # x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))
    "gelu-poly": (1, ()),  # PUMA's piecewise polynomial
    "layernorm": (3, ("eps",)),  # (x − mean) · rsqrt(variance + eps) · g + b over the last axis
    # as JAX writes them: what the benchmark's `naive` baseline runs
    "softmax": (1, ("axis",)),
    "gelu-erfc": (1, ()),
    # composites, which the passes lower away: no engine sees them
    "attention": (-1, ("attention", "centre_keys", "t", "scaling", "length")),
    "activation": (1, ("activation",)),
}
COMPOSITES = ("attention", "activation")


@dataclass(frozen=True)
class Input:
    """An input: who holds it, and its shape."""

    name: str
    role: Role
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One operation, named by its output. layer: the encoder layer, None outside; part: what it counts as in a profile.

    rows: which of its values belong to real tokens: "tokens" (axis 1 runs over tokens), "scores" (the last two axes are
    queries and keys), "heads" (axis 2 runs over tokens), "all" (no padding in it).
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layer: int | None = None
    part: Part = "head"
    rows: Rows = "all"

    @property
    def where(self) -> str:
        """Layer, part and name, as an error text says them."""
        place = self.part if self.layer is None else f"layer {self.layer} {self.part}"
        return f"{place} ({self.name})"


@dataclass(frozen=True)
class Graph:
    """A model with fixed batch and length.

    inputs, operations, outputs: see the module. batch: requests at once; length: tokens (or patches) a request.
    about: what is public of the model, for requests and reports; None for a graph of none.
    ranges: declared ranges, operation name to {quantity: (least, largest)}; empty where none are declared.
    """

    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    batch: int
    length: int
    about: About | None = None
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    def role(self, role: Role) -> tuple[Input, ...]:
        """The inputs that a party holds."""
        return tuple(item for item in self.inputs if item.role == role)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every input and of every operation's output."""
        return {item.name: item.shape for item in self.inputs} | {item.name: item.shape for item in self.operations}

    def consumers(self) -> dict[str, list[Operation]]:
        """The operations that read each value."""
        readers: dict[str, list[Operation]] = {name: [] for name in self.shapes()}
        for operation in self.operations:
            for name in dict.fromkeys(operation.inputs):
                readers[name].append(operation)
        return readers

    def count(self) -> dict[str, int]:
        """How many operations there are of each kind."""
        kinds = [operation.kind for operation in self.operations]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def with_ranges(self, ranges: Mapping[str, Mapping[str, tuple[float, float]]]) -> "Graph":
        """The same graph with declared ranges."""
        return replace(self, ranges=ranges)

    def check(self) -> "Graph":
        """This graph, if every name is defined once and before its use, and every kind and attribute is known.

        MPC-404.
        """
        known: set[str] = set()
        for item in self.inputs:
            if item.name in known or item.role not in ("owner", "client", "public"):
                raise broken(f"input {item.name} is defined twice or belongs to nobody")
            known.add(item.name)
        for operation in self.operations:
            count, attributes = KINDS.get(operation.kind, (-2, ()))
            if count == -2 or set(operation.attributes) != set(attributes):
                raise broken(f"operation {operation.name} has an unknown kind or attributes")
            if (
                operation.name in known
                or not known.issuperset(operation.inputs)
                or count not in (-1, len(operation.inputs))
            ):
                raise broken(f"operation {operation.name} has wrong inputs, or a name that is taken")
            known.add(operation.name)
        if not self.outputs or not known.issuperset(self.outputs):
            raise broken("an output is not defined")
        return self

    def to_json(self) -> dict[str, Any]:
        """The graph as a JSON object; it holds no weight."""
        about = {} if self.about is None else self.about.to_json()
        return {"format": FORMAT, **asdict(replace(self, about=None)), "about": about}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Graph":
        """The graph in a JSON object, checked. Raises MPC-404."""
        try:
            if values["format"] != FORMAT:
                raise broken(f"format {values['format']!r} is not {FORMAT}")
            return Graph(
                inputs=tuple(Input(**{**item, "shape": tuple(item["shape"])}) for item in values["inputs"]),
                operations=tuple(
                    Operation(**{**item, "inputs": tuple(item["inputs"]), "shape": tuple(item["shape"])})
                    for item in values["operations"]
                ),
                outputs=tuple(values["outputs"]),
                batch=int(values["batch"]),
                length=int(values["length"]),
                about=None if values["about"] == {} else About.from_json(values["about"]),
                ranges={
                    name: {key: (float(pair[0]), float(pair[1])) for key, pair in entry.items()}
                    for name, entry in values["ranges"].items()
                },
            ).check()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise broken("a field is missing or has the wrong type") from None

    @staticmethod
    def read(path: Path) -> "Graph":
        """The graph in a JSON file. Raises MPC-404."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise MpcifyError(404, str(path), "the graph cannot be read", "export the model again") from None
        return Graph.from_json(values)


def broken(what: str) -> MpcifyError:
    """The error for a graph that is none."""
    return MpcifyError(404, "graph", what, "export the model again with this version of mpcify")
