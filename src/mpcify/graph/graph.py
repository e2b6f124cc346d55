"""The graph: a model with fixed batch and length as a flat list of operations, each of a kind in `kinds`.

Operations stand in the order in which they run; each is named by its one output. Inputs are tagged with the role that
holds them. Weights are inputs held by the `owner`; their values live apart, as a mapping from name to array (float32,
safetensors on disk), and no operation holds a constant that depends on them.
"""

import math
from collections.abc import ItemsView, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mpcify.errors import MpcifyError
from mpcify.graph.about import AGAIN, About
from mpcify.graph.kinds import Stage
from mpcify.jsontext import parse_json

FORMAT = 1
Holder = Literal["owner", "client", "public"]
Rows = Literal["tokens", "scores", "heads", "all"]
Part = Literal["linear", "attention", "activation", "layernorm", "embedding", "head"]

MOST_BYTES = 1 << 25  # of a graph's file; 24 layers take half a megabyte
MOST_LEVELS = 32  # of objects and lists inside each other


@dataclass(frozen=True)
class Encoding:
    """How an input holds a weight, if not as numbers: the integers of the weight `of`, divided by `room`.

    They are what the ring holds of the quotient; nothing but integers is multiplied with them.
    """

    of: str
    room: int


@dataclass(frozen=True)
class Input:
    """An input: who holds it, and its shape. encoding: of a weight that is held as integers; None: numbers."""

    name: str
    holder: Holder
    shape: tuple[int, ...]
    encoding: Encoding | None = None


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
    about: what is public of the model, for requests and reports; None for a graph of no model.
    ranges: declared ranges, operation name → {quantity: (least, largest)}; empty if none are declared.
    """

    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    batch: int
    length: int
    about: About | None = None
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    def held_by(self, holder: Holder) -> tuple[Input, ...]:
        """The inputs of a holder, in their order."""
        return tuple(item for item in self.inputs if item.holder == holder)

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
        """This graph, if it keeps every rule of the stage that its kinds belong to, see `check`. Raises MPC-404."""
        from mpcify.graph.check import check, stage_of

        check(self, stage_of(self))
        return self

    def to_json(self) -> dict[str, Any]:
        """The graph as a JSON object; it holds no weight."""
        values = asdict(replace(self, about=None))
        values["inputs"] = [input_json(item) for item in self.inputs]
        return {"format": FORMAT, **values, "about": {} if self.about is None else self.about.to_json()}

    @staticmethod
    def from_json(values: Any) -> "Graph":
        """The graph in a JSON object, checked. Raises MPC-404, whatever the object is."""
        from mpcify.graph.check import check_received

        if not is_shallow(values):
            raise broken("it holds objects inside objects without an end")
        try:
            graph = read_graph(values)
        except (TypeError, ValueError, OverflowError):
            raise broken("a field is missing, unknown or of the wrong type") from None
        check_received(graph.check())
        return graph

    @staticmethod
    def parse(text: str, stage: Stage = "lowered") -> "Graph":
        """The graph in the text of a file that was exported (or in one of another stage). Raises MPC-404."""
        from mpcify.graph.check import check, check_exported

        try:
            values = parse_strictly(text)
        except ValueError:
            raise broken("it cannot be read") from None
        graph = Graph.from_json(values)
        check(graph, stage)
        if stage == "lowered":
            check_exported(graph)
        return graph

    @staticmethod
    def read(path: Path, stage: Stage = "lowered") -> "Graph":
        """The graph in a file, see `parse`. Raises MPC-404."""
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise ValueError
            text = content.decode()
        except (OSError, ValueError):
            raise MpcifyError(404, str(path), "the graph cannot be read", AGAIN) from None
        return Graph.parse(text, stage)


def parse_strictly(text: str) -> Any:
    """The JSON value in a text; a key twice, NaN and infinity are no JSON. Raises ValueError."""
    hooks = {"object_pairs_hook": read_object, "parse_constant": refuse_constant, "parse_float": read_float}
    return parse_json(text, **hooks)


def read_graph(values: Any) -> Graph:
    """The graph in a JSON object, not yet checked. Raises TypeError or ValueError."""
    names = ("format", "inputs", "operations", "outputs", "batch", "length", "about", "ranges")
    version, inputs, operations, outputs, batch, length, about, ranges = fields(values, *names)
    if version != FORMAT or isinstance(version, bool):
        raise broken(f"its format is not {FORMAT}")
    return Graph(
        inputs=tuple(map(read_input, items(inputs))),
        operations=tuple(map(read_operation, items(operations))),
        outputs=items(outputs),
        batch=batch,
        length=length,
        about=None if about == {} else About.from_json(about),
        ranges={name: {key: read_range(pair) for key, pair in named(entry)} for name, entry in named(ranges)},
    )


def input_json(item: Input) -> dict[str, Any]:
    """An input as a JSON object, in which its holder is called its role."""
    encoding = {} if item.encoding is None else {"encoding": asdict(item.encoding)}
    return {"name": item.name, "role": item.holder, "shape": item.shape, **encoding}


def read_input(value: Any) -> Input:
    """An input, see `read_graph`."""
    if isinstance(value, Mapping) and "encoding" in value:
        name, holder, shape, encoding = fields(value, "name", "role", "shape", "encoding")
        return Input(name, holder, items(shape), Encoding(*fields(encoding, "of", "room")))
    name, holder, shape = fields(value, "name", "role", "shape")
    return Input(name, holder, items(shape))


def read_operation(value: Any) -> Operation:
    """An operation, see `read_graph`; a list among its attributes is a tuple."""
    names = ("name", "kind", "inputs", "shape", "attributes", "layer", "part", "rows")
    name, kind, inputs, shape, attributes, layer, part, rows = fields(value, *names)
    given = {key: tuple(item) if isinstance(item, list) else item for key, item in named(attributes)}
    return Operation(name, kind, items(inputs), items(shape), given, layer, part, rows)


def read_range(value: Any) -> tuple[float, float]:
    """A declared range, see `read_graph`."""
    least, largest = items(value)
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (least, largest)):
        raise TypeError
    return float(least), float(largest)


def fields(value: Any, *names: str) -> tuple[Any, ...]:
    """The fields of a JSON object that has these and no others. Raises TypeError."""
    if not isinstance(value, Mapping) or value.keys() != set(names):
        raise TypeError
    return tuple(value[name] for name in names)


def items(value: Any) -> tuple[Any, ...]:
    """The items of a JSON list. Raises TypeError."""
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(value)


def named(value: Any) -> ItemsView[str, Any]:
    """The fields of a JSON object, whatever their names. Raises TypeError."""
    if not isinstance(value, Mapping):
        raise TypeError
    return value.items()


def is_shallow(value: Any) -> bool:
    """Whether JSON has a depth that code which calls itself may walk."""
    level = [value]
    for _ in range(MOST_LEVELS):
        inner = [list(item.values()) if isinstance(item, Mapping) else item for item in level]
        level = [child for item in inner if isinstance(item, (list, tuple)) for child in item]
        if not level:
            return True
    return False


def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without a key twice. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def read_float(text: str) -> float:
    """A number that is finite. Raises ValueError."""
    value = float(text)
    if math.isinf(value):
        raise ValueError
    return value


def refuse_constant(text: str) -> float:
    """NaN and the infinities are no JSON. Raises ValueError."""
    raise ValueError


def broken(what: str) -> MpcifyError:
    """The error for what is not a graph."""
    return MpcifyError(404, "graph", what, AGAIN)
