"""The table of kinds: shapes of outputs, rules of attributes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcify.graph.build import Builder
from mpcify.graph.kinds import KINDS, MOST_AXES, MOST_ELEMENTS, broadcast, infer_shape, is_finite, is_shape

# kind: shapes that fit, attributes, and the output's shape
FITTING: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any], tuple[int, ...]]] = {
    "linear": (((2, 3, 4), (4, 5), (5,)), {}, (2, 3, 5)),
    "matmul": (((2, 1, 3, 4), (2, 6, 4, 5)), {"transpose": False}, (2, 6, 3, 5)),
    "square-linear": (((2, 3, 4), (4, 5), (5,)), {"room": 4}, (2, 3, 5)),
    "square-matmul": (((2, 3, 4), (2, 5, 4)), {"transpose": True}, (2, 3, 5)),
    "mul": (((2, 3), (3,)), {}, (2, 3)),
    "add": (((2, 1), (1, 3)), {}, (2, 3)),
    "sub": (((2, 3), ()), {}, (2, 3)),
    "scale": (((2, 3),), {"by": 2}, (2, 3)),
    "shift": (((2, 3),), {"by": -0.5}, (2, 3)),
    "sum": (((2, 3),), {"axis": -1}, (2, 1)),
    "max": (((2, 3),), {"axis": 0}, (1, 3)),
    "softmax": (((2, 3),), {"axis": 1}, (2, 3)),
    "reshape": (((2, 3),), {"shape": (3, 2, 1)}, (3, 2, 1)),
    "broadcast": (((2, 1),), {"shape": (4, 2, 3)}, (4, 2, 3)),
    "transpose": (((2, 3, 4),), {"axes": (2, 0, 1)}, (4, 2, 3)),
    "slice": (((2, 3),), {"axis": -1, "start": 1, "stop": 3}, (2, 2)),
    "concat": (((2, 3), (2, 1), (2, 4)), {"axis": 1}, (2, 8)),
    "exp": (((2, 3),), {"t": 8}, (2, 3)),
    "layernorm": (((2, 3), (3,), (3,)), {"eps": 0.0}, (2, 3)),
    "attention": (
        ((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 8), (4,)),
        {"attention": "2quad", "centre_keys": False, "t": 6, "scaling": 0.5, "length": 6},
        (2, 4, 5, 8),
    ),
    "activation": (((2, 3),), {"activation": "quad"}, (2, 3)),
    **{name: (((2, 3),), {}, (2, 3)) for name in ("square", "reciprocal", "tanh", "relu", "gelu")},
    **{name: (((2, 3),), {}, (2, 3)) for name in ("gelu-tanh", "gelu-poly", "gelu-erfc")},
}

UNFITTING = [
    ("linear", ((2, 3), (4, 5), (5,)), {}),
    ("linear", ((2, 4), (4, 5), (4,)), {}),
    ("linear", ((2, 4), (4,), (4,)), {}),
    ("linear", ((), (4, 5), (5,)), {}),
    ("matmul", ((2, 3), (4, 5)), {"transpose": False}),
    ("matmul", ((2, 3), (3, 4)), {"transpose": True}),
    ("matmul", ((3,), (3, 4)), {"transpose": False}),
    ("matmul", ((2, 3, 4), (3, 4, 5)), {"transpose": False}),
    ("add", ((2, 3), (2,)), {}),
    ("sum", ((2, 3),), {"axis": 2}),
    ("max", ((2, 3),), {"axis": -3}),
    ("softmax", ((2, 3),), {"axis": 2}),
    ("reshape", ((2, 3),), {"shape": (5,)}),
    ("broadcast", ((2, 3),), {"shape": (2, 1)}),
    ("broadcast", ((2, 3),), {"shape": (3,)}),
    ("transpose", ((2, 3),), {"axes": (0, 0)}),
    ("transpose", ((2, 3),), {"axes": (0,)}),
    ("slice", ((2, 3),), {"axis": 1, "start": 1, "stop": 1}),
    ("slice", ((2, 3),), {"axis": 1, "start": 1, "stop": 4}),
    ("slice", ((2, 3),), {"axis": 1, "start": -1, "stop": 2}),
    ("concat", ((2, 3), (3, 3)), {"axis": 1}),
    ("concat", ((2, 3), (2,)), {"axis": 0}),
    ("layernorm", ((2, 3), (2,), (3,)), {"eps": 0.0}),
    ("layernorm", ((2, 3), (3,), (1, 3)), {"eps": 0.0}),
    ("attention", ((2, 4, 5, 8), (2, 4, 6, 8)), FITTING["attention"][1]),
    ("attention", ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), FITTING["attention"][1]),
    ("attention", ((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 8), (3,)), FITTING["attention"][1]),
    # a bias: of 5 queries and 6 keys, of too few distances, of an even number of them, of other heads
    ("attention", ((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 8), (4, 11)), FITTING["attention"][1]),
    ("attention", ((2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8), (4, 9)), FITTING["attention"][1]),
    ("attention", ((2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8), (4, 12)), FITTING["attention"][1]),
    ("attention", ((2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8), (3, 11)), FITTING["attention"][1]),
]

# kind and attribute: values that it takes, and values that it does not
VALUES = {
    ("scale", "by"): ((1, -2.5, 0.0), (True, "1", None, float("nan"), float("inf"), 10**400, [1.0])),
    ("shift", "by"): ((1,), (False, -float("inf"))),
    ("matmul", "transpose"): ((True, False), (0, 1, "true", None)),
    ("square-linear", "room"): ((1, 4), (0, -4, 4.0, True, 10**9)),
    ("sum", "axis"): ((0, -1), (1.0, True, None, "0")),
    ("reshape", "shape"): (((2, 3), ()), ((2, -1), (2, 0), [2, 3], (2.0, 3), (True, 6), "ab", (1,) * (MOST_AXES + 1))),
    ("transpose", "axes"): (((1, 0),), ((1.0, 0), (True, False), [1, 0], None)),
    ("slice", "start"): ((0,), (0.0, None, False)),
    ("exp", "t"): ((1, 10), (0, 11, 8.0, True)),
    ("layernorm", "eps"): ((0, 1e-12), (-1e-12, True, "0", float("nan"))),
    ("attention", "centre_keys"): ((True,), (0, 1)),
    ("attention", "t"): ((1, 10), (0, 11)),
    ("attention", "attention"): (("softmax",), ("", 2, "x" * 65)),
    ("attention", "length"): ((1,), (0, True)),
    ("activation", "activation"): (("quad",), (None,)),
}


def test_every_kind_is_tried_here() -> None:
    assert FITTING.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_of_an_output(kind: str) -> None:
    shapes, attributes, output = FITTING[kind]
    assert KINDS[kind].arity in (None, len(shapes))
    assert attributes.keys() == KINDS[kind].attributes.keys()
    assert all(rule(attributes[name]) for name, rule in KINDS[kind].attributes.items())
    assert infer_shape(kind, shapes, attributes) == output


@pytest.mark.parametrize(("kind", "shapes", "attributes"), UNFITTING)
def test_shapes_that_do_not_fit(kind: str, shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        infer_shape(kind, shapes, attributes)


@pytest.mark.parametrize(("kind", "name"), VALUES)
def test_what_an_attribute_may_be(kind: str, name: str) -> None:
    rule = KINDS[kind].attributes[name]
    good, bad = VALUES[kind, name]
    assert [value for value in good if not rule(value)] == []
    assert [value for value in bad if rule(value)] == []


@given(st.lists(st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=3))
def test_shapes_broadcast_as_numpys(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ValueError):
            broadcast(*shapes)
    else:
        assert broadcast(*shapes) == expected


def test_a_value_may_be_as_large_as_any_model_needs_and_no_larger() -> None:
    assert is_shape((32, 512, 250_002)), "one-hot rows of the largest vocabulary, 32 texts of 512 tokens"
    assert not is_shape((MOST_ELEMENTS, 2))
    assert not is_shape((10**400,))
    assert not is_finite(10**400)


def test_a_reshape_may_leave_one_axis_to_the_builder() -> None:
    builder = Builder(1, 1)
    name = builder.emit("y", "reshape", [builder.input("x", "client", (2, 3, 4))], shape=(2, -1))
    assert (builder.shape(name), builder.operations[name].attributes) == ((2, 12), {"shape": (2, 12)})
    with pytest.raises(ValueError):
        builder.emit("z", "reshape", ["x"], shape=(5, -1))
