"""How large the machines of a cluster must be for a model: processor, line and memory of each party."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpcify.engines.rules import Work
from mpcify.graph.exported import table_shape
from mpcify.graph.graph import Graph
from mpcify.measure.speed import Machine

GIB = 2**30
FLOAT = 4  # bytes of a number that its holder keeps in the clear
# as measured (benchmarks/results/reliability/scale.json):
PROCESSES = 0.40  # GiB of a party's processes around any model
COPIES = 5  # of a share that is computed with: what products make of it, and what is on its way
SHARING = 2  # copies of all parties' shares of a weight while its owner shares it


@dataclass(frozen=True)
class Sizing:
    """What each party needs for requests of one padded length, one after another.

    cpu_seconds: of one core, a request. gigabits: that a party sends for a request, and about as many that it receives.
    memory: GiB by party.
    """

    cpu_seconds: float
    gigabits: float
    memory: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The sizing as a JSON object, with the requests a second for which one core a party suffices."""
        return {
            "cpu_seconds": self.cpu_seconds,
            "requests_per_second_per_core": 1 / self.cpu_seconds if self.cpu_seconds else None,
            "gigabits": self.gigabits,
            "memory_gib": dict(self.memory),
        }

    def lines(self) -> str:
        """The sizing for people."""
        memory = ", ".join(f"{name} {size:.1f}" for name, size in self.memory.items())
        pace = f"{1 / self.cpu_seconds:.2g} requests/s a core" if self.cpu_seconds else "no work"
        return (
            f"each party, a request: {self.cpu_seconds:.2g} s of one core ({pace}), "
            f"{self.gigabits:.2g} Gbit sent\nmemory (GiB): {memory}"
        )


def sizing(graph: Graph, works: Mapping[str, Work], machine: Machine) -> Sizing:
    """What the parties need to run a fitted graph.

    works: as the rules of `machine` give them. A processor's seconds are at most those of the busiest party, a line's
    bits those of the party that sends most. Memory is the parties' processes, the shares of weights and of the values
    that are needed at once, or all that a request keeps, what the owner (weights) and the client (word table) hold in
    the clear, and the shares of the largest weight while the owner makes them.
    """
    rules = machine.rules
    parties, kept = max(1, len(rules.parties)), rules.keeps(graph)
    seconds = sum(map(machine.seconds, works.values()))
    weights = [math.prod(item.shape) for item in graph.held_by("owner")]
    table = sum(math.prod(shape) for shape in table_shape(graph).values())
    held = rules.share_bytes * COPIES * most_at_once(graph) if kept is None else kept
    shared = PROCESSES + (rules.share_bytes * sum(weights) + held) / GIB
    making = SHARING * parties * rules.share_bytes * max(weights, default=0)
    own = {"owner": (FLOAT * sum(weights) + making) / GIB, "client": FLOAT * table / GIB}
    return Sizing(
        seconds,
        8e-9 * max(rules.total(works.values()).bytes_per_party.values(), default=0),
        {name: shared + own.get(name, 0.0) for name in rules.parties},
    )


def most_at_once(graph: Graph) -> int:
    """Numbers that a request holds at the most, weights not counted: each from when it is made to its last use."""
    sizes = {name: math.prod(shape) for name, shape in graph.shapes().items()}
    last = {name: operation.name for operation in graph.operations for name in operation.inputs}
    passing = {item.name for item in graph.held_by("client")}
    most = now = sum(sizes[name] for name in passing)
    for operation in graph.operations:
        passing.add(operation.name)
        now += sizes[operation.name]
        most = max(most, now)
        for name in passing.intersection(operation.inputs):
            if last[name] == operation.name and name not in graph.outputs:
                passing.remove(name)
                now -= sizes[name]
    return most
