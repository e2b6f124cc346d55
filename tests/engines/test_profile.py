"""A request operation by operation costs what it costs whole, on every engine, and answers the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpcify.conversion.convert import convert
from mpcify.engines import engine_named
from mpcify.engines.engine import OUTPUT
from mpcify.graph.build import Builder
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph

LENGTH = 9


@pytest.fixture
def case(teacher: Callable) -> Any:
    """A student's graph, its weights, and a request."""
    graph, weights = lower(*trace_graph(convert(teacher("bert"), "2quad-freediv"), 1, LENGTH))
    inputs = {item.name: 0.3 * np.random.default_rng(0).standard_normal(item.shape) for item in graph.held_by("client")}
    return graph, weights, {**inputs, "share": np.full((1, LENGTH, 1), 16 / LENGTH)}


@pytest.mark.parametrize("engine", ["plain", "fixed", "spu"])
def test_operation_by_operation_is_the_same_request(engine: str, case: Any) -> None:
    graph, weights, inputs = case
    with engine_named(engine, force=True).compile(graph).load(weights) as session:
        whole, cost = session.run(inputs)
        outputs, costs = session.profile(inputs)
        again, _ = session.run(inputs)  # nothing of it stays behind
        names = {operation.name for operation in session.graph.operations}
    for name in graph.outputs:
        np.testing.assert_allclose(outputs[name], whole[name], atol=5e-3 if engine == "spu" else 0)
        np.testing.assert_allclose(again[name], whole[name], atol=5e-3 if engine == "spu" else 0)
    ends = {*inputs, *(OUTPUT + name for name in graph.outputs)} if engine == "spu" else set()
    assert costs.keys() == names | ends
    assert sum(part.bytes for part in costs.values()) == cost.bytes, "nothing is saved across operations"
    assert all(part.seconds >= 0 for part in costs.values())
    # ABY3 rotates roles by chance: in each request, and the busiest party of each operation is not always the same
    assert 0.9 * cost.rounds <= sum(part.rounds for part in costs.values()) <= 1.15 * cost.rounds


def test_what_comes_of_public_inputs_alone_stays_public_and_free() -> None:
    builder = Builder(1, 1)
    secret, public = builder.input("x", "client", (4,)), builder.input("p", "public", (4,))
    doubled = builder.emit("doubled", "square", (public,))
    graph = builder.finish(None, [builder.emit("logits", "mul", (secret, doubled))])
    with engine_named("spu", force=True).compile(graph).load({}) as session:
        outputs, costs = session.profile({"x": np.arange(4.0), "p": np.full(4, 3.0)})
    np.testing.assert_allclose(outputs["logits"], 9 * np.arange(4.0), atol=1e-3)
    assert (costs["p"].bytes, costs["doubled"].bytes) == (0, 0)
    assert costs["logits"].bytes == 28 * 4, "a truncation; the product with a public number is local"
