"""From a graph to a plan: each operation asks for its inputs in the form that its protocol needs, once.

A product is opened before it is multiplied again, unless it is only added to something.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpcify.engines.engine import OUTPUT
from mpcify.engines.plain import MOVES
from mpcify.engines.ring.config import WIDEST
from mpcify.engines.ring.derived import Derived, computed, folded, picked
from mpcify.engines.ring.forms import (
    INPUT,
    SHARE,
    Counted,
    Known,
    Less,
    Normal,
    Product,
    Shared,
    Total,
    Value,
    terms,
)
from mpcify.engines.ring.norms import Norms
from mpcify.engines.ring.plan import Plan, widen
from mpcify.engines.ring.protocols import local, lookup, opening, products
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.values import MOVED, Move
from mpcify.engines.ring.widths import REMEDY
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Operation
from mpcify.graph.inputs import MASK_SCALE

ANSWER = 16  # fraction bits of an output


class Planner(Norms):
    """Plans one graph. Raises MPC-402 if a declared range fits no ring."""

    def plan(self) -> Plan:
        """The plan."""
        for item in self.graph.inputs:
            if item.holder == "owner":
                self.values[item.name] = Known(Derived(item.name, item.shape, picked(item.name)))
            else:
                self.values[item.name] = self.named(self.entered(item.name, item.shape), item.name)
        for operation in self.graph.operations:
            self.operation = operation
            self.values[operation.name] = self.named(self.emit(operation), operation.name)
        outputs = tuple(self.output(name) for name in self.graph.outputs)
        steps = widen(self.steps, self.slots, [step.index for step in outputs])
        self.refuse_cut(steps)
        return Plan(steps, tuple(self.slots), self.owned, outputs, tuple(self.widths.found), self.limits)

    def refuse_cut(self, steps: Sequence[Step]) -> None:
        """Raises MPC-402 if what is cut and masked would have to be right in more bits than words have."""
        where = {operation.name: operation.where for operation in self.graph.operations}
        for step in steps:
            if isinstance(step, Mask | MaskBoth) and step.ring + step.shift > WIDEST:
                what = f"what it masks needs {step.ring + step.shift} bits, and there are {WIDEST}"
                raise MpcifyError(402, where[step.operation], what, REMEDY)

    def emit(self, operation: Operation) -> Value:
        """An operation's value."""
        given = [self.values[name] for name in operation.inputs]
        if all(isinstance(value, Known) for value in given):
            return Known(computed(operation, [value.derived for value in given if isinstance(value, Known)]), operation)
        if operation.kind in MOVED:
            return self.move(operation, given[0])
        plan = getattr(self, "plan_" + operation.kind.replace("-", "_"))
        return plan(operation, *given, **operation.attributes)  # type: ignore[no-any-return]

    def move(self, operation: Operation, value: Value) -> Value:
        """Elements that change their place."""
        attributes = dict(operation.attributes)
        function = MOVES[operation.kind]

        def change(x: np.ndarray) -> np.ndarray:
            return function(x, **attributes)

        if isinstance(value, Normal) and keeps_last_axis(operation, value.x.shape):
            return Normal(self.moved(value.x, change, operation), value.g, value.b, operation)
        if isinstance(value, Counted) and keeps_first_axis(operation, value.x.shape):
            return Counted(self.moved(value.x, change, operation), value.sigma)
        if isinstance(value, Less) and (less := self.moved_less(operation, value)):
            return less
        return self.moved(self.parts_unopened(value), change, operation)

    def moved_less(self, operation: Operation, value: Less) -> Less | None:
        """A difference after a move, if its mean can be moved alike."""
        axis, shape = value.axis, value.x.shape
        if operation.kind == "transpose":
            axis = operation.attributes["axes"].index(axis)
        elif operation.kind != "reshape" or operation.shape[: axis + 1] != shape[: axis + 1]:
            return None
        single = (*operation.shape[:axis], 1, *operation.shape[axis + 1 :])
        function = MOVES[operation.kind]
        attributes = {"shape": single} if operation.kind == "reshape" else dict(operation.attributes)

        def change(x: np.ndarray, attributes: Mapping[str, Any] = attributes) -> np.ndarray:
            return function(x, **attributes)

        index = self.step(local.Moved, value.mean, shape=single, move=change)
        mean = Shared(index, single, value.mean.scale, value.mean.operation)
        whole = dict(operation.attributes)
        return Less(self.moved(value.x, lambda x: function(x, **whole), operation), mean, axis, operation)

    def moved(self, x: Shared, change: Move, operation: Operation) -> Shared:
        """A shared value after a move; opened, if it was opened before."""
        shape = operation.shape
        index = self.step(local.Moved, x, shape=shape, move=change)
        opens = not self.only_added(operation.name)
        found = Shared(index, shape, x.scale, operation, x.excess, x.known, opens, x.room)
        if "opened" in x.forms:
            opened: Shared = x.forms["opened"]
            index = self.step(local.Moved, opened, shape=shape, move=change)
            found.forms["opened"] = Shared(index, shape, opened.scale, operation)
            found.forms["opened"].forms["step"] = opened.forms["step"]
        return found

    def plan_concat(self, operation: Operation, *values: Value, axis: int) -> Shared:
        scale = max(self.parts(value).scale for value in values if not isinstance(value, Known))
        found = [self.at_scale(self.parts(value, scale), scale) for value in values]
        shapes = tuple(part.shape for part in found)
        index = self.step(local.Join, *found, shape=operation.shape, axis=axis, shapes=shapes)
        excess = any(part.excess for part in found)
        return Shared(index, operation.shape, scale, operation, excess, opens=not self.only_added(operation.name))

    def at_scale(self, x: Shared, scale: int) -> Shared:
        """A value in parts at a larger scale."""
        if x.scale == scale:
            return x
        index = self.step(local.Multiply, x, shape=x.shape, factor=scale // x.scale)
        return Shared(index, x.shape, scale, x.operation, x.excess, x.known)

    def plan_add(self, operation: Operation, a: Value, b: Value, sign: int = 1) -> Value:
        if sign == 1 and self.only_centred(operation.name):
            return Total(tuple(term for value in (a, b) for term in terms(value)), operation)
        first = self.parts(a) if not isinstance(a, Known) else None
        second = self.parts(b, added_to(first))
        return self.sum_of(operation, first or self.parts(a, added_to(second)), second, sign)

    def plan_sub(self, operation: Operation, a: Value, b: Value) -> Value:
        if isinstance(a, Shared) and isinstance(b, Shared) and a.excess and a.opens and not b.excess:
            single = (*a.shape[:1], 1, *a.shape[2:])
            if b.shape == single and self.only_multiplied(operation.name, transpose=True):
                return Less(a, b, 1, operation)
        return self.plan_add(operation, a, b, -1)

    def only_multiplied(self, name: str, transpose: bool) -> bool:
        """Whether a value is read by matrix products alone, as their second factor, moved or not."""
        readers = self.consumers[name]
        return (
            bool(readers)
            and name not in self.graph.outputs
            and all(
                (reader.kind in ("reshape", "transpose") and self.only_multiplied(reader.name, transpose))
                or (reader.kind == "matmul" and reader.attributes["transpose"] is transpose and second(reader, name))
                for reader in readers
            )
        )

    def plan_sum(self, operation: Operation, x: Value, axis: int) -> Shared:
        part = self.parts(x)
        index = self.step(local.Sum, part, shape=operation.shape, axis=axis)
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, part.scale, operation, part.excess, part.known, opens)

    def plan_scale(self, operation: Operation, x: Value, by: float) -> Shared:
        part = self.parts(x)
        bits = next((bits for bits in range(17) if (by * 2.0**bits).is_integer()), None)
        if bits is None:
            bits = max(16 - math.floor(math.log2(abs(by))), 0)
        factor = round(math.ldexp(by, bits)) if bits < WIDEST else 0
        if by and not 0 < abs(factor) < 2 ** (WIDEST - 2):
            raise MpcifyError(402, operation.where, f"it scales by {by:.4g}, which no ring holds", REMEDY)
        index = self.step(local.Multiply, part, shape=operation.shape, factor=factor)
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, part.scale << bits, operation, part.excess, part.known, opens)

    def plan_shift(self, operation: Operation, x: Value, by: float) -> Value:
        constant = Derived(f"constant {by}", (1,), lambda _: np.asarray([by]))
        return self.plan_add(operation, x, Known(constant))

    def plan_linear(self, operation: Operation, x: Value, w: Value, b: Value) -> Value:
        if not (isinstance(w, Known) and isinstance(b, Known)):
            if len(operation.shape) == 1:
                what = "the ring engine multiplies no vector by a matrix that is computed"
                raise MpcifyError(401, operation.where, what, "give it another axis, or use another engine")
            both = self.multiplied(operation, x, w, products.Matmul, transpose=False)
            return self.sum_of(operation, both, self.parts(b, both.scale), 1)  # the declared range is that of the sum
        weight, bias = w.derived, b.derived
        if isinstance(x, Normal):
            weight, bias = folded(x.g, x.b, weight, bias)
            x = x.x
        source = self.masked(self.parts_unopened(x))
        product = Product(source, weight, bias)
        if self.only_centred(operation.name):
            return Total((product,), operation)
        if self.only_added(operation.name):
            scale = self.stream / source.scale
        else:
            bound = self.widths.bound(operation.name)
            scale = self.widths.weight_scale(bound, source.scale, self.precision.weight)
        index = self.multiply(product, scale, operation)
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, round(source.scale * scale), operation, True, opens=opens)

    def plan_matmul(self, operation: Operation, a: Value, b: Value, transpose: bool) -> Value:
        first = self.factor(a)
        if isinstance(b, Less) and transpose and b.is_of_rows(first):
            return self.less_mean(operation, first, b)
        if isinstance(b, Counted):
            product = self.multiplied(operation, first, b.x, products.Matmul, transpose=transpose)
            product.room = self.room
            return Counted(product, b.sigma)
        second = self.factor(b)
        if first.known and not isinstance(b, Known) and not transpose and first.shape[-2] == 1:
            return self.weighted_sum(operation, first, second)
        return self.multiplied(operation, first, second, products.Matmul, transpose=transpose)

    @property
    def room(self) -> float:
        """How many times a value without its 16/m may be larger than with it."""
        return max(self.graph.length / MASK_SCALE, 1.0)

    def less_mean(self, operation: Operation, a: Shared, b: Less) -> Shared:
        """a @ (x − mean)ᵀ as a @ xᵀ − a @ meanᵀ: the mean is opened, and so truncated, while a and x are masked."""
        product = self.multiplied(operation, a, b.x, products.Matmul, transpose=True)
        left, right = self.both(a), self.both(b.x)
        mean = self.opened(b.mean, round(math.log2(right.scale)))
        weighed = self.step(opening.WeighBoth, mean, left, shape=left.shape, opened=mean.forms["step"], ahead=False)
        rows = (*left.shape[:-1], 1)
        total = Shared(self.step(local.Sum, weighed, shape=rows, axis=-1), rows, left.scale * mean.scale, operation)
        return self.sum_of(operation, product, total, -1)

    def multiplied(self, operation: Operation, a: Value, b: Value, kind: type[Step], **fields: Any) -> Shared:
        """The product of two values that nobody knows."""
        left, right = (self.both(self.factor(value)) for value in (a, b))
        index = self.step(kind, left, right, shape=operation.shape, **fields)
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, left.scale * right.scale, operation, True, opens=opens)

    def weighted_sum(self, operation: Operation, s: Shared, x: Shared) -> Shared:
        """s @ x for a row s of the client's: Σ_j s_j·x_j."""
        shape = (*s.shape[:-2], s.shape[-1], 1)
        index = self.step(local.Moved, s, shape=shape, move=lambda values: values.swapaxes(-1, -2))
        column = Shared(index, shape, s.scale, s.operation, known=True)
        weighed = self.weighed(x, column, np.broadcast_shapes(shape, x.shape))
        index = self.step(local.Sum, weighed, shape=operation.shape, axis=-2)
        return Shared(index, operation.shape, weighed.scale, operation)

    def plan_mul(self, operation: Operation, a: Value, b: Value) -> Value:
        if isinstance(a, Known) or isinstance(b, Known):
            return self.multiplied(operation, a, b, products.Multiplied)
        first, second = self.parts_unopened(a), self.parts_unopened(b)
        if first.known and not second.known:
            first, second = second, first
        if not second.known:
            return self.multiplied(operation, first, second, products.Multiplied)
        if second.name == SHARE and self.only_multiplied(operation.name, transpose=False):
            mask, sigma = self.counting()
            found = self.weighed(first, mask, operation.shape)
            return Counted(Shared(found.index, operation.shape, found.scale, operation), sigma)
        found = self.weighed(first, second, operation.shape)
        return Shared(found.index, operation.shape, found.scale, operation)

    def counting(self) -> tuple[Shared, Shared]:
        """M and σ of the client's share 16·M/m = M·σ: which tokens are real, and 16 over their number."""
        if not self.counted:
            share = self.values[SHARE]
            assert isinstance(share, Shared)
            single = (share.shape[0], 1, 1)
            mask = self.enter(SHARE, share.shape, 1, function=lambda x: x > 0)
            sigma = self.enter(SHARE, single, share.scale, function=lambda x: x.max(1, keepdims=True))
            self.counted = mask, sigma
        return self.counted

    def plan_square(self, operation: Operation, x: Value) -> Shared:
        again = self.times_squared(operation)
        fraction = self.precision.squared(self.widths.bound(operation.name), again)
        value = self.opened(self.parts_unopened(x), fraction)
        index = self.step(opening.Square, value, shape=operation.shape, opened=value.forms["step"], ahead=False)
        return Shared(index, operation.shape, value.scale**2, operation, again > 0)

    def times_squared(self, operation: Operation) -> int:
        """How often a value is squared, one square after another; it is opened before each."""
        readers = (reader for reader in self.consumers[operation.name] if reader.kind == "square")
        return max((1 + self.times_squared(reader) for reader in readers), default=0)

    def plan_layernorm(self, operation: Operation, x: Value, g: Value, b: Value, eps: float) -> Value:
        normal = self.normal(operation, x, eps)
        if isinstance(g, Known) and isinstance(b, Known):
            return Normal(normal, g.derived, b.derived, operation)
        both = self.multiplied(operation, normal, g, products.Multiplied)
        return self.sum_of(operation, both, self.parts(b, both.scale), 1)  # the declared range is that of the sum

    def plan_tanh(self, operation: Operation, x: Value) -> Shared:
        return self.function(operation, x)

    plan_relu = plan_gelu = plan_tanh

    def output(self, name: str) -> lookup.ForClient:
        """An output, rounded, for the client."""
        value = self.values[name]
        part = self.parts_unopened(value) if not isinstance(value, Known) else self.parts(value, 2**ANSWER)
        opened = self.opened(part, ANSWER)
        lifted = self.lifted(part)
        width = self.widths.ring(
            part.operation or self.operation, self.bound(part), opened.scale, opened.scale, "output"
        )
        index = self.step(
            lookup.OutputInParts if self.delegated else lookup.Output,
            lifted,
            operation=OUTPUT + name,
            shape=part.shape,
            messages=0 if self.delegated else 1,
            name=name,
            scale=opened.scale,
            width=width,
            ahead=False,
        )
        found = self.steps[index]
        assert isinstance(found, lookup.ForClient)
        return found


def added_to(value: Shared | None) -> int | None:
    """The scale of the owner's numbers that are added to a value: its own, or an input's if it is whole numbers."""
    return None if value is None else value.scale if value.scale > 1 else 2**INPUT


def keeps_first_axis(operation: Operation, shape: tuple[int, ...]) -> bool:
    """Whether a move leaves the requests of what it moves, its first axis, whole and first."""
    attributes = operation.attributes
    if operation.kind == "slice":
        return attributes["axis"] % len(shape) != 0
    if operation.kind == "transpose":
        return attributes["axes"][0] == 0
    return operation.kind == "reshape" and operation.shape[:1] == shape[:1]


def second(product: Operation, name: str) -> bool:
    """Whether a value is a product's second factor, and not its first."""
    return product.inputs[1] == name != product.inputs[0]


def keeps_last_axis(operation: Operation, shape: tuple[int, ...]) -> bool:
    """Whether a move leaves the last axis of what it moves whole and last."""
    attributes, last = operation.attributes, len(shape) - 1
    if operation.kind == "slice":
        return attributes["axis"] % len(shape) != last
    if operation.kind == "transpose":
        return attributes["axes"][-1] == last
    return operation.shape[-1:] == shape[-1:]
