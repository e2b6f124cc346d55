"""Ranges: how large the values of a graph get.

Measured on calibration data over real tokens (rows of padding may wrap: they are multiplied by an exact zero), declared
with a margin and rounded outwards, stored with the graph. An engine proves at compile time that nothing wraps inside
the declared ranges.
"""

import math
from collections.abc import Mapping

import numpy as np

from mpcify.graph.graph import Graph, Operation
from mpcify.graph.kinds import KINDS

# operation name: {quantity: (least, largest)}
Ranges = dict[str, dict[str, tuple[float, float]]]
AnyRanges = Mapping[str, Mapping[str, tuple[float, float]]]

MARGIN = 4.0
VARIANCE_MARGIN = 8.0
EXPONENT_MARGIN = 2.0  # training holds S/2ᵗ above −1
ROW_MAXIMUM_MARGIN = 8.0  # added: a score is a logarithm
EXPONENT = "exponent"  # of an addition from which exp_t is squared: S/2ᵗ
SPREAD = "spread"  # of a value that is doubled: its standard deviation before
UNIT = ".unit"  # how the name of exp_t's g ends


class RangeRecorder:
    """Records a run in floats: pass it as `observe` to `PlainSession.run`.

    graph, inputs: what runs. Real tokens are those whose `mask` or `share` is above 0; without either, all are.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, np.ndarray]) -> None:
        self.graph = graph
        given = next((inputs[name] for name in ("mask", "share") if name in inputs), None)
        real = None if given is None else np.asarray(given)[..., 0] > 0  # (B, n)
        self.real = None if real is None or real.all() else real
        self.exponents, self.batched = exponents(graph), batched(graph)
        self.requests: tuple[Ranges, ...] = tuple({} for _ in range(graph.batch))

    def __call__(self, operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> None:
        """Takes note of one operation, its inputs and its output (float arrays)."""
        found = quantities(operation, inputs, output)
        if operation.name in self.exponents:
            found[EXPONENT] = output / inputs[1] - 1
        for quantity, values in found.items():
            for request, ranges in enumerate(self.requests):
                here = self.real_values(operation, values, request)
                if here.size:
                    ranges.setdefault(operation.name, {})[quantity] = (float(here.min()), float(here.max()))

    def real_values(self, operation: Operation, values: np.ndarray, request: int) -> np.ndarray:
        """The values of one request that belong to real tokens; what has no batch axis belongs to all requests."""
        if operation.name not in self.batched or values.ndim == 0 or values.shape[0] != self.graph.batch:
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
        """The least and the largest of all requests together."""
        together: Ranges = {}
        for ranges in self.requests:
            together = merge(together, ranges)
        return together


def exponents(graph: Graph) -> frozenset[str]:
    """The additions (S/2ᵗ + 1)·g from which exp_t is squared; g is their second input, the owner's.

    Two squares or more are exp_t's alone; after a single one (t = 1) it is known by the name of g.
    """
    readers, owned = graph.consumers(), {item.name for item in graph.held_by("owner")}

    def only_squared(name: str) -> bool:
        return [reader.kind for reader in readers[name]] == ["square"]

    return frozenset(
        operation.name
        for operation in graph.operations
        if operation.kind == "add" and operation.inputs[-1] in owned and only_squared(operation.name)
        if operation.inputs[-1].endswith(UNIT) or only_squared(readers[operation.name][0].name)
    )


def batched(graph: Graph) -> frozenset[str]:
    """The operations whose first axis is the batch: all that read more than what the owner holds."""
    found = {item.name for item in graph.inputs if item.holder != "owner"}
    for operation in graph.operations:
        if not found.isdisjoint(operation.inputs):
            found.add(operation.name)
    return frozenset(found)


def recorded(operation: Operation, exponent: bool) -> frozenset[str]:
    """The quantities that a recorder finds for an operation; exponent: whether exp_t begins there."""
    return frozenset(KINDS[operation.kind].quantities) | ({EXPONENT} if exponent else frozenset())


def quantities(operation: Operation, inputs: tuple[np.ndarray, ...], output: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays whose ranges an operation needs.

    "value": its output. "product": what `linear` and `layernorm` truncate (the bias comes after). "variance":
    layernorm's. "input": of exp, reciprocal and the GeLUs. A recorder adds "exponent", S/2ᵗ, where exp_t begins.
    """
    found, wanted = {"value": output}, KINDS[operation.kind].quantities
    if "input" in wanted:
        found["input"] = inputs[0]
    if operation.kind != "layernorm" and "product" in wanted:
        found["product"] = output - inputs[2]
    if operation.kind == "layernorm":
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

    An exponent of exp_t gets ×2, and a row's maximum may fall by 8. All are rounded outwards, see `rounded`.
    An engine's rules say whether all that fits a ring.
    """
    kinds = {operation.name: operation.kind for operation in graph.operations}
    declared: Ranges = {}
    for name, entry in measured.items():
        declared[name] = {}
        for quantity, (least, largest) in entry.items():
            in_variance = quantity == "variance" or (kinds.get(name) == "layernorm" and quantity == "product")
            margin = VARIANCE_MARGIN if in_variance else EXPONENT_MARGIN if quantity == EXPONENT else MARGIN
            low = least * margin if least < 0 else least / margin
            if kinds.get(name) == "max":
                low = least - ROW_MAXIMUM_MARGIN
            declared[name][quantity] = low, largest * margin if largest > 0 else largest / margin
    return rounded(declared)


def rounded(ranges: AnyRanges) -> Ranges:
    """Ranges with both ends moved outwards to ±2^(k/4), k whole: every party holds them, and no end is a weight's own.

    Rounding twice changes nothing.
    """
    return {
        name: {
            quantity: (-quarter_octave(-least), quarter_octave(largest)) for quantity, (least, largest) in entry.items()
        }
        for name, entry in ranges.items()
    }


def quarter_octave(value: float) -> float:
    """The least ±2^(k/4), k whole, that is not below a number; 0 and what no ring holds (2¹⁰⁰⁰ on) as it is."""
    if not 2.0**-1000 < abs(value) < 2.0**1000:
        return value
    place = math.floor(4 * math.log2(abs(value)))  # a logarithm rounds, so that the powers themselves decide
    powers = [2.0 ** ((place + step) / 4) for step in (-1, 0, 1, 2)]
    return min(power for power in powers if power >= value) if value > 0 else -max(p for p in powers if p <= -value)


def outside(measured: AnyRanges, declared: AnyRanges) -> list[tuple[str, str]]:
    """The (operation, quantity) pairs that left their declared ranges: of a run, or of one of its `requests`."""
    return [
        (name, quantity)
        for name, entry in measured.items()
        for quantity, (least, largest) in entry.items()
        if quantity in declared.get(name, {})
        and not (declared[name][quantity][0] <= least and largest <= declared[name][quantity][1])
    ]
