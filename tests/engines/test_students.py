"""One student, every engine: families and recipes through conversion, graph and engine, against floats."""

import numpy as np
import pytest
import torch

from mpcify.conversion.convert import convert
from mpcify.engines import engine_named
from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.graph.ranges import declare
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph

LENGTH = 8
# A random student's attention output is far from calibrated: c as small as this keeps its values near one.
SHIFT = 1.0


def student_graph(model, recipe):
    student = convert(model, recipe)
    for name, parameter in student.named_parameters():
        if name.endswith(".c"):
            torch.nn.init.constant_(parameter, SHIFT)
        if name.endswith(".log_gamma"):
            torch.nn.init.zeros_(parameter)
    graph, weights = lower(*trace_graph(student, 2, LENGTH))
    return graph, {name: value.astype(np.float32) for name, value in weights.items()}


def request(graph):
    generator = np.random.default_rng(4)
    real = np.ones((2, LENGTH, 1))
    real[1, 5:] = 0
    given = {"mask": real, "share": 16 * real / real.sum(1, keepdims=True), "segment": np.zeros_like(real)}
    return {
        item.name: given[item.name] if item.name in given else generator.standard_normal(item.shape)
        for item in graph.held_by("client")
    }


def logits(engine, graph, weights, inputs):
    with engine.compile(graph).load(weights) as session:
        outputs, cost = session.run(inputs)
    return outputs["logits"], cost


def against_plain(model, recipe, **settings):
    graph, weights = student_graph(model, recipe)
    inputs = request(graph)
    graph = graph.with_ranges(declare(graph, measure_ranges(graph, weights, [inputs])))
    expected, _ = logits(PlainEngine(), graph, weights, inputs)
    fixed, _ = logits(engine_named("fixed"), graph, weights, inputs)
    private, cost = logits(engine_named("spu", **settings), graph, weights, inputs)
    return expected, fixed, private, cost


@pytest.mark.parametrize(
    "family, recipe",
    [
        *((family, "2quad-freediv") for family in ("bert", "roberta", "distilbert", "electra", "mpnet", "vit")),
        *(("bert", recipe) for recipe in ("puma", "mpcformer", "softmax-freediv")),
    ],
)
def test_private_answers_are_the_plain_ones(family, recipe, teacher):
    expected, fixed, private, cost = against_plain(teacher(family), recipe)
    # 2e-2: what 18 fraction bits leave of a logit after two layers with SPU's rsqrt, tanh and exp, in integers as well,
    # and SPU's random truncations change little of it: 1e-3
    np.testing.assert_allclose(fixed, expected, atol=2e-2)
    np.testing.assert_allclose(private, fixed, atol=1e-3)
    assert np.ptp(expected, axis=0).max() > 0.1  # the two requests differ, so that agreement means something
    assert set(cost.bytes_per_party) == {"client", "owner", "helper"}
    assert cost.bytes == sum(cost.bytes_per_party.values())


def test_a_student_runs_under_cheetah(teacher):
    """Two parties and no dealer, two layers, 32 wide: slow, and it ends."""
    expected, _, private, cost = against_plain(teacher("bert"), "2quad-freediv", protocol="cheetah")
    np.testing.assert_allclose(private, expected, atol=2e-2)
    assert set(cost.bytes_per_party) == {"client", "owner"}
