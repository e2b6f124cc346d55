"""From a graph to a plan: each operation asks for its inputs in the form that its protocol needs, once.

A value is known to the owner alone (`Known`), shared in parts at a scale (`Shared`), or what a LayerNorm gives
(`Normal`): x ⊙ g + b, whose g and b go into the next weights. A product is opened before it is multiplied again, unless
it is only added to something.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcify.engines.engine import OUTPUT
from mpcify.engines.plain import MOVES, evaluate_operation
from mpcify.engines.ring.config import WIDTHS
from mpcify.engines.ring.plan import Arrays, Derived, Plan, Slot, widen
from mpcify.engines.ring.protocols import local, lookup, masking, opening, products
from mpcify.engines.ring.protocols.lookup import Table
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.tables import ENTRIES, FUNCTIONS, LEAST, root_tables, table
from mpcify.engines.ring.values import Move
from mpcify.engines.ring.widths import SLACK, UNDECLARED, Precision, Widths, bits_of
from mpcify.graph.graph import Graph, Operation
from mpcify.graph.inputs import MASK_SCALE

MOVED = ("reshape", "transpose", "slice", "broadcast")
SHARE = "share"  # 16·M/m: see `graph.inputs`
WHOLE = ("tokens", "segment")  # the client's inputs that are zeros and ones
INPUT = 18  # fraction bits of the client's other inputs
NARROW = 48  # bits of the ring in which products with attention weights shall be opened
LEAST_SCORE = 11  # fraction bits of scores, at least
SUMS = 14  # bits of the weights in a sum, at least
ROOT_EXTRA = 20  # fraction bits of a root before it is opened
ANSWER = 16  # fraction bits of an output
LEAST_SHARE = 2**6  # of a mean's 1/n, as an integer
LEAST_WEIGHT = 8  # fraction bits of a weight whose product is only added
FUNCTION = 28  # of a function of the head


@dataclass(frozen=True)
class Known:
    """A value of the owner's."""

    derived: Derived


@dataclass(eq=False)
class Shared:
    """A value in parts. excess: it is a product that was not truncated. known: all of it is the client's.

    operation: the one whose declared range it has, `room` times as large. opens: whether it is opened wherever it is
    read.
    """

    index: int
    shape: tuple[int, ...]
    scale: int
    operation: Operation | None
    excess: bool = False
    known: bool = False
    opens: bool = False
    room: float = 1.0
    name: str | None = None  # of the graph's value that it is
    forms: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Normal:
    """x ⊙ g + b along the last axis."""

    x: Shared
    g: Derived
    b: Derived
    operation: Operation
    forms: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Counted:
    """x·σ, σ = 16/m a number a request, which is the client's: it is multiplied with when x is truncated."""

    x: Shared
    sigma: Shared


@dataclass(frozen=True, eq=False)
class Less:
    """x − mean, where `mean` has one place along an axis. What multiplies it multiplies both."""

    x: Shared
    mean: Shared
    axis: int
    operation: Operation


@dataclass(frozen=True)
class Product:
    """A linear layer of a masked value, whose scale is not chosen yet."""

    x: Shared
    weight: Derived
    bias: Derived


@dataclass(frozen=True, eq=False)
class Total:
    """A sum that nothing but LayerNorms reads: what it adds, each of which is centred by itself."""

    terms: tuple["Term", ...]
    operation: Operation


Value = Known | Shared | Normal | Counted | Less | Total
Term = Known | Shared | Normal | Counted | Less | Product


