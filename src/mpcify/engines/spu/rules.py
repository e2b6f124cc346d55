"""SPU's rules: how a graph is rewritten for it, how large values may get, its functions in integers, and its costs."""

import math
from dataclasses import dataclass
from typing import ClassVar

from mpcify.engines.engine import OUTPUT
from mpcify.engines.interpret import check_kinds
from mpcify.engines.rules import Functions, Rules, Work
from mpcify.engines.spu.config import PARTIES
from mpcify.engines.spu.fit import fit, fit_measured
from mpcify.engines.spu.formulas import Formulas
from mpcify.engines.spu.functions import SpuArithmetic
from mpcify.engines.spu.limits import NOT_IN_FM32, bits_needed, limits
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.parts import public_values
from mpcify.graph.ranges import AnyRanges
from mpcify.numerics import FixedPoint

AS_JAX_WRITES_THEM = ("softmax", "gelu-erfc")  # of the benchmark's `naive` baseline alone: no integers, no formulas
SPU_KINDS = frozenset(SpuArithmetic(FixedPoint.of(64)).functions()).union(AS_JAX_WRITES_THEM)


@dataclass(frozen=True)
class SpuRules(Rules):
    """What SPU does in a ring; protocol: None for its integers alone, which nobody shares."""

    share_bytes: ClassVar[int] = 16
    number: FixedPoint
    protocol: str | None = None

    @property
    def parties(self) -> tuple[str, ...]:
        return () if self.protocol is None else PARTIES[self.protocol]

    def check(self, graph: Graph) -> None:
        """Raises MPC-401 for a graph that is not lowered, MPC-501 for an operation that the ring 2^32 does not have."""
        check_kinds(graph, SPU_KINDS, "spu")
        for operation in graph.operations:
            if self.protocol is not None and self.number.ring == 32 and operation.kind in NOT_IN_FM32:
                what = f"SPU cannot compute {operation.kind} in the ring 2^32"
                raise MpcifyError(501, operation.where, what, "use --ring 64, or --engine fixed")

    def fit(self, graph: Graph) -> Graph:
        return fit(graph, self.number)

    def fit_measured(self, graph: Graph, measured: AnyRanges) -> Graph:
        return fit_measured(graph, self.number, measured)

    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        return limits(operation, quantity, self.number)

    def bits_needed(self, operation: Operation) -> int:
        return bits_needed(operation)

    def functions(self, number: FixedPoint) -> Functions:
        return SpuArithmetic(number).functions()

    def work(self, graph: Graph) -> dict[str, Work]:
        formulas, shapes, public = self.formulas(), graph.shapes(), public_values(graph)
        self.check(graph)
        shared = {item.name: formulas.share(math.prod(item.shape)) for item in graph.held_by("client")}
        operations = {operation.name: formulas.of(operation, shapes, public) for operation in graph.operations}
        rebuilt = {OUTPUT + name: formulas.rebuild(math.prod(shapes[name])) for name in graph.outputs}
        return shared | operations | rebuilt

    def rounds(self, work: Work) -> float:
        return self.formulas().rounds(work)

    def formulas(self) -> Formulas:
        """The costs of the protocol. Raises MPC-501 if there are none."""
        if self.protocol is None:
            what = "there are no cost formulas for integers that nobody shares"
            raise MpcifyError(501, "cost", what, "measure with mpcify profile")
        return Formulas(self.number, self.protocol)
