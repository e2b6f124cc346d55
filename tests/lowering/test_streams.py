"""Small residual streams: scaled up if LayerNorms alone read them, and never otherwise."""

from typing import Any

import numpy as np
import pytest

from mpcify.conversion.convert import convert
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.plain import PlainEngine
from mpcify.graph.about import About, ImageFacts, task_named
from mpcify.graph.graph import Graph
from mpcify.lowering.calibrate import declare_ranges, inputs_of
from mpcify.lowering.export import export_graph
from mpcify.lowering.passes import lower
from mpcify.lowering.streams import scalable, scale_streams
from mpcify.lowering.trace import trace_graph

STREAM = ("embeddings", "output.dense", "attention.output", "o_proj", "fc2")  # what a ViT adds to its stream

FACTS = ImageFacts(1, 8, 2, False, 2, False, 1.0, False, 0.0, 1.0)


def vit(teacher: Any, scale: float) -> tuple[Any, Any]:
    """A student of a ViT whose residual stream is `scale` times as large as usual, with declared ranges; and pixels."""
    import torch

    model = teacher("vit", layers=3, labels=5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in STREAM):
                weight.mul_(scale)
    student = convert(model, "2quad-freediv")
    pixels = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    declare_ranges(student, [{"pixel_values": pixels}])
    return student, pixels


def exported(student: Any, pixels: Any) -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The graph that a party gets, its weights, and a request."""
    about = About("", "m", "vit", task_named("image-classification", tuple("abcde")), "", "patches", FACTS)
    graph, weights = export_graph(student, len(pixels), 0, about)
    return graph, weights, {"patches": np.stack(list(inputs_of(student, [{"pixel_values": pixels}])))}


@pytest.mark.parametrize("scale", [0.02, 0.002])
def test_a_small_stream_answers_as_precisely_as_a_usual_one(teacher: Any, scale: float) -> None:
    errors = []
    for size in (1.0, scale):
        graph, weights, inputs = exported(*vit(teacher, size))
        exact, _ = PlainEngine().compile(graph).load(weights).run(inputs)
        found, _ = FixedConfig().build().compile(graph).load(weights).run(inputs)
        errors.append(np.abs(found["logits"] - exact["logits"]).max() / np.ptp(exact["logits"]))
    assert errors[1] < 2 * errors[0]


def test_scaling_changes_no_answer_and_every_range_with_it(teacher: Any) -> None:
    student, pixels = vit(teacher, 0.01)
    graph, weights, inputs = exported(student, pixels)
    as_traced, own = lower(*trace_graph(student, len(pixels), 0))
    before, _ = PlainEngine().compile(as_traced).load(own).run(inputs)
    after, _ = PlainEngine().compile(graph).load(weights).run(inputs)
    np.testing.assert_allclose(after["logits"], before["logits"], atol=1e-5)  # weights are kept in float32
    first = next(operation.name for operation in graph.operations if operation.kind == "layernorm")
    declared = student.config.mpcify["ranges"][first]["variance"]
    grown = graph.ranges[first]["variance"][1] / declared[1]
    assert grown == 4 ** round(np.log2(grown) / 2) > 16
    assert graph.ranges["logits"] == as_traced.with_ranges(graph.ranges).ranges["logits"]
    assert graph.ranges["logits"]["value"] == tuple(student.config.mpcify["ranges"]["logits"]["value"])


def test_a_usual_stream_and_one_without_ranges_stay_as_they_are(teacher: Any) -> None:
    student, pixels = vit(teacher, 3.0)
    as_traced, own = lower(*trace_graph(student, len(pixels), 0))
    graph, weights, _ = exported(student, pixels)
    assert graph.operations == as_traced.operations
    assert all(np.array_equal(weights[name], own[name].astype(np.float32)) for name in own)
    assert scale_streams(as_traced, own) == (as_traced, own)


def test_what_a_linear_layer_or_another_sum_reads_is_not_scaled(teacher: Any) -> None:
    graph, _ = lower(*trace_graph(convert(teacher("bert"), "2quad-freediv"), 1, 8))
    assert not scalable(graph), (
        "after a LayerNorm, BERT's stream feeds its linear layers; its embeddings are the client's"
    )
    graph, _ = lower(*trace_graph(convert(teacher("vit"), "2quad-freediv"), 1, 0))
    members = scalable(graph)
    kinds = {operation.kind for operation in graph.operations if operation.name in members}
    assert "linear" in kinds
    for operation in graph.operations:
        if operation.kind in ("matmul", "mul", "square") or (operation.kind == "linear" and "query" in operation.name):
            assert not members & {operation.name, *operation.inputs}
