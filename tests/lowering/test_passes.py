"""Each pass keeps what the graph computes, and the lowered graph computes what the model computes."""

from functools import cache

import numpy as np
import pytest
import torch

from mpcify.conversion.convert import convert, extra_parameters
from mpcify.conversion.position_bias import spread
from mpcify.engines.plain import PlainEngine, evaluate_operation
from mpcify.errors import MpcifyError
from mpcify.graph.kinds import COMPOSITES
from mpcify.lowering.passes import PASSES, lower
from mpcify.lowering.trace import trace_graph
from mpcify.recipe import Recipe
from mpcify.replacements.activation import FUNCTIONS
from mpcify.replacements.attention import AttentionKind, attend
from tests.makers import FAMILIES, make_teacher

LENGTH = 9
RECIPES = [
    "exact",
    "exact-tanh",
    "puma",
    "mpcformer",
    "2quad-freediv",
    "softmax-freediv",
    Recipe("relu-freediv", "relu"),
    Recipe("2relu", "gelu"),
    Recipe("2quad", "quad", centre_keys=True),
    Recipe("2quad-freediv", "quad", centre_keys=True),
    Recipe("softmax-freediv", "gelu-poly", t=3),
]
MIXED = Recipe(("softmax", "2quad-freediv"), ("quad", "gelu-poly"))


def student_of(model, recipe):
    torch.manual_seed(2)
    student = convert(model, recipe)
    for parameter in extra_parameters(student).values():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return student


@cache
def traced(family, recipe):
    """A student, and its graph and weights before any pass."""
    student = student_of(make_teacher(family), recipe)
    return student, trace_graph(student, 2, LENGTH)


def request(student, family, embeddings="client"):
    """The same request for torch, and for the graph."""
    torch.manual_seed(3)
    if family == "vit":
        pixels = torch.randn(2, 1, 8, 8)
        patches = pixels.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, 4)
        return {"pixel_values": pixels}, {"patches": patches.numpy()}
    ids = torch.randint(4, 15, (2, LENGTH))
    mask = torch.tensor([[1] * LENGTH, [1] * 5 + [0] * (LENGTH - 5)])
    types = torch.tensor([[0] * 4 + [1] * (LENGTH - 4)] * 2)
    real = mask.numpy()[..., None].astype(float)
    table = student.get_input_embeddings().weight.detach().numpy()
    words = (
        {"embeddings": table[ids.numpy()]} if embeddings == "client" else {"tokens": np.eye(len(table))[ids.numpy()]}
    )
    client = {
        **words,
        "mask": real,
        "share": 16 * real / real.sum(1, keepdims=True),
        "segment": types.numpy()[..., None],
    }
    torch_inputs = {"input_ids": ids, "attention_mask": mask}
    if family not in ("roberta", "distilbert", "mpnet"):
        torch_inputs["token_type_ids"] = types
    return torch_inputs, client


def run(graph, weights, client):
    inputs = {item.name: client[item.name] for item in graph.held_by("client")}
    return PlainEngine().compile(graph).load(weights).run(inputs)[0]["logits"]


def run_with_composites(graph, weights, client):
    """The graph in floats; composites by the formulas of `replacements`."""
    values = {**weights, **client}
    for operation in graph.operations:
        inputs = [values[name] for name in operation.inputs]
        if operation.kind == "activation":
            output = FUNCTIONS[operation.attributes["activation"]](torch.tensor(inputs[0])).numpy()
        elif operation.kind == "attention":
            facts = operation.attributes
            kind = AttentionKind(facts["attention"], facts["centre_keys"], facts["t"], facts["scaling"])
            extra = [torch.tensor(item) for item in inputs[3:]]
            bias = spread(extra.pop(0), facts["length"]) if extra and extra[0].ndim == 2 else None
            c = None if kind.form.shift is None else extra.pop(0)
            gamma = None if kind.form.divides else extra.pop(0)
            mask = torch.tensor(client["mask"]).transpose(1, 2)[:, None] if "mask" in client else None
            output = attend(kind, *(torch.tensor(item) for item in inputs[:3]), mask, c, gamma, bias)[0].numpy()
        else:
            output = evaluate_operation(operation, inputs)
        values[operation.name] = output
    return values["logits"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda item: item if isinstance(item, str) else item.name)
def test_the_lowered_graph_computes_what_the_model_computes(family, recipe):
    student, (graph, weights) = traced(family, recipe)
    torch_inputs, client = request(student, family)
    with torch.no_grad():
        expected = student(**torch_inputs).logits.numpy()
    graph, weights = lower(graph, weights)
    assert not [operation for operation in graph.operations if operation.kind in COMPOSITES]
    np.testing.assert_allclose(run(graph, weights, client), expected, atol=2e-5)  # torch's own float32


