"""Where private answers leave those of the same model in floats, and on which layer the error grows."""

from typing import Any

import numpy as np

from mpcify.engines.engine import Arrays
from mpcify.engines.fixed.engine import FixedEngine
from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Operation
from mpcify.graph.ranges import RangeRecorder
from mpcify.inference import PrivateModel

MISSING = 504  # a package that the engine needs is not installed


def grows_at(private: PrivateModel, item: Any) -> str | None:
    """Where the relative error of one input grows most from layer to layer, in integers of the engine's ring.

    None if the integers answer as floats do (then it is not the numbers' width that is to blame), or cannot be computed
    here.
    """
    (group,) = private.groups([item])
    graph, weights = private.graph(group.length), private.weights
    inputs = private.inputs(group.encoded, group.length)
    rules = private.engine.rules
    if rules is None or not rules.functions(rules.number):
        return None
    try:
        engine = FixedEngine(rules, force=True)
    except MpcifyError as error:
        if error.code != MISSING:
            raise
        return None
    exact, near = Ends(graph, inputs), Ends(graph, inputs)
    with PlainEngine().compile(graph).load(weights) as session:
        right, _ = session.run(inputs, exact)
    with engine.compile(graph).load(weights) as rounded:
        found, _ = rounded.run(inputs, near)
    if found["logits"][0].argmax() == right["logits"][0].argmax():
        return None
    errors = {name: relative(near.values[name], exact.values[name]) for name in exact.values if name in near.values}
    steps = zip(errors, [0.0, *errors.values()], errors.values(), strict=False)
    place, before, after = max(steps, key=lambda step: step[2] - step[1])
    return f"{place} (relative error {before:.1g} before it, {after:.1g} after)"


class Ends:
    """Keeps what embedding, each encoder layer and head give for the first request, real tokens only: an `observe`."""

    def __init__(self, graph: Any, inputs: Arrays) -> None:
        self.recorder = RangeRecorder(graph, inputs)
        self.values: dict[str, np.ndarray] = {}

    def __call__(self, operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> None:
        """Takes note of one operation's output, in floats; the last of each place stays."""
        place = operation.part if operation.layer is None else f"layer {operation.layer}"
        self.values[place] = self.recorder.real_values(operation, output, 0)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """‖found − wanted‖ / ‖wanted‖."""
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), np.finfo(float).tiny))
