"""Every kind of operation in one table: its inputs and attributes, the shape of its output, the axes of tokens in it.

x, a, b are inputs; shapes are numpy's, with broadcasting if the table says so. A kind belongs to a stage of a graph:

- traced: as torch wrote it, with composites, which the passes lower away;
- lowered: what is exported, and what every engine takes;
- fitted: what an engine made of it, with products that square their first factor, and weights held as integers.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["traced", "lowered", "fitted"]
Shape = tuple[int, ...]
# The axes that run over tokens: each a (first, behind the last) of neighbours. Two if an image's rows and columns
# stand apart, (2, 4); queries and keys are one axis each, (2, 3) and (3, 4).
TokenAxes = frozenset[tuple[int, int]]
Attributes = Mapping[str, Any]
Rule = Callable[[Any], bool]

NOWHERE: TokenAxes = frozenset()
# Elements of one value. 32 texts of 512 tokens are 2²⁹ as one-hot rows of BERT-large's 30,522 words, 2³² of the 250,002
# that the largest common vocabulary has. In float64 this is 128 GiB: no shape in a file makes numpy ask for more.
MOST_ELEMENTS = 1 << 34
MOST_AXES = 8
MOST_SQUARINGS = 10
MOST_ROOM = 1 << 16


@dataclass(frozen=True)
class Kind:
    """A kind of operation.

    arity: how many inputs; None: one or more. attributes: a rule for each. shape: of the output, from the inputs'
    shapes and the attributes; ValueError if they do not fit. rows: the output's token axes, from the inputs' and all
    shapes. quantities: what has a declared range.
    """

    arity: int | None
    attributes: Mapping[str, Rule]
    shape: Callable[[Sequence[Shape], Attributes], Shape]
    rows: Callable[[Sequence[TokenAxes], Sequence[Shape], Shape, Attributes], TokenAxes]
    stage: Stage = "lowered"
    quantities: tuple[str, ...] = ("value",)


# Rules of attributes.


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a value is a number that float64 holds."""
    return (is_integer(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def is_shape(value: Any) -> bool:
    """Whether a value is the shape of something that fits into memory; no axis is empty."""
    return (
        isinstance(value, tuple)
        and len(value) <= MOST_AXES
        and all(is_integer(size) and 0 < size <= MOST_ELEMENTS for size in value)
        and math.prod(value) <= MOST_ELEMENTS
    )


def is_flag(value: Any) -> bool:
    """Whether a value is True or False."""
    return isinstance(value, bool)


def is_word(value: Any) -> bool:
    """Whether a value is the name of a replacement."""
    return isinstance(value, str) and 0 < len(value) <= 64


def are_integers(value: Any) -> bool:
    """Whether a value is a tuple of whole numbers."""
    return isinstance(value, tuple) and all(map(is_integer, value))


def not_negative(value: Any) -> bool:
    """Whether a value is a finite number from 0 on."""
    return is_finite(value) and value >= 0


def between(least: int, largest: int) -> Rule:
    """The rule of whole numbers between two, both included."""
    return lambda value: is_integer(value) and least <= value <= largest


# Shapes of outputs.


def need(holds: bool, what: str) -> None:
    """Raises ValueError unless something holds."""
    if not holds:
        raise ValueError(what)


def axis_of(shape: Shape, axis: int) -> int:
    """An axis counted from the first; ValueError if there is none."""
    need(-len(shape) <= axis < len(shape), f"there is no axis {axis}")
    return axis % len(shape)


def broadcast(*shapes: Shape) -> Shape:
    """What shapes give together, as numpy broadcasts them."""
    rank = max(map(len, shapes))
    together = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        size = max(sizes)
        need(set(sizes) <= {1, size}, f"shapes {shapes} do not broadcast")
        together.append(size)
    return tuple(together)


def same_shape(shapes: Sequence[Shape], _: Attributes) -> Shape:
    return shapes[0]


def broadcast_shape(shapes: Sequence[Shape], _: Attributes) -> Shape:
    return broadcast(*shapes)


def linear_shape(shapes: Sequence[Shape], _: Attributes) -> Shape:
    x, w, b = shapes
    need(len(x) > 0 and len(w) == 2 and x[-1:] == w[:1] and b == w[1:], f"{x} @ {w} + {b} is no linear layer")
    return (*x[:-1], w[1])


def matmul_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    a, b = shapes
    need(len(a) > 1 and len(b) > 1, "a product needs matrices")
    inner, columns = (b[-1], b[-2]) if attributes["transpose"] else (b[-2], b[-1])
    need(a[-1] == inner, f"{a} @ {b} is no product")
    return (*broadcast(a[:-2], b[:-2]), a[-2], columns)


def reduced_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    (x,) = shapes
    axis = axis_of(x, attributes["axis"])
    return (*x[:axis], 1, *x[axis + 1 :])


def along_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    axis_of(shapes[0], attributes["axis"])
    return shapes[0]


def reshape_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    shape: Shape = attributes["shape"]
    need(math.prod(shapes[0]) == math.prod(shape), f"{shapes[0]} has another size than {shape}")
    return shape


def broadcast_to_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    shape: Shape = attributes["shape"]
    need(broadcast(shapes[0], shape) == shape, f"{shapes[0]} does not broadcast to {shape}")
    return shape


def transpose_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    (x,) = shapes
    need(sorted(attributes["axes"]) == list(range(len(x))), f"{attributes['axes']} are not the axes of {x}")
    return tuple(x[axis] for axis in attributes["axes"])


def slice_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    (x,) = shapes
    axis, start, stop = axis_of(x, attributes["axis"]), attributes["start"], attributes["stop"]
    need(0 <= start < stop <= x[axis], f"{start} to {stop} is not inside {x}")
    return (*x[:axis], stop - start, *x[axis + 1 :])


def concat_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    first = shapes[0]
    axis = axis_of(first, attributes["axis"])
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    need(len(others) == 1 and {len(shape) for shape in shapes} == {len(first)}, f"{shapes} do not join")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def layernorm_shape(shapes: Sequence[Shape], _: Attributes) -> Shape:
    x, g, b = shapes
    need(len(x) > 0 and g == b == x[-1:], f"{g} and {b} are not the last axis of {x}")
    return x


def attention_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    need(3 <= len(shapes) <= 6, "an attention reads queries, keys, values, and its bias, c and log γ at most")
    q, k, v, *extra = shapes
    if extra and len(extra[0]) == 2:
        heads, distances = extra.pop(0)
        need(q[1:2] == (heads,) and distances % 2 == 1 and q[2:3] == k[2:3], "its bias is of other heads or queries")
        need(distances >= 2 * attributes["length"] - 1, "its bias does not reach so far")
    need(len(q) == len(k) == 4 and k == v and (*q[:2], q[3]) == (*k[:2], k[3]), f"{q}, {k}, {v} are no attention")
    need(k[2] == attributes["length"] and all(shape == (q[1],) for shape in extra), "its length or c, log γ do not fit")
    return q


# Token axes of outputs.


def without(axes: TokenAxes, axis: int) -> TokenAxes:
    """Token axes but for those of which one axis is a part."""
    return frozenset(span for span in axes if not span[0] <= axis < span[1])


def aligned(axes: TokenAxes, shape: Shape, output: Shape) -> TokenAxes:
    """Token axes after broadcasting, which adds axes in front."""
    added = len(output) - len(shape)
    return frozenset((start + added, stop + added) for start, stop in axes)


def of_first(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, _: Attributes) -> TokenAxes:
    return axes[0]


def of_all(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, _: Attributes) -> TokenAxes:
    return NOWHERE.union(*(aligned(own, shape, output) for own, shape in zip(axes, shapes, strict=True)))


def of_linear(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, _: Attributes) -> TokenAxes:
    return without(axes[0], len(output) - 1)


def of_matmul(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, attributes: Attributes) -> TokenAxes:
    """Rows are a's, columns b's; a product with a transpose is QKᵀ, whose rows are queries and whose columns keys."""
    last = len(output)
    rows, columns = (aligned(own, shape, output) for own, shape in zip(axes, shapes, strict=True))
    if attributes["transpose"]:
        return without(without(rows | columns, last - 2), last - 1) | {(last - 2, last - 1), (last - 1, last)}
    return without(rows, last - 1) | without(columns, last - 2)


def of_reduced(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, attributes: Attributes) -> TokenAxes:
    return without(axes[0], axis_of(output, attributes["axis"]))


def of_slice(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, attributes: Attributes) -> TokenAxes:
    return axes[0] if output == shapes[0] else without(axes[0], axis_of(output, attributes["axis"]))


def of_reshape(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, _: Attributes) -> TokenAxes:
    """The output's axes over the same values: as many values before them, as many up to their end."""
    starts = [math.prod(output[:axis]) for axis in range(len(output) + 1)]
    found = set()
    for start, stop in axes[0]:
        before, behind = math.prod(shapes[0][:start]), math.prod(shapes[0][:stop])
        if before < behind and {before, behind} <= set(starts):
            found.add((len(starts) - 1 - starts[::-1].index(before), starts.index(behind)))
    return frozenset(found)


def of_transpose(
    axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, attributes: Attributes
) -> TokenAxes:
    order: tuple[int, ...] = attributes["axes"]
    found = set()
    for start, stop in axes[0]:
        place = order.index(start)
        if order[place : place + stop - start] == tuple(range(start, stop)):
            found.add((place, place + stop - start))
    return frozenset(found)


def of_attention(axes: Sequence[TokenAxes], shapes: Sequence[Shape], output: Shape, _: Attributes) -> TokenAxes:
    return frozenset({(2, 3)})


FUNCTION = ("value", "input")  # of a function with a range of its own, or with products inside
PRODUCT = ("value", "product")  # the bias comes after the truncation

KINDS: Mapping[str, Kind] = {
    # products: each is one truncation
    # x @ w + b; x (…, p), w (p, q), b (q)
    "linear": Kind(3, {}, linear_shape, of_linear, quantities=PRODUCT),
    # a @ b, batched over equal leading axes; transpose: a @ bᵀ (last two axes)
    "matmul": Kind(2, {"transpose": is_flag}, matmul_shape, of_matmul),
    "mul": Kind(2, {}, broadcast_shape, of_all),  # a · b with broadcasting, both secret
    "square": Kind(1, {}, same_shape, of_first),  # x²
    "scale": Kind(1, {"by": is_finite}, same_shape, of_first),  # x · by, by a public number
    # a square and the product that reads it: two truncations of the product, none of the square
    # x² @ (room · w) + b
    "square-linear": Kind(3, {"room": between(1, MOST_ROOM)}, linear_shape, of_linear, "fitted", PRODUCT),
    "square-matmul": Kind(2, {"transpose": is_flag}, matmul_shape, of_matmul, "fitted"),  # a² @ b
    # local
    "add": Kind(2, {}, broadcast_shape, of_all),  # a + b with broadcasting
    "sub": Kind(2, {}, broadcast_shape, of_all),  # a − b with broadcasting
    "shift": Kind(1, {"by": is_finite}, same_shape, of_first),  # x + by, by a public number
    "sum": Kind(1, {"axis": is_integer}, reduced_shape, of_reduced),  # over one axis, kept with size 1
    "reshape": Kind(1, {"shape": is_shape}, reshape_shape, of_reshape),
    "transpose": Kind(1, {"axes": are_integers}, transpose_shape, of_transpose),
    "slice": Kind(1, {"axis": is_integer, "start": is_integer, "stop": is_integer}, slice_shape, of_slice),
    "concat": Kind(None, {"axis": is_integer}, concat_shape, of_all),  # any number of inputs
    "broadcast": Kind(1, {"shape": is_shape}, broadcast_to_shape, of_all),
    # functions with comparisons, divisions or series
    "max": Kind(1, {"axis": is_integer}, reduced_shape, of_reduced),  # over one axis, kept with size 1
    # under shares (1 + x/2ᵗ)^(2ᵗ)
    "exp": Kind(1, {"t": between(1, MOST_SQUARINGS)}, same_shape, of_first, quantities=FUNCTION),
    "reciprocal": Kind(1, {}, same_shape, of_first, quantities=FUNCTION),
    "tanh": Kind(1, {}, same_shape, of_first),
    "relu": Kind(1, {}, same_shape, of_first),
    "gelu": Kind(1, {}, same_shape, of_first, quantities=FUNCTION),  # x/2 · (1 + erf(x/√2))
    # x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))
    "gelu-tanh": Kind(1, {}, same_shape, of_first, quantities=FUNCTION),
    "gelu-poly": Kind(1, {}, same_shape, of_first, quantities=FUNCTION),  # PUMA's piecewise polynomial
    # (x − mean) · rsqrt(variance + eps) · g + b over the last axis
    "layernorm": Kind(3, {"eps": not_negative}, layernorm_shape, of_first, quantities=("value", "variance", "product")),
    # as JAX writes them: what the benchmark's `naive` recipe runs
    "softmax": Kind(1, {"axis": is_integer}, along_shape, of_first),
    "gelu-erfc": Kind(1, {}, same_shape, of_first),
    # composites: no engine sees them
    # of q, k, v; then, if it has them: b (heads, 2N − 1) of a bias B[h, i, j] = b[h, N − 1 + j − i], c, log γ (heads)
    "attention": Kind(
        None,
        {
            "attention": is_word,
            "centre_keys": is_flag,
            "t": between(1, MOST_SQUARINGS),
            "scaling": is_finite,
            "length": between(1, MOST_ELEMENTS),
        },
        attention_shape,
        of_attention,
        "traced",
    ),
    "activation": Kind(1, {"activation": is_word}, same_shape, of_first, "traced"),
}
COMPOSITES = tuple(name for name, kind in KINDS.items() if kind.stage == "traced")


def infer_shape(kind: str, shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """The shape of an operation's output, from its inputs' shapes. Raises ValueError if they do not fit."""
    return KINDS[kind].shape(shapes, attributes)
