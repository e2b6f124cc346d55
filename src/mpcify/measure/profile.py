"""Where the cost of a request goes: per operation, encoder layer and part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpcify.engines.cost import Cost
from mpcify.engines.engine import OUTPUT, Arrays
from mpcify.engines.plain import measure_ranges
from mpcify.graph.graph import Graph, Part
from mpcify.graph.ranges import declare
from mpcify.inference import PrivateModel
from mpcify.measure.sizing import Sizing
from mpcify.progress import Progress

PARTS: tuple[Part, ...] = ("embedding", "linear", "attention", "activation", "layernorm", "head")
USUAL_LENGTH = 128
STEPS = 4  # of a profile: opening the session, a request to warm up, one as a program, one operation by operation


@dataclass(frozen=True)
class OperationCost:
    """What one operation cost. layer: the encoder layer, None outside. part: what it counts as.

    An input stands under its name (part `embedding`: sharing it), an output as `output/NAME` (part `head`). offline:
    the part of it that was done ahead of the request, if the engine does anything ahead.
    """

    name: str
    layer: int | None
    part: Part
    seconds: float | None
    bytes: int
    rounds: float
    offline: Cost | None = None

    def to_json(self) -> dict[str, Any]:
        """The cost as a JSON object, in which its part is called its kind."""
        values = {"kind" if name == "part" else name: value for name, value in vars(self).items()}
        ahead = values.pop("offline")
        return values if ahead is None else {**values, "offline": ahead.to_json()}


@dataclass(frozen=True)
class Profile:
    """A request's cost by operation. cost: of the same request run as one program. sizing and openings (see
    `Rules.openings`): of an estimate.
    """

    about: Mapping[str, Any]
    operations: tuple[OperationCost, ...]
    cost: Mapping[str, Any]
    sizing: Sizing | None = None
    openings: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The profile as a JSON object."""
        values = {**self.about, "operations": [row.to_json() for row in self.operations], "cost": dict(self.cost)}
        if self.sizing is not None:
            values["sizing"] = self.sizing.to_json()
        if self.openings:
            values["openings"] = [dict(row) for row in self.openings]
        return values

    def rings(self) -> str:
        """The rings of what is opened, for people; nothing where there is one ring for all."""
        if not self.openings:
            return ""
        rings = [row["ring"] for row in self.openings]
        tightest = min(self.openings, key=lambda row: row["headroom_bits"])
        values = [row for row in self.openings if row["what"] != "root"] or self.openings
        coarsest = max(values, key=lambda row: row["error"] / (row["bound"] or 1.0))
        return (
            f"{len(rings)} openings in rings of {min(rings)} to {max(rings)} bits; "
            f"least headroom {tightest['headroom_bits']:.1f} bits ({tightest['operation']}), largest error "
            f"{coarsest['error']:.1e} in ±{coarsest['bound']:.3g} ({coarsest['operation']})"
        )

    def by_part(self) -> dict[str, dict[str, float]]:
        """Seconds, bytes and rounds of each part."""
        return {part: total(row for row in self.operations if row.part == part) for part in PARTS}

    def ahead_by_part(self) -> dict[str, dict[str, float]] | None:
        """What of that was done ahead of the request; None if the engine does nothing ahead."""
        if all(row.offline is None for row in self.operations):
            return None
        return {part: total(row.offline or Cost() for row in self.operations if row.part == part) for part in PARTS}

    def by_layer(self) -> dict[str, dict[str, dict[str, float]]]:
        """The same for each layer: `embedding`, `layer 0` …, `head`; places in the order in which they run."""
        places: dict[str, list[OperationCost]] = {}
        for row in self.operations:
            places.setdefault(row.part if row.layer is None else f"layer {row.layer}", []).append(row)
        ends = {"embedding": -1, "head": 1}
        ordered = sorted(places.items(), key=lambda item: ends.get(item[0], 0))
        return {
            name: {part: total(row for row in rows if row.part == part) for part in PARTS} for name, rows in ordered
        }


def total(rows: Iterable[OperationCost | Cost]) -> dict[str, float]:
    """Sums of costs."""
    chosen = list(rows)
    return {
        "seconds": sum(row.seconds or 0.0 for row in chosen),
        "bytes": sum(row.bytes for row in chosen),
        "rounds": sum(row.rounds for row in chosen),
    }


def profile(private: PrivateModel, progress: Progress | None = None) -> Profile:
    """Runs a request of made-up tokens (or pixels) whole, and then operation by operation.

    private: a compiled model; without a length of its own, 128 tokens or what it takes. progress: is called with how
    many of STEPS are done. Values are made up, as the cost does not depend on them. Raises what a request raises.
    """
    advance = progress or (lambda done: None)
    length = length_of(private)
    inputs = private.inputs(private.requests.sample(private.graph(length)), length)
    if not private.exported.declared:
        declare_made_up(private, length, inputs)
    session = private.open(length)
    advance(1)
    session.run(inputs)  # the first request of a session also warms it up
    advance(2)
    _, whole = session.run(inputs)
    advance(3)
    _, costs = session.profile(inputs)
    advance(4)
    about = {**described(private, length), "engine": private.engine.name, "protocol": private.engine.protocol}
    cost = replace(whole, setup=private.setup).to_json()
    return Profile({**about, "ring": private.engine.ring}, operation_costs(session.graph, costs), cost)


def declare_made_up(private: PrivateModel, length: int, inputs: Arrays) -> None:
    """Lets the ranges of a made-up request, with their margins, stand in for those that a model does not declare.

    Its answer is thrown away: what counts is its cost.
    """
    graph, weights = private.graph(length), private.weights
    private.graphs[length] = graph.with_ranges(declare(graph, measure_ranges(graph, weights, [inputs])))


def described(private: PrivateModel, length: int) -> dict[str, Any]:
    """What was profiled."""
    return {
        "model": private.about.model,
        "recipe": private.about.recipe,
        "length": private.graph(length).length,
        "batch": private.batch,
    }


def length_of(private: PrivateModel) -> int:
    """The padded length of a model: as it was compiled, else that of 128 tokens or all that it takes; 0 for images."""
    usual = private.requests.bucket_for(min(USUAL_LENGTH, private.requests.longest))
    return private.length or usual


def places_of(graph: Graph) -> dict[str, tuple[int | None, Part]]:
    """The layer and the part of everything that costs: inputs, operations, and outputs on their way to the client."""
    return {
        **{item.name: (None, "embedding") for item in graph.inputs},
        **{operation.name: (operation.layer, operation.part) for operation in graph.operations},
        **{OUTPUT + name: (None, "head") for name in graph.outputs},
    }


def operation_costs(graph: Graph, costs: Mapping[str, Cost]) -> tuple[OperationCost, ...]:
    """One row a cost, by the place of its operation in the graph."""
    places = places_of(graph)
    return tuple(
        OperationCost(name, *places[name], cost.seconds, cost.bytes, cost.rounds, cost.offline)
        for name, cost in costs.items()
    )
