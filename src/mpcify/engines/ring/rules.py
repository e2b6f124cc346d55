"""What the ring engine can and what it costs: its kinds, the plan of a graph, and what every step of it sends."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mpcify.engines.engine import OUTPUT
from mpcify.engines.ring.config import PARTIES, WIDEST
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.plan import Plan
from mpcify.engines.ring.planner import Planner
from mpcify.engines.ring.protocols.products import Linear, Matmul
from mpcify.engines.ring.protocols.step import Step, Words
from mpcify.engines.ring.roles import chunks
from mpcify.engines.ring.tables import FUNCTIONS
from mpcify.engines.ring.widths import COARSER, Widths
from mpcify.engines.rules import Rules, Work
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.parts import public_values
from mpcify.numerics import FixedPoint

LINEAR = ("linear", "matmul", "mul", "square", "scale", "add", "sub", "shift", "sum", "layernorm")
MOVES = ("reshape", "transpose", "slice", "concat", "broadcast")
RING_KINDS = frozenset((*LINEAR, *MOVES, *FUNCTIONS))
MOST_LOOKED_UP = 1 << 14  # values of a request that a function of the head may have: each costs the dealer a table
WORD = 8  # bytes of a word in memory
KEPT = 2  # words of a value: its own, and the mask that opens it
REMEDY = "convert with 2quad-freediv or softmax-freediv, or use another engine"


@dataclass(frozen=True)
class RingRules(Rules):
    """The engine's rules. cap: the widest ring. force: it runs what no ring holds. waiting: sets dealt ahead.
    delegated: no party knows the inputs. planned: the last graph that was asked for, and its plan.
    """

    share_bytes: ClassVar[int] = WORD
    cap: int = WIDEST
    force: bool = False
    waiting: int = 0
    delegated: bool = False
    planned: list[tuple[Graph, Plan]] = field(default_factory=list, init=False, repr=False, compare=False)

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

    def plan(self, graph: Graph) -> Plan:
        """The plan with the most fraction bits that the rings hold. Raises MPC-402 if there is none.

        What is asked for twice in a row is planned once.
        """
        for known, plan in tuple(self.planned):  # threads may share the rules
            if known is graph:
                return plan
        plan = self.finest(graph)
        self.planned[:] = [(graph, plan)]
        return plan

    def finest(self, graph: Graph) -> Plan:
        """The plan of `plan`, made anew."""
        *finer, last = COARSER
        for precision in finer:
            try:
                return Planner(graph, Widths(graph, self.cap, False), precision, self.delegated).plan()
            except MpcifyError as error:
                if error.code != 402:
                    raise
        return Planner(graph, Widths(graph, self.cap, self.force), last, self.delegated).plan()

    def work(self, graph: Graph) -> dict[str, Work]:
        """What a plan's steps send and multiply, by their operations: the very bytes of a request.

        Raises MPC-401 for an operation that has no protocol, MPC-402 if no ring holds a declared range.
        """
        names = [item.name for item in (*graph.held_by("client"), *graph.held_by("public"))]
        names += [*(operation.name for operation in graph.operations), *(OUTPUT + name for name in graph.outputs)]
        found = dict.fromkeys(names, Work(ahead=Work()))
        if not graph.operations:
            return found
        self.check(graph)
        plan = self.plan(graph)
        for level in plan.levels:
            for step in level:
                found[step.operation] += sent(step) + multiplied(step, plan)
            talking = [step for step in level if step.talks]
            if talking:
                found[talking[0].operation] += exchanged(talking)
        found[plan.steps[-1].operation] += Work(ahead=messages_ahead(plan))
        return found

    def openings(self, graph: Graph) -> tuple[dict[str, Any], ...]:
        layers = {operation.name: operation.layer for operation in graph.operations}
        return tuple(
            {
                "operation": width.operation,
                "layer": layers[width.operation],
                "what": width.what,
                "ring": width.ring,
                "fraction_bits": width.fraction,
                "bound": width.bound,
                "headroom_bits": width.headroom,
                "error": 2.0**-width.fraction,
            }
            for width in (self.plan(graph).widths if graph.operations else ())
            if width.what != "output"
        )

    def keeps(self, graph: Graph) -> float:
        """What client and owner draw, are given and compute in a request, at most, and what waits for one."""
        dealt = [KEPT * step.count + sum(count for count, _ in step.dealt_words()) for step in self.plan(graph).steps]
        return WORD * (1 + self.waiting) * sum(dealt)


def size(said: Iterable[Words]) -> int:
    """Bytes of words on their way."""
    return sum(formulas.packed_size(*words) for words in said)


def sent(step: Step) -> Work:
    """The bytes of a step. Both parties speak at once; ahead of a request all lines end at the owner."""
    spoken = {role: size([words]) for role in ("client", "owner") if (words := step.words(role))}
    ahead = {"client": size(step.words_ahead()), "dealer": size(step.dealt_words())}
    return Work(
        bytes=sum(spoken.values()),
        line=max(spoken.values(), default=0),
        parties={role: Work(bytes=spoken.get(role, 0)) for role in ("client", "owner")},
        ahead=Work(
            bytes=sum(ahead.values()),
            line=sum(ahead.values()),
            parties={role: Work(bytes=count) for role, count in ahead.items()},
        ),
    )


def exchanged(talking: list[Step]) -> Work:
    """The messages before the values of a level: one of each party that says anything."""
    spoken = {role: float(any(step.words(role) for step in talking)) for role in ("client", "owner")}
    parties = {role: Work(messages=count) for role, count in spoken.items()}
    return Work(messages=max(spoken.values()), parties=parties)


def messages_ahead(plan: Plan) -> Work:
    """The messages ahead of a request."""
    dealt = chunks(words for step in plan.steps for words in step.dealt_words())
    ahead = chunks(words for step in plan.steps for words in step.words_ahead())
    parties = {"client": Work(messages=len(ahead)), "dealer": Work(messages=len(dealt))}
    return Work(messages=max(len(ahead), len(dealt)), parties=parties)


def multiplied(step: Step, plan: Plan) -> Work:
    """Multiplications of the busiest party in a product of matrices.

    With a weight, the owner's one product of the request, and before it one each of client and dealer; of two masked
    values two products each of client and owner, and before them the dealer's.
    """
    if type(step) is Linear:
        each = step.count * plan.slots[step.slot].derived.shape[0]
        return Work(multiplications=each, ahead=Work(multiplications=each))
    if isinstance(step, Matmul):
        inner = next(one for one in plan.steps if one.index == step.sources[0]).shape[-1]
        return Work(multiplications=2 * step.count * inner, ahead=Work(multiplications=step.count * inner))
    return Work()