@pytest.mark.parametrize("family", ["bert", "mpnet", "vit"])
@pytest.mark.parametrize("recipe", [*RECIPES, MIXED], ids=lambda item: item if isinstance(item, str) else item.name)
def test_each_pass_keeps_the_result(family, recipe):
    student, (graph, weights) = traced(family, recipe)
    _, client = request(student, family)
    before = run_with_composites(graph, weights, client)
    for step in PASSES:
        graph, weights = step(graph, weights)
        np.testing.assert_allclose(
            run_with_composites(graph, weights, client), before, atol=1e-9, err_msg=step.__name__
        )


@pytest.mark.parametrize("length", [2, LENGTH, 38])
@pytest.mark.parametrize("recipe", ["exact", "2quad-freediv", "softmax-freediv"])
def test_a_position_bias_is_one_weight_a_layer_whatever_the_length(length, recipe, teacher):
    """Two numbers short of its 40 positions are the longest text: b has 75 distances, and B is made of those near."""
    student = student_of(teacher("mpnet"), recipe)
    graph, weights = lower(*trace_graph(student, 2, length))
    biases = {name: value for name, value in weights.items() if value.shape == (4, 75)}
    assert sorted(biases) == [f"layer.{layer}.attention.attn.bias" for layer in (0, 1)]
    assert {item.holder for item in graph.inputs if item.name in biases} == {"owner"}
    _, others = lower(*trace_graph(student, 1, 5))
    assert all(np.array_equal(others[name], value) for name, value in biases.items())
    ids, real = torch.randint(4, 15, (2, length)), np.ones((2, length, 1))
    real[1, (length + 1) // 2 :] = 0
    with torch.no_grad():
        expected = student(input_ids=ids, attention_mask=torch.tensor(real[..., 0])).logits.numpy()
    table = student.get_input_embeddings().weight.detach().numpy()
    client = {"embeddings": table[ids.numpy()], "mask": real, "share": 16 * real / real.sum(1, keepdims=True)}
    np.testing.assert_allclose(run(graph, weights, client), expected, atol=2e-5)


def test_a_softmax_s_padded_scores_stay_low_whatever_the_bias(teacher):
    """−30 at padding means something only below a bias that is never positive; softmax does not see the difference."""
    student = student_of(teacher("mpnet"), "exact")
    student.mpnet.encoder.relative_attention_bias.weight.data += 40
    graph, weights = lower(*trace_graph(student, 2, LENGTH))
    assert max(value.max() for name, value in weights.items() if name.endswith("attn.bias")) == 0
    torch_inputs, client = request(student, "mpnet")
    with torch.no_grad():
        expected = student(**torch_inputs).logits.numpy()
    np.testing.assert_allclose(run(graph, weights, client), expected, atol=1e-4)  # 40 more takes five bits of float32


def test_a_bias_that_is_not_the_models_is_not_exported(teacher, monkeypatch):
    student = student_of(teacher("mpnet"), "2quad-freediv")
    for other in (torch.zeros(4, 75), None):
        monkeypatch.setattr("mpcify.lowering.trace.bias_by_distance", lambda _, other=other: other)
        with pytest.raises(MpcifyError, match=r"MPC-401 .*attn"):
            trace_graph(student, 1, LENGTH)


@pytest.mark.parametrize("use", ["add", "linear"])
def test_what_is_looked_up_is_an_attentions_bias_or_refused(use, teacher, monkeypatch):
    """Its shape changes with the length: as a weight it would be another for each."""
    student = student_of(teacher("mpnet"), "2quad-freediv")
    encoder = type(student.mpnet.encoder)
    forward = encoder.forward

    def changed(self, hidden, *args, **kwargs):
        bias = self.compute_position_bias(hidden)[:, :, 0, 0]
        if use == "add":
            hidden = hidden + bias.repeat(1, 8)[:, None]
        else:
            hidden = torch.nn.functional.linear(hidden, bias.expand(32, 4).repeat(1, 8))
        return forward(self, hidden, *args, **kwargs)

    monkeypatch.setattr(encoder, "forward", changed)
    with pytest.raises(MpcifyError, match="MPC-401"):
        trace_graph(student, 1, LENGTH)


def test_one_hot_tokens_give_the_same_logits(teacher):
    student = student_of(teacher("electra"), "2quad-freediv")
    results = []
    for embeddings in ("client", "one-hot"):
        graph, weights = lower(*trace_graph(student, 2, LENGTH, embeddings))
        results.append(run(graph, weights, request(student, "electra", embeddings)[1]))
    np.testing.assert_allclose(*results, atol=1e-9)


def layer_kinds(graph, layer):
    kinds = [operation.kind for operation in graph.operations if operation.layer == layer]
    free = ("reshape", "transpose", "slice", "concat", "broadcast")
    return {kind: kinds.count(kind) for kind in kinds if kind not in free}


def test_a_freediv_layer_costs_what_it_must_and_no_more(teacher):
    """Four products with weights, two with secrets, mask on V, two squares, two layer norms.

    No division, no scaling.
    """
    student = student_of(teacher("bert"), Recipe("2quad-freediv", "quad"))
    graph, _ = lower(*trace_graph(student, 1, LENGTH))
    expected = {"linear": 4, "matmul": 2, "mul": 1, "square": 2, "layernorm": 2, "add": 3}
    assert layer_kinds(graph, 1) == expected


@pytest.mark.parametrize("recipe, squares", [("2quad-freediv", 2), ("softmax-freediv", 7)])
def test_the_named_recipes_add_the_mean_key_and_exp_t_its_squares(recipe, squares, teacher):
    graph, _ = lower(*trace_graph(student_of(teacher("bert"), recipe), 1, LENGTH))
    expected = {"linear": 4, "matmul": 3, "mul": 1, "square": squares, "layernorm": 2, "add": 3, "scale": 1, "sub": 1}
    assert layer_kinds(graph, 1) == expected


def test_2quad_divides_once_a_row(teacher):
    graph, _ = lower(*trace_graph(student_of(teacher("bert"), "mpcformer"), 1, LENGTH))
    assert layer_kinds(graph, 1)["reciprocal"] == 1
    (inverse,) = [
        operation for operation in graph.operations if operation.kind == "reciprocal" and operation.layer == 1
    ]
    assert inverse.shape == (1, 4, LENGTH, 1)


def test_operations_before_and_after(teacher):
    """Counted once, so that a pass that stops folding is seen."""
    student = student_of(teacher("bert"), Recipe("2quad-freediv", "quad"))
    graph, weights = trace_graph(student, 1, LENGTH)
    lowered, _ = lower(graph, weights)
    sums = [
        sum(step.count().get(kind, 0) for kind in ("linear", "matmul", "scale", "shift")) for step in (graph, lowered)
    ]
    assert sums == [15, 15 - 2 * 2 + 2 * 2]  # Q, K, V of two layers are one product each; two secret products a layer


def test_shared_layers_share_their_folded_weights(teacher):
    _, weights = lower(*trace_graph(student_of(teacher("albert"), "2quad-freediv"), 1, LENGTH))
    assert sum("query" in name and name.endswith("bias") for name in weights) == 1


def test_images_need_no_mask(teacher):
    graph, _ = lower(*trace_graph(student_of(teacher("vit"), "2quad-freediv"), 1, 0))
    assert [item.name for item in graph.held_by("client")] == ["patches"]
    assert graph.length == 17


@pytest.mark.parametrize("recipe, masks", [("exact", {"mask"}), ("2quad-freediv", {"share"}), ("mpcformer", {"share"})])
def test_the_client_shares_only_the_mask_that_is_read(recipe, masks, teacher):
    graph, _ = lower(*trace_graph(student_of(teacher("bert"), recipe), 1, LENGTH))
    assert {item.name for item in graph.held_by("client")} - {"embeddings", "segment"} == masks


def test_no_operation_holds_a_weight(teacher):
    """Attributes are shapes and public numbers: the same for two models of one shape with other weights."""
    graphs = [
        lower(*trace_graph(student_of(teacher("bert", seed=seed), "2quad-freediv"), 1, LENGTH))[0] for seed in (0, 1)
    ]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_know_their_layer(family, teacher):
    graph, _ = lower(*trace_graph(student_of(teacher(family), "2quad-freediv"), 1, LENGTH))
    squares = [operation.layer for operation in graph.operations if operation.kind == "square"]
    assert squares == [0, 0, 1, 1]
    assert graph.operations[-1].part == "head"
    assert graph.operations[-1].layer is None


def test_scores_are_told_from_contexts_even_if_they_have_the_same_shape(teacher):
    """Heads are 8 wide: at 8 tokens QKᵀ and the weighted values are both 8 by 8."""
    graph, _ = lower(*trace_graph(student_of(teacher("bert"), "2quad-freediv"), 1, 8))
    products = [operation.rows for operation in graph.operations if operation.kind == "matmul" and operation.layer == 0]
    assert products == ["all", "scores", "heads"]  # the mean key first
    assert [operation.rows for operation in graph.operations if operation.kind == "square"][:2] == ["scores", "tokens"]


@pytest.mark.parametrize("family, options", [("vit", {}), ("albert", {"layers": 4, "num_hidden_groups": 2})])
def test_layers_count_as_they_run(family, options, teacher):
    """A layer norm before its attention belongs to its own layer; groups of shared layers do not collide."""
    graph, _ = lower(*trace_graph(student_of(teacher(family, **options), "2quad-freediv"), 1, LENGTH))
    counts = [layer_kinds(graph, layer) for layer in range(options.get("layers", 2))]
    assert [count["layernorm"] for count in counts] == [2] * len(counts)
    assert [count["square"] for count in counts] == [2] * len(counts)
