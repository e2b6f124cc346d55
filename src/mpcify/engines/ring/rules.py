"""What the ring engine can: the kinds that it has protocols for, and the refusal of all others with a way out."""

from dataclasses import dataclass
from typing import ClassVar

from mpcify.engines.ring.config import PARTIES, WIDEST
from mpcify.engines.ring.tables import FUNCTIONS
from mpcify.engines.rules import Rules
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.parts import public_values
from mpcify.numerics import FixedPoint

LINEAR = ("linear", "matmul", "mul", "square", "scale", "add", "sub", "shift", "sum", "layernorm")
MOVES = ("reshape", "transpose", "slice", "concat", "broadcast")
RING_KINDS = frozenset((*LINEAR, *MOVES, *FUNCTIONS))
MOST_LOOKED_UP = 1 << 14  # values of a request that a function of the head may have: each costs the dealer a table
REMEDY = "convert with 2quad-freediv or softmax-freediv, or use another engine"


@dataclass(frozen=True)
class RingRules(Rules):
    """The engine's rules. cap: the widest ring."""

    share_bytes: ClassVar[int] = 16
    cap: int = WIDEST

    @property
    def number(self) -> FixedPoint:  # type: ignore[override]
        """What inputs and outputs would be in fixed point: operations have rings and fractions of their own."""
        return FixedPoint()

    @property
    def parties(self) -> tuple[str, ...]:
        return PARTIES

    def limits(self, operation: Operation, quantity: str) -> tuple[float, float]:
        """None: each opening takes a ring that its declared range fits, or the graph is refused."""
        return -float("inf"), float("inf")

    def check(self, graph: Graph) -> None:
        """Raises MPC-401 for an operation that has no protocol."""
        public = public_values(graph)
        for operation in graph.operations:
            size = 1
            for axis in operation.shape:
                size *= axis
            tabled = operation.kind in FUNCTIONS
            if operation.kind not in RING_KINDS or operation.name in public or (tabled and operation.layer is not None):
                what = f"the ring engine has no operation {operation.kind!r}"
                raise MpcifyError(401, operation.where, what, REMEDY)
            if tabled and size > MOST_LOOKED_UP:
                what = f"the ring engine looks up {MOST_LOOKED_UP} values at most, and {operation.kind} has {size}"
                raise MpcifyError(401, operation.where, what, REMEDY)
