"""Where tokens are in a graph's values: by kinds and inputs alone, whatever numbers happen to be equal."""

from typing import Any

import numpy as np
import pytest

from mpcify.conversion.convert import convert
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import RangeRecorder
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph

# batch and length: the models have 4 heads of 8, 32 wide; ELECTRA's embeddings are 16 wide, feed-forward layers 64
USUAL = (3, 9)
EQUAL = {
    "batch = length = heads": (4, 4),
    "batch = length = head width": (8, 8),
    "length = embedding width": (3, 16),
    "length = hidden width": (2, 32),
}


def rows(teacher: Any, family: str, recipe: str, size: tuple[int, int], embeddings: str = "client") -> dict[str, str]:
    """The rows of every operation of a student's graph, by name."""
    graph, _ = lower(*trace_graph(convert(teacher(family), recipe), *size, embeddings), naive=recipe == "exact")
    return {operation.name: operation.rows for operation in graph.operations}


@pytest.mark.parametrize(
    "family, recipe",
    [
        ("bert", "exact"),
        ("roberta", "puma"),
        ("distilbert", "2quad-freediv"),
        ("electra", "softmax-freediv"),
        ("mpnet", "mpcformer"),
    ],
)
def test_equal_numbers_do_not_confuse_rows(teacher: Any, family: str, recipe: str) -> None:
    usual = rows(teacher, family, recipe, USUAL)
    assert set(usual.values()) == {"tokens", "heads", "scores", "all"}
    for case, size in EQUAL.items():
        assert rows(teacher, family, recipe, size) == usual, case


def test_one_hot_embeddings_are_tokens(teacher: Any) -> None:
    found = rows(teacher, "bert", "mpcformer", (4, 4), "one-hot")
    assert found.pop("embeddings") == "tokens"
    assert found == rows(teacher, "bert", "mpcformer", USUAL)


def test_an_images_rows_do_not_depend_on_the_length_that_is_asked_for(teacher: Any) -> None:
    usual = rows(teacher, "vit", "2quad-freediv", (3, 0))
    assert set(usual.values()) == {"tokens", "heads", "scores", "all"}
    assert usual["vit.embeddings.patch_embeddings.projection"] == "all", "16 patches, and 17 tokens"
    for size in ((3, 16), (17, 17)):
        assert rows(teacher, "vit", "2quad-freediv", size) == usual


def test_each_operation_of_an_attention_layer(teacher: Any) -> None:
    found = rows(teacher, "bert", "mpcformer", (4, 4))
    layer = "layer.0.attention.self."
    assert {name.removeprefix(layer): word for name, word in found.items() if name.startswith(layer)} == ATTENTION


ATTENTION = {
    **dict.fromkeys(
        (
            "value.fused",
            "value",
            "query.scaled",
            "key.scaled",
            "query.split",
            "key.split",
            "value.masked",
            "value.split",
            "transpose.4",
            "reshape.4",
        ),
        "tokens",
    ),
    **dict.fromkeys(
        (
            "query.heads",
            "key.heads",
            "value.heads",
            "column",
            "column.heads",
            "value.extended",
            "both",
            "numerator",
            "total",
            "inverse",
            "output",
        ),
        "heads",
    ),
    **dict.fromkeys(("scores", "shifted", "square"), "scores"),
}


def chain(*steps: tuple[str, dict[str, Any]], shape: tuple[int, ...] = (3, 5, 6), length: int = 5) -> list[str]:
    """The rows of operations in a row, the first of which reads a client's input."""
    builder = Builder(shape[0], length)
    name = builder.input("x", "client", shape)
    for kind, attributes in steps:
        name = builder.emit("step", kind, [name], **attributes)
    return [operation.rows for operation in builder.finish(None, [name]).operations]


def test_an_axis_that_is_split_and_joined_again_is_found_again() -> None:
    steps = [("reshape", {"shape": (3, 5, 2, 3)}), ("transpose", {"axes": (0, 2, 1, 3)})]
    back = [("transpose", {"axes": (0, 2, 1, 3)}), ("reshape", {"shape": (3, 5, 6)})]
    assert chain(*steps, *back) == ["tokens", "heads", "tokens", "tokens"]
    apart = [("transpose", {"axes": (0, 2, 1)}), ("reshape", {"shape": (3, 6, 2, 2)})]  # an image's rows and columns
    together = [("reshape", {"shape": (3, 6, 4)}), ("transpose", {"axes": (0, 2, 1)})]
    assert chain(*apart, *together, shape=(3, 4, 6), length=4) == ["all", "all", "all", "tokens"]


def test_an_axis_that_is_mixed_with_another_is_lost() -> None:
    mixed = [("reshape", {"shape": (3, 10, 3)}), ("reshape", {"shape": (3, 5, 6)})]
    assert chain(*mixed) == ["all", "all"]
    assert chain(("sum", {"axis": 1}), ("broadcast", {"shape": (3, 5, 6)})) == ["all", "all"]
    assert chain(("slice", {"axis": 1, "start": 0, "stop": 1})) == ["all"]
    assert chain(("slice", {"axis": 2, "start": 0, "stop": 5})) == ["tokens"]


def test_what_the_owner_alone_knows_has_no_batch_although_its_first_axis_is_as_long() -> None:
    builder = Builder(3, 3)
    x, table = builder.input("x", "client", (3, 3, 2)), builder.weight("table", np.arange(12.0).reshape(6, 2))
    rows = builder.emit("rows", "slice", [table], axis=0, start=0, stop=3)
    graph: Graph = builder.finish(None, [builder.emit("sum", "add", [x, rows])])
    recorder = RangeRecorder(graph, {})
    recorder(graph.operations[0], (np.zeros((6, 2)),), np.arange(6.0).reshape(3, 2))
    assert recorder.requests == ({"rows": {"value": (0.0, 5.0)}},) * 3
