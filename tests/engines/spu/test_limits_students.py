"""What the proof says of whole students, and a single operation would not show."""

from typing import Any

import numpy as np
import pytest
import torch

from mpcify.conversion.convert import convert
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.engines.spu.fit import fit
from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import prove
from mpcify.graph.ranges import declare
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from mpcify.numerics import FixedPoint
from mpcify.recipe import Recipe
from mpcify.requests.text import Encoded, client_inputs

LENGTH = 8


def declared(model: Any, recipe: Any) -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A student's graph with ranges declared on one request, its weights, and the request."""
    student = convert(model, recipe)
    graph, weights = lower(*trace_graph(student, 1, LENGTH))
    table = student.get_input_embeddings().weight.detach().numpy()
    inputs = client_inputs([Encoded((2, 4, 5, 6, 9, 3), (0,) * 6)], graph, table)
    return graph.with_ranges(declare(graph, measure_ranges(graph, weights, [inputs]))), weights, inputs


def scaled(model: Any, factor: float, *parts: str) -> Any:
    """A model with some of its weights times a factor."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in parts):
                weight.mul_(factor)
    return model


def test_embeddings_that_lose_their_bits_before_they_are_doubled_are_refused(teacher: Any) -> None:
    tiny = scaled(teacher("bert"), 1e-4, "_embeddings")
    graph, weights, inputs = declared(tiny, "2quad-freediv")
    with pytest.raises(MpcifyError, match=r"MPC-402 .*LayerNorm.*spread .*lower limit.*more fraction bits"):
        FixedConfig(48).build().compile(graph)
    exact, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    wrong, _ = FixedConfig(48, force=True).build().compile(graph).load(weights).run(inputs)
    assert np.abs(wrong["logits"] - exact["logits"]).max() > 0.1, "so it would be wrong"
    usual, _, _ = declared(scaled(tiny, 1e2, "_embeddings"), "2quad-freediv")
    FixedConfig(48).build().compile(usual)


@pytest.mark.parametrize("t", [1, 2, 6])
def test_scores_below_where_exp_t_rises_again_are_refused_for_every_t(teacher: Any, t: int) -> None:
    recipe = Recipe("softmax-freediv", "quad", centre_keys=True, t=t)
    mild, _, _ = declared(scaled(teacher("bert"), 0.02, "query"), recipe)
    prove(fit(mild, FixedPoint.of(64)), SpuRules(FixedPoint.of(64)))
    wild, _, _ = declared(scaled(teacher("bert"), 1.5 * 2**t, "query"), recipe)
    exponents = [entry["exponent"] for entry in wild.ranges.values() if "exponent" in entry]
    assert min(least for least, _ in exponents) < -2
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 0 .*exponent ranges from -.*lower limit.*larger t"):
        prove(fit(wild, FixedPoint.of(64)), SpuRules(FixedPoint.of(64)))


def test_a_keys_bias_moves_no_score_of_exact_attention(teacher: Any) -> None:
    """It adds one number to all scores of a row: softmax does not see it, and its row maximum must not."""
    model = teacher("bert")
    plain, weights, inputs = declared(model, "exact")
    before, _ = PlainEngine().compile(plain).load(weights).run(inputs)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("key.bias"):
                weight.add_(60.0)
    graph, weights, inputs = declared(model, "exact")
    after, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    np.testing.assert_allclose(after["logits"], before["logits"], atol=1e-6)
    FixedConfig().build().compile(graph)  # with it, rows would have their maximum far from 0


def test_puma_squares_its_exponential_as_often_as_its_declared_range_needs(teacher: Any) -> None:
    number = FixedPoint.of(64)

    def squarings(recipe: str, factor: float) -> set[int]:
        graph, _, _ = declared(scaled(teacher("bert"), factor, "query"), recipe)
        return {operation.attributes["t"] for operation in fit(graph, number).operations if operation.kind == "exp"}

    assert squarings("puma", 0.1) == {6}
    assert squarings("puma", 60.0) == {8}, "its scores lie further apart than 117"
    assert squarings("exact", 0.1) == squarings("exact-tanh", 0.1) == {8}


def test_no_declared_range_is_a_number_of_the_owners(teacher: Any) -> None:
    """A position table is read as it is: its ends would stand in every party's graph."""
    graph, _, _ = declared(teacher("bert"), "2quad-freediv")
    found = {end for entry in graph.ranges.values() for pair in entry.values() for end in pair if end}
    assert len(found) > 20
    assert all(abs(4 * np.log2(abs(end)) - round(4 * np.log2(abs(end)))) < 1e-9 for end in found)
