"""Changes to a graph that no engine owns: they move no answer but by its last bits, and declared ranges choose them.

LayerNorm does not notice the size of what it reads: LN(2ᵏx) = LN(x), with 4ᵏ·eps. If the declared variance is small
(the sum of MiniLM's embeddings: 0.003, three steps of 2⁻¹⁰), x is doubled k times before it, which costs nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mpcify.graph.graph import Graph, Operation
from mpcify.graph.ranges import SPREAD

SMALL = 1 / 16
MOST_DOUBLINGS = 32  # a spread that needs more is nothing in any ring


Entry = Mapping[str, tuple[float, float]]


def doublings(graph: Graph) -> dict[str, int]:
    """How often what each layernorm reads is doubled, see `raising`; those that are not are left out."""
    norms = (operation for operation in graph.operations if operation.kind == "layernorm")
    counts = {norm.name: raising([graph.ranges.get(norm.name, {}).get("variance")]) for norm in norms}
    return {name: count for name, count in counts.items() if count}


def raising(variances: Sequence[tuple[float, float] | None]) -> int:
    """How often to double what has these declared variances, until their middle lies around 1.

    The middle is the root of least times largest; only one below 1/16 is raised, 32 times at most. 0 if one is not
    declared.
    """
    known = [variance for variance in variances if variance is not None]
    if len(known) < len(variances):
        return 0
    middle = math.sqrt(max(min(least for least, _ in known), 0.0) * max(largest for _, largest in known))
    return min(round(-math.log2(middle) / 2), MOST_DOUBLINGS) if 0 < middle < SMALL else 0


def double_small(graph: Graph) -> Graph:
    """The graph with those doublings, and the ranges that follow."""
    counts = doublings(graph)
    operations: list[Operation] = []
    for operation in graph.operations:
        x, *others = operation.inputs
        for step in range(counts.get(operation.name, 0)):
            name = f"{operation.name}.double.{step}"
            operations.append(replace(operation, name=name, kind="add", inputs=(x, x), attributes={}))
            x = name
        if operation.name in counts:
            eps = operation.attributes["eps"] * 4.0 ** counts[operation.name]
            operation = replace(operation, inputs=(x, *others), attributes={"eps": eps})
        operations.append(operation)
    ranges = doubled_ranges(graph, graph.ranges, counts)
    return replace(graph, operations=tuple(operations), ranges=ranges).check()


def doubled_ranges(graph: Graph, ranges: Mapping[str, Entry], counts: Mapping[str, int]) -> dict[str, Entry]:
    """Ranges of the graph without doublings as they are with them.

    A variance grows 4ᵏ times. Of the products inside, only squares and means grow: squares to n·variance at most. What
    is doubled gets the range of its standard deviation: bits that it lost before do not come back.
    """
    found = dict(ranges)
    for operation in graph.operations:
        if operation.name not in counts or "variance" not in ranges.get(operation.name, {}):
            continue
        least, largest = (math.sqrt(max(value, 0.0)) for value in ranges[operation.name]["variance"])
        found[f"{operation.name}.double.0"] = {SPREAD: (least, largest)}
        found[operation.name] = doubled(operation, ranges, counts[operation.name])
    return found


def doubled(norm: Operation, ranges: Mapping[str, Entry], count: int) -> Entry:
    """The ranges of a layernorm whose input is 2ᵏ times as large, from all ranges as they were."""
    entry = ranges.get(norm.name, {})
    if "variance" not in entry:
        return entry
    least, largest = (value * 4.0**count for value in entry["variance"])
    read = ranges.get(norm.inputs[0], {}).get("value", (0.0, 0.0))
    mean = max(map(abs, read)) * 2.0**count
    low, high = entry.get("product", (0.0, 0.0))
    product = min(low, -mean), max(high, mean, norm.shape[-1] * largest)
    return {**entry, "variance": (least, largest), "product": product}
