"""Small models with declared ranges, planned for the ring engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.engine import RingProgram
from mpcify.engines.ring.sharing import RingSharing
from mpcify.engines.ring.values import encode
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import declare
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from tests.engines.ring.scene import Scene, Shifted, held, keys
from tests.engines.samples import drawn_model, drawn_request
from tests.lowering.test_passes import LENGTH, request, student_of
from tests.makers import make_teacher

Arrays = dict[str, np.ndarray]
Halves = dict[str, dict[int, np.ndarray]]


@dataclass(frozen=True, repr=False)
class Model:
    """A graph with declared ranges, its weights, and a request."""

    graph: Graph
    weights: Arrays
    inputs: Arrays

    @property
    def held(self) -> tuple[Arrays, Arrays]:
        """What the owner and the client hold."""
        return self.weights, self.inputs

    @property
    def plain(self) -> Arrays:
        """The outputs in floats."""
        with PlainEngine().compile(self.graph).load(self.weights) as session:
            return session.run(self.inputs)[0]

    def compile(self, **settings: Any) -> RingProgram:
        """The program, with nothing dealt ahead unless asked for."""
        return RingConfig(**{"ahead": 0, **settings}).build().compile(self.graph)


def declared(graph: Graph, weights: Arrays, inputs: Arrays) -> Model:
    """A model whose ranges are declared on one request."""
    measured = measure_ranges(graph, weights, [inputs])
    return Model(graph.with_ranges(declare(graph, measured)), weights, inputs)


def drawn(seed: int) -> Model:
    """The model whose sizes are drawn."""
    graph, weights = drawn_model(seed)
    return declared(graph, weights, drawn_request(graph, seed))


def student(family: str, recipe: Any, embeddings: str = "client", layers: int = 2) -> Model:
    """A tiny student of a family."""
    made = student_of(make_teacher(family, layers=layers), recipe)
    length = 0 if family == "vit" else LENGTH
    graph, weights = lower(*trace_graph(made, 2, length, embeddings))
    given = request(made, family, embeddings)[1]
    return declared(
        graph, weights, {item.name: np.asarray(given[item.name], float) for item in graph.held_by("client")}
    )


def scene_of(
    program: RingProgram,
    weights: Arrays,
    inputs: Arrays,
    secrets: Mapping[str, Shifted] | None = None,
    number: int = 1,
    heard: Mapping[int, np.ndarray] | None = None,
    halves: Halves | None = None,
) -> Scene:
    """A scene of a whole program, as its parties would play it."""
    plan, secrets = program.plan, keys() if secrets is None else secrets
    arrays = {key: encode(derived.compute(weights), scale) for key, (derived, scale) in plan.owned.items()}
    given = {name: np.asarray(array, np.float64) for name, array in inputs.items()}
    entered = {}
    if program.sharing is not None:
        entered, given = entered_by(program.sharing, given) if halves is None else halves, {}
    placed = held(plan.slots, slots_of(program, weights), secrets)
    return Scene(plan.steps, secrets, placed, given, arrays, entered, number, heard)


def entered_by(sharing: RingSharing, inputs: Arrays, kept: str = "client", part: Any = None) -> Halves:
    """The parts of inputs at client and owner, of which that of the role `kept` is given, or drawn from a seed."""
    other = {"client": "owner", "owner": "client"}[kept]
    part = sharing.drawn(bytes(32)) if part is None else part
    rest = {step.index: step.encoded(inputs) - part[step.index] for step in sharing.plan.inputs}
    return {kept: part, other: rest}


def slots_of(program: RingProgram, weights: Arrays) -> dict[int, np.ndarray]:
    """The integers of each slot of a program."""
    return {index: encode(slot.derived.compute(weights), slot.scale) for index, slot in enumerate(program.plan.slots)}
