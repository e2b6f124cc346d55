"""What an engine can and what it costs, as data: nothing is shared and nothing runs.

Whoever must know whether a graph fits an engine, how it is rewritten for it or what it will cost asks these rules, and
never for the engine's name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.ranges import AnyRanges
from mpcify.numerics import FixedPoint

# what a kind of operation computes, from the arrays of its inputs, with its attributes as keywords
Functions = Mapping[str, Callable[..., np.ndarray]]


@dataclass(frozen=True)
class Work:
    """What an operation costs. bytes: sent by all parties. messages: of the busiest party, truncations not counted.

    truncations: how many, one after the other. multiplications: of ring elements, in products of matrices, each of
    which a protocol computes several times.

    If parties do not all do the same: parties: the bytes and messages of each that works. line: the bytes that follow
    one another on the lines; None: each party sends its share at once. messages: those that wait for one another,
    whoever sends them. ahead: what is done ahead of the request, which counts in nothing else here.
    """

    bytes: float = 0.0
    messages: float = 0.0
    truncations: int = 0
    multiplications: float = 0.0
    line: float | None = None
    parties: Mapping[str, "Work"] = field(default_factory=dict)
    ahead: "Work | None" = None

    def __add__(self, other: "Work") -> "Work":
        lines = [work.line for work in (self, other) if work.line is not None]
        ahead = [work.ahead for work in (self, other) if work.ahead is not None]
        return Work(
            self.bytes + other.bytes,
            self.messages + other.messages,
            self.truncations + other.truncations,
            self.multiplications + other.multiplications,
            sum(lines) if lines else None,
            {
                name: sum((work.parties[name] for work in (self, other) if name in work.parties), Work())
                for name in dict.fromkeys((*self.parties, *other.parties))
            },
            sum(ahead, Work()) if ahead else None,
        )

    @property
    def turns(self) -> tuple["Work", ...]:
        """What follows one another: what is ahead of the request, and the rest."""
        return (self,) if self.ahead is None else (self.ahead, replace(self, ahead=None))

    def times(self, count: float, steps: int = 1) -> "Work":
        """The same for `count` elements at once, `steps` times one after the other."""
        return Work(
            self.bytes * count * steps,
            self.messages * steps,
            self.truncations * steps,
            self.multiplications * count * steps,
        )


class Rules(ABC):
    """The rules of one engine. What they do not say costs nothing, or does not exist.

    number: the fixed point of its inputs and outputs, and of every operation that has no other. parties: as in its
    config. share_bytes: that one party's share of a value takes in memory.
    """

    number: FixedPoint
    share_bytes: ClassVar[int] = 0

    @property
    def parties(self) -> tuple[str, ...]:
        return ()

    def number_of(self, operation: Operation) -> FixedPoint:
        """The ring and the fraction bits in which an operation computes, and of its output."""
        return self.number

    def fit(self, graph: Graph) -> Graph:
        """The graph that the engine runs, with its declared ranges: it answers the same but for the last bits."""
        return graph

    def fit_measured(self, graph: Graph, measured: AnyRanges) -> Graph:
        """The same graph with measured ranges in place of the declared ones, by which it is still chosen."""
        return self.fit(graph if graph.ranges else graph.with_ranges(measured)).with_ranges(measured)

    @abstractmethod
    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        """The open range in which a quantity of an operation is right."""

    def bits_needed(self, operation: Operation) -> int:
        """The fewest fraction bits with which an operation makes sense."""
        return 0

    def functions(self, number: FixedPoint) -> Functions:
        """Every kind in integers, as signed representatives of `number.dtype`; empty if the engine has no integers."""
        return {}

    def work(self, graph: Graph) -> dict[str, Work]:
        """The work of a graph that fits: of each input that a client shares, each operation, and each output.

        Outputs stand under OUTPUT and their name. Raises MPC-501 if there are no formulas.
        """
        raise MpcifyError(501, "cost", "there are no cost formulas for this engine", "measure with mpcify profile")

    def rounds(self, work: Work) -> float:
        """The messages of the busiest party, truncations counted."""
        if work.ahead is not None:
            return sum(map(self.rounds, work.turns))
        return max((part.messages for part in work.parties.values()), default=work.messages + work.truncations)

    def waits(self, work: Work) -> float:
        """The messages that wait for one another: as many as rounds, or more if parties send in turns."""
        return work.messages if work.parties else self.rounds(work)

    def line(self, work: Work) -> float:
        """The bytes that follow one another on the lines between parties."""
        return work.bytes / (len(self.parties) or 1) if work.line is None else work.line

    def total(self, works: Iterable[Work]) -> Cost:
        """What works cost one after the other, but for seconds."""
        return self.cost(sum(works, Work()))

    def cost(self, work: Work) -> Cost:
        """What a work costs, but for seconds; unless it says what each party sends, all send the same."""
        if work.ahead is not None:
            ahead, rest = map(self.cost, work.turns)
            return replace(ahead + rest, offline=ahead)
        share = dict.fromkeys(self.parties, round(work.bytes / (len(self.parties) or 1)))
        if work.parties:
            share = {name: round(work.parties[name].bytes) if name in work.parties else 0 for name in self.parties}
        return Cost(0.0, round(work.bytes), round(self.rounds(work)), share)

    def keeps(self, graph: Graph) -> float | None:
        """Bytes that a party holds of a request if it keeps everything until the end; None if only what is needed."""
        return None

    def openings(self, graph: Graph) -> tuple[Mapping[str, Any], ...]:
        """Of each value that is opened, the ring and fraction bits chosen for it; none if all are the same.

        Rows of operation, layer, what (value, or of a LayerNorm deviation or root), ring, fraction_bits (of what
        remains), bound (what declared ranges let it become), headroom_bits (by which that stays below the ring's end)
        and error (by which cutting it off changes it at most). A root is in units of its table's.
        """
        return ()

    def memory(self, weights: Mapping[str, np.ndarray]) -> float:
        """GiB that a session of these weights takes beside them: all parties' shares."""
        values = sum(value.size for value in weights.values())
        return len(self.parties) * self.share_bytes * values / 2**30
