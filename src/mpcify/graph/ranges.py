"""Ranges: how large the values of a graph get, how large they may get in a ring, and the proof that they fit.

Measured on calibration data over real tokens (rows of padding may wrap: they are multiplied by an exact zero), declared
with a margin, stored with the graph. An engine proves at compile time that nothing wraps inside the declared ranges.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.postpone import postponed_limit
from mpcify.numerics import FixedPoint

# operation name: {quantity: (least, largest)}
Ranges = dict[str, dict[str, tuple[float, float]]]
AnyRanges = Mapping[str, Mapping[str, tuple[float, float]]]

# Kinds whose "value" is a product before its truncation.
PRODUCTS = ("matmul", "mul", "square", "scale", "exp", "reciprocal", "gelu", "gelu-tanh")
# Kinds that record their "input" too: a function with a range of its own, or with products inside.
FUNCTIONS = ("exp", "reciprocal", "gelu", "gelu-tanh", "gelu-poly")
MARGIN = 4.0
VARIANCE_MARGIN = 8.0
EXPONENT_MARGIN = 2.0  # training holds S/2ᵗ above −1
ROW_MAXIMUM_MARGIN = 8.0  # added: a score is a logarithm
LEAST_ROW_MAXIMUM = -20.0  # masked scores stand at −30
SPU_EXP_LEAST = -512.0  # (1 + x/256)^256 rises again below
SPU_EXP_LARGEST = 12.0  # and is 24 % too small above
SPU_STEPS = 26  # below 26 steps (1e-4 at f = 18) rsqrt and reciprocal feel the rounding of their input
SPU_RSQRT_LEAST, SPU_RSQRT_LARGEST = 2.0**-13, 2.0**17  # LayerNorm's rsqrt has no guess outside
LEAST_EXPONENT = -2.0  # exp_t(S) = (1 + S/2ᵗ)^(2ᵗ) rises again below
GELU_POLY_INNER = 3.0  # its polynomials count up to here
LIKE = ("spu",)


class RangeRecorder:
    """Records a run in floats: pass it as `observe` to `PlainSession.run`.

    graph, inputs: what runs. Real tokens are those whose `mask` or `share` is above 0; without either, all are.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, np.ndarray]) -> None:
        self.graph = graph
        given = next((inputs[name] for name in ("mask", "share") if name in inputs), None)
        real = None if given is None else np.asarray(given)[..., 0] > 0  # (B, n)
        self.real = None if real is None or real.all() else real
        self.exponents = exponents(graph)
        self.requests: tuple[Ranges, ...] = tuple({} for _ in range(graph.batch))

    def __call__(self, operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> None:
        """Takes note of one operation, its inputs and its output (float arrays)."""
        found = quantities(operation, inputs, output)
        if operation.name in self.exponents:
            found["exponent"] = output / inputs[1] - 1
        for quantity, values in found.items():
            for request, ranges in enumerate(self.requests):
                here = self.real_values(operation, values, request)
                if here.size:
                    ranges.setdefault(operation.name, {})[quantity] = (float(here.min()), float(here.max()))

    def real_values(self, operation: Operation, values: np.ndarray, request: int) -> np.ndarray:
        """The values of one request that belong to real tokens; what has no batch axis belongs to all requests."""
        if values.ndim == 0 or values.shape[0] != self.graph.batch:
            return values
        values = values[request]
        if self.real is None:
            return values
        real = self.real[request]
        for axis in {"tokens": (0,), "heads": (1,), "scores": (1, 2), "all": ()}[operation.rows]:
            if axis < values.ndim and values.shape[axis] == real.size:  # a row's sum or maximum has no keys left
                values = np.compress(real, values, axis)
        return values

    @property
    def ranges(self) -> Ranges:
        """What all requests together met."""
        together: Ranges = {}
        for ranges in self.requests:
            together = merge(together, ranges)
        return together


def exponents(graph: Graph) -> frozenset[str]:
    """The additions (S/2ᵗ + 1)·g from which exp_t is squared, twice or more; g is their second input, the owner's."""
    readers, owned = graph.consumers(), {item.name for item in graph.role("owner")}

    def only_squared(name: str) -> bool:
        return [reader.kind for reader in readers[name]] == ["square"]

    return frozenset(
        operation.name
        for operation in graph.operations
        if operation.kind == "add" and operation.inputs[-1] in owned and only_squared(operation.name)
        if only_squared(readers[operation.name][0].name)
    )


def quantities(operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays whose ranges an operation needs.

    "value": its output. "product": what `linear` and `layernorm` truncate (the bias comes after). "variance":
    layernorm's. "input": of exp, reciprocal and the GeLUs. A recorder adds "exponent", S/2ᵗ, where exp_t begins.
    """
    found = {"value": output}
    if operation.kind in FUNCTIONS:
        found["input"] = inputs[0]
    elif operation.kind in ("linear", "square-linear"):
        found["product"] = output - inputs[2]
    elif operation.kind == "layernorm":
        mean = inputs[0].mean(-1, keepdims=True)
        deviation = inputs[0] - mean
        square = deviation * deviation
        found["variance"] = square.mean(-1, keepdims=True)
        normal = deviation / np.sqrt(found["variance"] + max(operation.attributes["eps"], np.finfo(np.float64).tiny))
        found["product"] = np.concatenate([mean, square, normal, output - inputs[2]], -1)
    return found


def hull(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The least range that holds two."""
    return min(a[0], b[0]), max(a[1], b[1])


def merge(a: AnyRanges, b: AnyRanges) -> Ranges:
    """The least ranges that hold both."""
    together = {name: dict(entry) for name, entry in a.items()}
    for name, entry in b.items():
        own = together.setdefault(name, {})
        for quantity, found in entry.items():
            own[quantity] = hull(own[quantity], found) if quantity in own else found
    return together


def declare(graph: Graph, measured: AnyRanges) -> Ranges:
    """Measured ranges with their margins: ×4 outwards, ÷4 towards zero; variances, and the squares in them, ×8 and ÷8.

    An exponent of exp_t gets ×2, and a row's maximum may fall by 8. `check_ranges` says whether all that fits a ring.
    """
    kinds = {operation.name: operation.kind for operation in graph.operations}
    declared: Ranges = {}
    for name, entry in measured.items():
        declared[name] = {}
        for quantity, (least, largest) in entry.items():
            in_variance = quantity == "variance" or (kinds.get(name) == "layernorm" and quantity == "product")
            margin = VARIANCE_MARGIN if in_variance else EXPONENT_MARGIN if quantity == "exponent" else MARGIN
            low = least * margin if least < 0 else least / margin
            if kinds.get(name) == "max":
                low = least - ROW_MAXIMUM_MARGIN
            declared[name][quantity] = low, largest * margin if largest > 0 else largest / margin
    return declared


def outside(measured: AnyRanges, declared: AnyRanges) -> list[tuple[str, str]]:
    """The (operation, quantity) pairs that left their declared ranges: of a run, or of one of its `requests`."""
    return [
        (name, quantity)
        for name, entry in measured.items()
        for quantity, (least, largest) in entry.items()
        if quantity in declared.get(name, {})
        and not (declared[name][quantity][0] <= least and largest <= declared[name][quantity][1])
    ]


@dataclass(frozen=True)
class RangeRow:
    """One quantity of one operation against what a ring holds.

    where: layer, part and name, as an error says them. least, largest: of its range. bound: the limit that is nearest.
    headroom_bits: how many bits are left below it; negative where the range overflows.
    """

    operation: str
    where: str
    layer: int | None
    part: str
    kind: str
    quantity: str
    least: float
    largest: float
    bound: float
    headroom_bits: float
    overflow: bool


def check_like(like: str) -> None:
    """Raises MPC-501 for an engine whose functions are not known here."""
    if like not in LIKE:
        what = f"the functions of the engine {like!r} are not available"
        raise MpcifyError(501, "fixed point functions", what, f"use --like {' or '.join(LIKE)}")


def check_ranges(graph: Graph, ranges: AnyRanges, number: FixedPoint, like: str = "spu") -> list[RangeRow]:
    """One row a quantity, in the graph's order. like: the engine whose functions' ranges count ("spu"; else MPC-501).

    Products, a dot's whole sum included, stay below 2^(K−2−2f); other values below 2^(K−2−f). For spu: variances and
    reciprocals' inputs within 26·2^−f … 2^(f−1), exp's within −512 … 12; a masked softmax's row maximum above −20,
    exp_t's scores above −2^(t+1).
    """
    check_like(like)
    masked = any(item.name == "mask" for item in graph.inputs)
    rows = []
    for operation in graph.operations:
        place = (operation.name, operation.where, operation.layer, operation.part, operation.kind)
        for quantity, (least, largest) in ranges.get(operation.name, {}).items():
            low, high = limits(operation, quantity, number)
            if operation.kind == "max" and not masked:
                low = -high
            # where the lower limit is positive, what counts is how many times larger the least value is
            below = math.log2(max(least, number.step**2) / low) if low > 0 else number.headroom(-least, -low)
            room, bound = min((number.headroom(largest, high), high), (below, low), key=lambda side: side[0])
            rows.append(RangeRow(*place, quantity, least, largest, bound, room, overflow=not room > 0))
    return rows


def limits(operation: Operation, quantity: str, number: FixedPoint) -> tuple[float, float]:
    """The open range in which a quantity of an operation is right in the ring, for SPU's functions."""
    kind, product, value = operation.kind, number.product_bound, number.value_bound
    least = SPU_STEPS * number.step
    postponed = postponed_limit(operation, quantity, number)
    if postponed is not None:
        return -postponed, postponed
    if quantity == "product":
        return -product, product
    if quantity == "variance":
        # where squares are summed before they are truncated, the sum of a row's must fit
        largest = product / operation.shape[-1] if number.postpones else product
        return max(least, SPU_RSQRT_LEAST, product**-2), min(SPU_RSQRT_LARGEST, number.scale / 2, largest)
    if quantity == "input":
        if kind == "reciprocal":
            return max(least, 1 / product), number.scale / 2
        if kind == "exp":
            return SPU_EXP_LEAST, min(SPU_EXP_LARGEST, math.log(product))
        reach = product
        if kind == "gelu-tanh":  # x³ is a product
            reach = product ** (1 / 3)
        elif kind == "gelu-poly":  # so is x⁶, which counts up to 3
            reach = value if product > GELU_POLY_INNER**6 else product ** (1 / 6)
        return -reach, reach
    if kind == "max" or quantity == "exponent":
        return LEAST_ROW_MAXIMUM if kind == "max" else LEAST_EXPONENT, value
    bound = product if kind in PRODUCTS else value
    return -bound, bound


def refuse(rows: list[RangeRow], force: bool = False) -> None:
    """Raises MPC-402 for the first operation that overflows, unless forced."""
    worst = next((row for row in rows if row.overflow), None)
    if worst is None or force:
        return
    others = sum(row.overflow for row in rows) - 1
    raise MpcifyError(
        402,
        worst.where,
        f"its {worst.quantity} ranges from {worst.least:.3g} to {worst.largest:.3g}, and {worst.bound:.3g} is the limit"
        + (f" ({others} more overflow)" if others else ""),
        "use a wider ring or fewer fraction bits, distill with a range penalty, or --force it",
    )
