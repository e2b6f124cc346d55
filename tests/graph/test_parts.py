import numpy as np

from mpcify.conversion.convert import convert
from mpcify.engines.plain import PlainEngine
from mpcify.graph.parts import encoder_layers, subgraph
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph


def run(graph, weights, inputs):
    own = {item.name: weights[item.name] for item in graph.held_by("owner")}
    return (
        PlainEngine()
        .compile(graph)
        .load(own)
        .run({item.name: inputs[item.name] for item in graph.held_by("client")})[0]
    )


def test_embedding_layers_and_head_in_a_row_are_the_whole_graph(teacher):
    graph, weights = lower(*trace_graph(convert(teacher("bert"), "exact"), 1, 9))
    generator = np.random.default_rng(0)
    mask = np.ones((1, 9, 1))
    inputs = {"embeddings": generator.standard_normal((1, 9, 32)), "segment": 0 * mask, "mask": mask}
    values = dict(inputs)
    for part in (
        subgraph(graph, lambda o: o.part == "embedding"),
        encoder_layers(graph),
        subgraph(graph, lambda o: o.part == "head"),
    ):
        values |= run(part, weights, values)
    np.testing.assert_array_equal(values["logits"], run(graph, weights, inputs)["logits"])


def test_the_encoder_layers_hold_no_operation_of_embedding_or_head(teacher):
    graph, _ = lower(*trace_graph(convert(teacher("bert"), "2quad-freediv"), 1, 9))
    part = encoder_layers(graph)
    assert {operation.layer for operation in part.operations} == {0, 1}
    assert len(part.outputs) == 1
    assert {item.name for item in part.held_by("client")} - {"share"} == {"bert.embeddings.LayerNorm"}