class Planner:
    """Plans one graph. Raises MPC-402 if a declared range fits no ring."""

    def __init__(self, graph: Graph, widths: Widths, precision: Precision) -> None:
        self.graph, self.widths, self.precision = graph, widths, precision
        self.steps: list[Step] = []
        self.slots: list[Slot] = []
        self.owned: dict[str, tuple[Derived, float]] = {}
        self.consumers = graph.consumers()
        self.operation: Operation = graph.operations[0]
        norms = (operation for operation in graph.operations if operation.kind == "layernorm")
        self.stream = 2 ** self.sum_bits([norm for norm in norms if not self.only_centred(norm.inputs[0])])
        self.values: dict[str, Value] = {}
        self.counted: tuple[Shared, Shared] | None = None

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
        return Plan(steps, tuple(self.slots), self.owned, outputs, tuple(self.widths.found))

    def named(self, value: Value, name: str) -> Value:
        """A value that the graph has under a name."""
        if isinstance(value, Shared):
            value.name = name
        return value

    # What is asked for before anything is planned.

    def only_added(self, name: str) -> bool:
        """Whether a value is read by sums and LayerNorms alone, moved or not."""
        readers = self.consumers[name]
        return (
            bool(readers)
            and name not in self.graph.outputs
            and all(
                reader.kind in ("add", "sub", "layernorm") or (reader.kind in MOVED and self.only_added(reader.name))
                for reader in readers
            )
        )

    def only_centred(self, name: str) -> bool:
        """Whether a value is read by LayerNorms alone, and by sums of which the same is true."""
        readers = self.consumers[name]
        return (
            bool(readers)
            and name not in self.graph.outputs
            and all(
                (reader.kind == "layernorm" and reader.inputs[0] == name)
                or (reader.kind == "add" and self.only_centred(reader.name))
                for reader in readers
            )
        )

    def sum_bits(self, norms: Sequence[Operation]) -> int:
        """The fraction bits of what is added up for LayerNorms: of the narrowest ring in which they can read it.

        SUMS bits more than a normal value has, at least: they are those of the weights that it is multiplied with.
        """
        most = max(map(self.bits_centred, norms), default=0)
        least = self.precision.normal + SUMS
        for width in WIDTHS:
            if width <= self.widths.cap and width - 2 - most >= least:
                return min(width - 2 - most, least + 4)
        return least

    def sum_scale(self, name: str) -> int:
        """The scale of a sum, or of a term of one, for the LayerNorms that read it."""
        if not self.only_centred(name):
            return self.stream
        reader = self.consumers[name][0]
        return 2 ** self.sum_bits([reader]) if reader.kind == "layernorm" else self.sum_scale(reader.name)

    def bits_centred(self, norm: Operation) -> int:
        """The bits above the fraction of what a LayerNorm centres."""
        _, largest = self.widths.variance(norm)
        spread = min(2 * self.widths.bound(norm.inputs[0]), math.sqrt(norm.shape[-1] * largest))
        return bits_of(spread * SLACK * (1 if self.only_centred(norm.inputs[0]) else norm.shape[-1]))

    # Steps.

    def step(
        self, kind: type[Step], *sources: Shared | int, shape: tuple[int, ...], messages: int = 0, **fields: Any
    ) -> int:
        """Adds a step; its index."""
        numbers = tuple(source if isinstance(source, int) else source.index for source in sources)
        level = max((self.steps[number].level for number in numbers), default=0) + messages
        index = len(self.steps)
        if issubclass(kind, local.PartWise):
            fields["dealt"] = any(self.steps[number].dealt for number in numbers)
        fields.setdefault("ahead", bool(numbers) and all(self.steps[number].ahead for number in numbers))
        fields = {"operation": self.operation.name, "sources": numbers, "shape": shape, "level": level, **fields}
        self.steps.append(kind(index=index, **fields))
        return index

    def entered(self, name: str, shape: tuple[int, ...]) -> Shared:
        """An input of the client's."""
        bits = 0 if name in WHOLE else INPUT
        if name == SHARE:
            bits = max(self.precision.share + math.ceil(math.log2(max(shape[1], 1))) - 4, 1)
        scale = 2**bits
        index = self.step(local.Entered, **self.entering(name, shape, scale))
        return Shared(index, shape, scale, None, known=True)

    def entering(self, name: str, shape: tuple[int, ...], scale: int) -> dict[str, Any]:
        """The fields of a step by which the client enters something."""
        return {"shape": shape, "name": name, "scale": scale, "operation": name, "dealt": False}

    def know(self, derived: Derived, scale: float) -> int:
        """A value of the owner's at a scale, as a step."""
        key = f"{derived.key}@{scale}"
        self.owned[key] = derived, scale
        return self.step(local.Owned, shape=derived.shape, key=key, ahead=True, dealt=False)

    def slot(self, derived: Derived, scale: float, vector: bool = False) -> int:
        """A weight to be multiplied with."""
        self.slots.append(Slot(derived, scale, vector))
        return len(self.slots) - 1

    # Forms.

    def parts(self, value: Value, scale: int | None = None) -> Shared:
        """A value in parts. scale: at which a value of the owner's is wanted."""
        assert not isinstance(value, Total)
        if isinstance(value, Known):
            scale = scale or self.stream
            index = self.know(value.derived, scale)
            return Shared(index, value.derived.shape, scale, None)
        if isinstance(value, Normal):
            if "parts" not in value.forms:
                value.forms["parts"] = self.materialised(value)
            return value.forms["parts"]  # type: ignore[no-any-return]
        if isinstance(value, Counted | Less):
            return self.settled(value)
        if self.multiplies(value) and (value.opens or not value.excess):
            if "parts" not in value.forms:
                x = self.masked(value)
                index = self.step(masking.Parts, x, shape=x.shape, ahead=True, dealt=False)
                value.forms["parts"] = Shared(index, x.shape, x.scale, value.operation)
            return value.forms["parts"]  # type: ignore[no-any-return]
        return self.lifted(value) if value.excess and value.opens else value

    def settled(self, value: Counted | Less) -> Shared:
        """A value in parts, with nothing left to be done."""
        if isinstance(value, Less):
            return self.sum_of(value.operation, self.parts(value.x), self.parts(value.mean), -1)
        if "settled" not in value.x.forms:
            shape = (value.sigma.shape[0], *(1 for _ in value.x.shape[1:]))
            index = self.step(local.Moved, value.sigma, shape=shape, move=lambda values: values.reshape(shape))
            sigma = Shared(index, shape, value.sigma.scale, None, known=True)
            value.x.forms["settled"] = self.weighed(value.x, sigma, value.x.shape)
        return value.x.forms["settled"]  # type: ignore[no-any-return]

    def multiplies(self, value: Shared) -> bool:
        """Whether a linear layer reads a value, so that it is masked anyway: then the client's part is its mask."""
        readers = [] if value.name is None else self.consumers[value.name]
        return any(reader.kind == "linear" for reader in readers)

    def materialised(self, value: Normal) -> Shared:
        """A LayerNorm's output with its weights, at the scale of sums."""
        x = self.masked(value.x)
        slot = self.slot(value.g, self.stream / x.scale, vector=True)
        product = self.step(products.Diagonal, x, shape=value.operation.shape, slot=slot)
        index = self.plus(product, self.know(value.b, self.stream), (1, 1), value.operation.shape)
        return Shared(index, value.operation.shape, self.stream, value.operation, excess=True)

    def plus(self, a: int, b: int, factors: tuple[int, int], shape: tuple[int, ...]) -> int:
        """A sum of two steps."""
        return self.step(local.Add, a, b, shape=shape, factors=factors)

    def opened(self, value: Shared, fraction: int | None = None) -> Shared:
        """A value opened; the scale is what remains, and `forms["step"]` the opening."""
        if "opened" not in value.forms:
            bound = self.bound(value)
            fraction = max(self.precision.of(bound) if fraction is None else fraction, 0)
            shift = max(round(math.log2(value.scale)) - fraction, 0)
            value.forms["opened"] = self.open(value, bound, shift)
        return value.forms["opened"]  # type: ignore[no-any-return]

    def open(self, value: Shared, bound: float, shift: int) -> Shared:
        """Opens a value, truncated by `shift`."""
        remains = value.scale / 2**shift
        width = self.widths.ring(value.operation or self.operation, bound, value.scale, remains)
        index = self.step(
            opening.Open,
            value,
            shape=value.shape,
            messages=1,
            shift=shift,
            width=width,
            early=self.steps[value.index].ahead,
            ahead=False,
        )
        found = Shared(index, value.shape, value.scale >> shift, value.operation)
        found.forms["step"] = self.steps[index]
        return found

    def bound(self, value: Shared) -> float:
        """What declared ranges let a value become."""
        return UNDECLARED if value.operation is None else self.widths.bound(value.operation.name) * value.room

    def lifted(self, value: Shared) -> Shared:
        """A value opened and in parts again."""
        if "lifted" not in value.forms:
            x = self.opened(value)
            index = self.step(opening.Lift, x, shape=x.shape, opened=x.forms["step"], ahead=False)
            value.forms["lifted"] = Shared(index, x.shape, x.scale, value.operation)
        return value.forms["lifted"]  # type: ignore[no-any-return]

    def masked(self, value: Shared) -> Shared:
        """A value masked towards the owner; truncated first if it is a product."""
        if "masked" not in value.forms:
            if self.cut_first(value):
                x = self.opened(value)
                index = self.step(opening.Renew, x, shape=x.shape, messages=1, opened=x.forms["step"], ahead=True)
                value.forms["masked"] = Shared(index, x.shape, x.scale, value.operation)
            else:
                value.forms["masked"] = self.hidden(value)
        return value.forms["masked"]  # type: ignore[no-any-return]

    def hidden(self, value: Shared) -> Shared:
        """A value masked towards the owner as it is."""
        if "hidden" not in value.forms:
            index = self.step(
                masking.Mask,
                value,
                shape=value.shape,
                messages=1,
                known=value.known,
                corrected=self.steps[value.index].dealt,
                ahead=True,
            )
            value.forms["hidden"] = Shared(index, value.shape, value.scale, value.operation)
        return value.forms["hidden"]  # type: ignore[no-any-return]

    def cut_first(self, value: Shared) -> bool:
        """Whether a value is truncated before it is masked: a product, and what leaves too few bits to a weight."""
        return value.excess or value.scale * 2**LEAST_WEIGHT > self.stream

    def both(self, value: Shared) -> Shared:
        """A value masked towards both; truncated first if it is a product."""
        if "both" not in value.forms:
            cut = self.cut_first(value)
            x = self.opened(value) if cut else value
            if cut:
                index = self.step(opening.RenewBoth, x, shape=x.shape, messages=1, opened=x.forms["step"], ahead=False)
            else:
                index = self.step(masking.MaskBoth, x, shape=x.shape, messages=1, ahead=False)
            value.forms["both"] = Shared(index, x.shape, x.scale, value.operation)
        return value.forms["both"]  # type: ignore[no-any-return]

    # Operations.

    def emit(self, operation: Operation) -> Value:
        """An operation's value."""
        given = [self.values[name] for name in operation.inputs]
        if all(isinstance(value, Known) for value in given):
            return Known(computed(operation, [value.derived for value in given if isinstance(value, Known)]))
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
        if isinstance(value, Counted):
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

    def parts_unopened(self, value: Value) -> Shared:
        """A value in parts, whether or not it will be opened: what is moved is opened where it is read."""
        return value if isinstance(value, Shared) else self.parts(value)

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
        second = self.parts(b, first.scale if first else None)
        return self.sum_of(operation, first or self.parts(a, second.scale), second, sign)

    def sum_of(self, operation: Operation, first: Shared, second: Shared, sign: int) -> Shared:
        """A sum, or a difference, of values in parts."""
        scale = max(first.scale, second.scale)
        factors = scale // first.scale, sign * (scale // second.scale)
        index = self.plus(first.index, second.index, factors, operation.shape)
        excess, known = first.excess or second.excess, first.known and second.known
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, scale, operation, excess, known, opens)

    def plan_sub(self, operation: Operation, a: Value, b: Value) -> Value:
        if isinstance(a, Shared) and isinstance(b, Shared) and a.excess and a.opens and not b.excess:
            single = (*a.shape[:1], 1, *a.shape[2:])
            if b.shape == single and self.only_multiplied(operation.name, transpose=True):
                return Less(a, b, 1, operation)
        return self.plan_add(operation, a, b, -1)

    def only_multiplied(self, name: str, transpose: bool) -> bool:
        """Whether a value is read by matrix products alone, as their second factor, moved or not."""
        readers = self.consumers[name]
        return bool(readers) and all(
            (reader.kind in ("reshape", "transpose") and self.only_multiplied(reader.name, transpose))
            or (reader.kind == "matmul" and reader.inputs[1] == name and reader.attributes["transpose"] is transpose)
            for reader in readers
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
        factor = round(by * 2.0**bits)
        index = self.step(local.Multiply, part, shape=operation.shape, factor=factor)
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, part.scale << bits, operation, part.excess, part.known, opens)

    def plan_shift(self, operation: Operation, x: Value, by: float) -> Value:
        constant = Derived(f"constant {by}", (1,), lambda _: np.asarray([by]))
        return self.plan_add(operation, x, Known(constant))

    def plan_linear(self, operation: Operation, x: Value, w: Value, b: Value) -> Value:
        if not (isinstance(w, Known) and isinstance(b, Known)):
            return self.plan_add(operation, self.multiplied(operation, x, w, products.Matmul, transpose=False), b)
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

    def multiply(self, product: Product, scale: float, operation: Operation) -> int:
        """A linear layer, with its weight at a scale."""
        slot = self.slot(product.weight, scale)
        index = self.step(products.Linear, product.x, shape=operation.shape, slot=slot)
        bias = self.know(product.bias, round(product.x.scale * scale))
        return self.plus(index, bias, (1, 1), operation.shape)

    def centred(self, total: Total, term: Term) -> int:
        """A term less its mean along the last axis, at the scale of its sum."""
        scale = self.sum_scale(total.operation.name)
        shape, width = total.operation.shape, total.operation.shape[-1]
        if isinstance(term, Product):
            product = Product(term.x, centred(term.weight), centred(term.bias))
            return self.multiply(product, scale / term.x.scale, total.operation)
        if isinstance(term, Known):
            return self.know(centred(term.derived), scale)
        if isinstance(term, Normal):
            x = self.masked(term.x)
            slot = self.slot(centring(term.g), scale / x.scale, vector=True)
            index = self.step(products.CentredDiagonal, x, shape=shape, slot=slot)
            return self.plus(index, self.know(centred(term.b), scale), (1, 1), shape)
        part = self.parts(term)
        if part.scale * width * LEAST_SHARE > scale:
            part = self.lifted(part)
        factor = scale // part.scale
        return self.step(local.Centre, part, shape=part.shape, factor=factor, share=round(factor / width))

    def plan_matmul(self, operation: Operation, a: Value, b: Value, transpose: bool) -> Value:
        first = self.parts_unopened(a)
        if isinstance(b, Less) and transpose:
            return self.less_mean(operation, first, b)
        if isinstance(b, Counted):
            product = self.multiplied(operation, first, b.x, products.Matmul, transpose=transpose)
            product.room = self.room
            return Counted(product, b.sigma)
        second = self.parts_unopened(b)
        if first.known and not transpose and first.shape[-2] == 1:
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
        weight = 2**self.precision.weight
        left, right = (
            self.both(self.parts(value, weight) if isinstance(value, Known) else self.parts_unopened(value))
            for value in (a, b)
        )
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

    def weighed(self, x: Shared, s: Shared, shape: tuple[int, ...]) -> Shared:
        """s·x for a number s of the client's."""
        value, weight = self.opened(x), self.hidden(s)
        index = self.step(opening.Weigh, value, weight, shape=shape, opened=value.forms["step"], ahead=False)
        return Shared(index, shape, value.scale * weight.scale, x.operation)

    def plan_mul(self, operation: Operation, a: Value, b: Value) -> Value:
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
            mask = self.step(local.Entered, **self.entering(SHARE, share.shape, 1), function=lambda x: x > 0)
            sigma = self.step(
                local.Entered, **self.entering(SHARE, single, share.scale), function=lambda x: x.max(1, keepdims=True)
            )
            self.counted = (
                Shared(mask, share.shape, 1, None, known=True),
                Shared(sigma, single, share.scale, None, known=True),
            )
        return self.counted

    def plan_square(self, operation: Operation, x: Value) -> Shared:
        fraction = self.precision.squared(self.widths.bound(operation.name))
        readers = self.consumers[operation.name]
        if readers and all(reader.kind == "linear" and self.only_added(reader.name) for reader in readers):
            bits = min(round(math.log2(self.sum_scale(reader.name))) for reader in readers)
            fraction = min(fraction, (bits - self.precision.weight) // 2)
        elif readers and all(reader.kind == "matmul" for reader in readers):
            largest = max(self.widths.bound(reader.name) for reader in readers) * self.room * SLACK
            fraction = min(fraction, max((NARROW - 2 - bits_of(largest) - self.precision.fraction) // 2, LEAST_SCORE))
        value = self.opened(self.parts_unopened(x), fraction)
        index = self.step(opening.Square, value, shape=operation.shape, opened=value.forms["step"], ahead=False)
        return Shared(index, operation.shape, value.scale**2, operation, self.is_squared(operation))

    def is_squared(self, operation: Operation) -> bool:
        """Whether a value is squared again, and so is opened first."""
        return any(reader.kind == "square" for reader in self.consumers[operation.name])

    def plan_layernorm(self, operation: Operation, x: Value, g: Value, b: Value, eps: float) -> Value:
        normal = self.normal(operation, x, eps)
        if isinstance(g, Known) and isinstance(b, Known):
            return Normal(normal, g.derived, b.derived, operation)
        return self.plan_add(operation, self.multiplied(operation, normal, g, products.Multiplied), b)

    def normal(self, operation: Operation, x: Value, eps: float) -> Shared:
        """(x − μ)/√(σ² + eps) along the last axis.

        n·(x − μ) is opened and squared; the root of the sum is looked up, opened too, and multiplied with it.
        """
        width, shape = operation.shape[-1], operation.shape
        variances = self.widths.variance(operation)
        largest = variances[1]
        if isinstance(x, Total):
            bound, scale = self.widths.bound(x.operation.name), self.sum_scale(x.operation.name)
            index, *others = [self.centred(x, term) for term in x.terms]
            for other in others:
                index = self.plus(index, other, (1, 1), shape)
        else:
            part = self.parts_unopened(x)
            bound, scale = self.bound(part), part.scale * width
            index = self.step(local.Centre, part, shape=shape, factor=width, share=1)
        centre = Shared(index, shape, scale, operation)
        spread = min(2 * bound, math.sqrt(width * largest))
        middle = math.sqrt(max(8 * variances[0], largest * 1e-6) * largest / 8) ** 0.5
        shift = max(round(math.log2(scale * middle)) - self.precision.normal // 2 - 1, 0)
        d = self.open(centre, spread, shift)
        remains = scale / 2**shift
        squares = self.step(opening.Square, d, shape=d.shape, opened=d.forms["step"], ahead=False)
        rows = (*shape[:-1], 1)
        total = self.step(local.Sum, squares, shape=rows, axis=-1)
        root = self.root(total, rows, operation, remains, eps, variances)
        normal = 2**self.precision.normal
        product = self.step(
            opening.Product,
            d,
            root,
            shape=shape,
            opened=d.forms["step"],
            other=root.forms["step"],
            ahead=False,
        )
        return Shared(product, shape, normal, operation)

    def root(
        self,
        total: int,
        rows: tuple[int, ...],
        operation: Operation,
        unit: float,
        eps: float,
        variances: tuple[float, float],
    ) -> Shared:
        """1/√(variance + eps) of sums of squares, opened, so that with a deviation it gives 2^normal · (x − μ)/σ."""
        width = operation.shape[-1]
        most = width * variances[1] * unit**2 * SLACK
        bits = bits_of(most / (1 - 1 / LEAST))
        scale = 2.0 ** (self.precision.normal + ROOT_EXTRA) / unit
        upper, *lower = root_tables(bits, variances, 1 / (width * unit**2), eps, scale)
        index = self.looked_up(total, rows, upper)
        root = self.picked(index, 0, rows, 2**ROOT_EXTRA)
        for found in lower:
            below = self.picked(index, 1, rows, 1)
            other = self.picked(self.looked_up(total, rows, found), 0, rows, 2**ROOT_EXTRA)
            product = self.step(products.Multiplied, self.both(below), self.both(other), shape=rows)
            root = Shared(self.plus(root.index, product, (1, 1), rows), rows, 2**ROOT_EXTRA, operation)
        largest = 2.0**self.precision.normal / unit / math.sqrt(max(variances[0], variances[1] * 1e-12) + eps)
        return self.open(root, largest, ROOT_EXTRA)

    def looked_up(self, x: int, shape: tuple[int, ...], found: Table, offset: int = 0) -> int:
        """The functions of a table, of a value in parts, with the client's half ahead if it depends on no input."""
        return self.step(
            lookup.Lookup,
            x,
            shape=(found.coefficients.shape[1], *shape),
            messages=1,
            table=found,
            offset=offset,
            early=self.steps[x].ahead,
            ahead=False,
            dealt=False,
        )

    def picked(self, index: int, place: int, shape: tuple[int, ...], scale: int) -> Shared:
        """One of the functions that were looked up."""
        found = self.step(local.Moved, index, shape=shape, move=lambda values: values[place])
        return Shared(found, shape, scale, self.operation)

    def function(self, operation: Operation, x: Value) -> Shared:
        """A function of the head, by a table over its declared range."""
        part = self.parts_unopened(x)
        bound = self.bound(part) * 1.02
        bits = bits_of(2 * bound * part.scale * 1.01)
        least = -(2.0 ** (bits - 1)) / part.scale
        scaled = FUNCTIONS[operation.kind]
        found = table([lambda values: scaled(values) * 2.0**FUNCTION], bits, ENTRIES, 1 / part.scale, least)
        index = self.looked_up(part.index, part.shape, found, 1 << (bits - 1))
        return self.picked(index, 0, part.shape, 2**FUNCTION)

    def plan_tanh(self, operation: Operation, x: Value) -> Shared:
        return self.function(operation, x)

    plan_relu = plan_gelu = plan_tanh

    def output(self, name: str) -> lookup.Output:
        """An output, rounded, at the client."""
        value = self.values[name]
        part = self.parts_unopened(value) if not isinstance(value, Known) else self.parts(value, 2**ANSWER)
        opened = self.opened(part, ANSWER)
        lifted = self.lifted(part)
        width = self.widths.ring(part.operation or self.operation, self.bound(part), opened.scale, opened.scale)
        index = self.step(
            lookup.Output,
            lifted,
            operation=OUTPUT + name,
            shape=part.shape,
            messages=1,
            name=name,
            scale=opened.scale,
            width=width,
            ahead=False,
        )
        found = self.steps[index]
        assert isinstance(found, lookup.Output)
        return found


def picked(name: str) -> Callable[[Arrays], np.ndarray]:
    """A weight by its name."""
    return lambda weights: np.asarray(weights[name], np.float64)


def computed(operation: Operation, inputs: list[Derived]) -> Derived:
    """What the owner computes of its own values."""
    attributes: Mapping[str, Any] = operation.attributes
    key = f"{operation.kind}({', '.join(item.key for item in inputs)}; {dict(sorted(attributes.items()))})"

    def compute(weights: Arrays) -> np.ndarray:
        return evaluate_operation(operation, tuple(item.compute(weights) for item in inputs))

    return Derived(key, operation.shape, compute)


def folded(g: Derived, b: Derived, weight: Derived, bias: Derived) -> tuple[Derived, Derived]:
    """W and bias for x of x ⊙ g + b: diag(g)·W and b·W + bias."""
    key = f"{g.key}, {b.key}, {weight.key}, {bias.key}"
    return (
        Derived(f"diagonal({key})", weight.shape, lambda w: g.compute(w)[:, None] * weight.compute(w)),
        Derived(f"bias({key})", bias.shape, lambda w: b.compute(w) @ weight.compute(w) + bias.compute(w)),
    )


def keeps_last_axis(operation: Operation, shape: tuple[int, ...]) -> bool:
    """Whether a move leaves the last axis of what it moves whole and last."""
    attributes, last = operation.attributes, len(shape) - 1
    if operation.kind == "slice":
        return attributes["axis"] % len(shape) != last
    if operation.kind == "transpose":
        return attributes["axes"][-1] == last
    return operation.shape[-1:] == shape[-1:]


def terms(value: Value) -> tuple[Term, ...]:
    """What a value adds up."""
    return value.terms if isinstance(value, Total) else (value,)


def centred(value: Derived) -> Derived:
    """A value of the owner's less its mean along the last axis."""

    def compute(weights: Arrays) -> np.ndarray:
        array = value.compute(weights)
        return array - array.mean(-1, keepdims=True)

    return Derived(f"centred({value.key})", value.shape, compute)


def centring(g: Derived) -> Derived:
    """g and g/n, of n values."""
    width = g.shape[-1]
    return Derived(f"centring({g.key})", (2, width), lambda w: np.stack([g.compute(w), g.compute(w) / width]))
