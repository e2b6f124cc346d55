"""What the page on the ring engine says of a layer's messages, and of the recipes that it serves, is what it plans."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.conversion.convert import convert
from mpcify.engines.plain import measure_ranges
from mpcify.engines.ring.config import KNOWN_TO, RingConfig
from mpcify.engines.ring.engine import RingProgram
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import declare
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from mpcify.recipe import Recipe
from tests.makers import make_teacher

Arrays = dict[str, np.ndarray]
PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "ring-engine.md"
LENGTH, WIDTH, HEADS = 16, 32, 4
SIZES = {"n": LENGTH, "H": WIDTH, "a": HEADS, "4": 2}  # the small teacher's middle is twice as wide as its layers
QUAD = Recipe("2quad-freediv", "quad", centre_keys=True)
REST = 9  # messages of a BERT beside its layers'


def model_of(recipe: Recipe, layers: int) -> tuple[Graph, Arrays, Arrays]:
    """A small BERT of a recipe, its weights and a request, on which its ranges are declared."""
    graph, weights = lower(*trace_graph(convert(make_teacher("bert", layers=layers), recipe), 1, LENGTH, "client"))
    random = np.random.default_rng(0)
    inputs = {item.name: random.standard_normal(item.shape) for item in graph.held_by("client")}
    inputs |= {name: np.ones((1, LENGTH, 1)) for name in ("share", "mask", "segment") if name in inputs}
    return graph.with_ranges(declare(graph, measure_ranges(graph, weights, [inputs]))), weights, inputs


def program(recipe: Recipe, layers: int = 3) -> RingProgram:
    """The same, planned."""
    return RingConfig().build().compile(model_of(recipe, layers)[0])


def on_the_page() -> list[tuple[str, set[str], int]]:
    """The table's messages: who sends, in which steps, how many values."""
    section = PAGE.read_text(encoding="utf-8").split("## The schedule of a layer")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \d+ \| [^|]+ \| (\w+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return [(sender, set(re.findall(r"`(\w+)`", steps)), values_of(values)) for sender, steps, values in rows]


def values_of(products: str) -> int:
    """How many values a sum of products such as `3·n·H + H` is, in the small BERT."""
    factors = (product.strip().split("·") for product in products.split("+"))
    return sum(math.prod(SIZES[name] if name in SIZES else int(name) for name in names) for names in factors)


def planned(found: RingProgram, layer: int) -> list[tuple[str, set[str], int]]:
    """A layer's messages, those in which the mask goes with the model's first apart."""
    layers = {operation.name: operation.layer for operation in found.graph.operations}
    messages = []
    for number, level in enumerate(found.plan.levels):
        talking = [step for step in level if step.talks and layers.get(step.operation) == layer]
        if number > 1 and talking:
            says: dict[str, int] = {}
            for step in talking:
                for role in ("client", "owner"):
                    if (words := step.words(role)) is not None:
                        says[role] = says.get(role, 0) + words[0]
            assert len({*says.values()}) == 1, "both send as much"
            sender = "both" if len(says) == 2 else next(iter(says))
            messages.append((sender, {type(step).__name__ for step in talking}, next(iter(says.values()))))
    return messages


def test_a_layer_sends_the_messages_on_the_page() -> None:
    found = program(QUAD)
    said = on_the_page()
    assert len(said) == 16
    assert [planned(found, layer) for layer in range(3)] == [said] * 3
    assert len(found.plan.levels) - 1 == 3 * 16 + REST


def test_if_no_party_knows_the_inputs_a_layer_sends_the_same_and_the_output_goes_without_a_message() -> None:
    graph = model_of(QUAD, layers=2)[0]
    known, delegated = (RingConfig(inputs=inputs).build().compile(graph) for inputs in KNOWN_TO)
    assert [planned(delegated, layer) for layer in range(2)] == [planned(known, layer) for layer in range(2)]
    assert len(delegated.plan.levels) == len(known.plan.levels) - 1


def test_a_profile_shows_them() -> None:
    graph, weights, inputs = model_of(QUAD, layers=1)
    session = RingConfig().build().compile(graph).load(weights)
    _, costs = session.profile(inputs)
    session.close()
    assert sum(costs[operation.name].rounds for operation in graph.operations if operation.layer == 0) == 16


def test_variances_that_differ_widely_take_a_message_more_for_each_layernorm() -> None:
    graph, _, _ = model_of(QUAD, layers=1)
    ranges = {name: dict(entry) for name, entry in graph.ranges.items()}
    for entry in ranges.values():
        if "variance" in entry:
            entry["variance"] = entry["variance"][0], entry["variance"][0] * 8**2 * 100
    found = RingConfig().build().compile(graph.with_ranges(ranges))
    assert len(planned(found, 0)) == 18


@pytest.mark.parametrize("t", [1, 4, 10])
def test_a_square_more_is_a_message_more(t: int) -> None:
    found = program(Recipe("softmax-freediv", "quad", centre_keys=True, t=t), layers=1)
    assert len(planned(found, 0)) == 15 + t
    assert len(found.plan.levels) - 1 == 15 + t + REST


@pytest.mark.parametrize(
    ("attention", "activation", "refused"),
    [
        ("softmax", "quad", "max"),
        ("2quad", "quad", "reciprocal"),
        ("2relu", "quad", "relu"),
        ("relu-freediv", "quad", "relu"),
        ("2quad-freediv", "gelu", "gelu"),
        ("2quad-freediv", "gelu-poly", "gelu-poly"),
        ("softmax-freediv", "relu", "relu"),
    ],
)
def test_what_divides_or_compares_in_a_layer_is_refused(attention: Any, activation: Any, refused: str) -> None:
    with pytest.raises(MpcifyError, match=rf"MPC-401 layer 0 .*no operation '{refused}'\. Do this: convert with"):
        program(Recipe(attention, activation), layers=1)


def test_a_graph_without_declared_ranges_is_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-406"):
        RingConfig().build().compile(model_of(QUAD, layers=1)[0].with_ranges({}))
