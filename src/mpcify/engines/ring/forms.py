"""The forms of a value while a graph is planned, and the steps between them.

A value is known to the owner alone (`Known`), shared in parts at a scale (`Shared`), what a LayerNorm gives (`Normal`),
or a sum, a difference or a product that is finished by what reads it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcify.engines.ring.derived import Derived
from mpcify.engines.ring.plan import Slot
from mpcify.engines.ring.protocols import local, masking, opening, products
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.values import MOVED, Move
from mpcify.engines.ring.widths import MOST_FINER, SLACK, UNDECLARED, USUAL, Precision, Widths, bits_of
from mpcify.graph.graph import Graph, Operation

SHARE = "share"  # 16·M/m: see `graph.inputs`
WHOLE = ("tokens", "segment")  # the client's inputs that are zeros and ones
INPUT = 18  # fraction bits of the client's other inputs
ADDED = 14  # bits by which a sum is finer than a normal value at most, for a value in parts among its terms
FINER = 2**6  # by which a sum is finer, if it can be, than a value in parts among its terms times its width
FINEST = 28  # fraction bits of what is masked: products and sums have room for a weight's, or for another value's


@dataclass(frozen=True)
class Known:
    """A value of the owner's. operation: the one that gives it, if it is not a weight as it is."""

    derived: Derived
    operation: Operation | None = None


@dataclass(eq=False)
class Shared:
    """A value in parts. excess: it is a product that was not truncated. known: to the client who enters it, all of it.

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
    source: str | None = None  # of the client's input of which it is another form
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

    def is_of_rows(self, a: Shared) -> bool:
        """Whether a @ xᵀ less a @ meanᵀ is the product: the mean is one row, and a has as many matrices."""
        return self.axis == len(self.x.shape) - 2 and a.shape[:-2] == self.x.shape[:-2]


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


def terms(value: Value) -> tuple[Term, ...]:
    """What a value adds up."""
    return value.terms if isinstance(value, Total) else (value,)


class Forms:
    """The steps of a plan so far, and a value's forms, each of which is made once.

    delegated: what the client enters comes in parts, since it is no party. Raises MPC-402 if a declared range fits no
    ring.
    """

    def __init__(self, graph: Graph, widths: Widths, precision: Precision, delegated: bool = False) -> None:
        self.graph, self.widths, self.precision, self.delegated = graph, widths, precision, delegated
        self.steps: list[Step] = []
        self.slots: list[Slot] = []
        self.owned: dict[str, tuple[Derived, float]] = {}
        self.consumers = graph.consumers()
        self.operation: Operation = graph.operations[0]
        norms = (operation for operation in graph.operations if operation.kind == "layernorm")
        streams = [norm for norm in norms if not self.only_centred(norm.inputs[0])]
        self.stream = 2 ** self.sum_bits(streams, precision.sums)
        self.values: dict[str, Value] = {}
        self.counted: tuple[Shared, Shared] | None = None
        self.limits: dict[str, float] = {}

    def named(self, value: Value, name: str) -> Value:
        """A value that the graph has under a name."""
        if isinstance(value, Shared):
            value.name = name
        return value

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

    def sum_bits(self, norms: Sequence[Operation], least: int) -> int:
        """The fraction bits of what is added up for LayerNorms: what a usual ring spares, from `least` on."""
        spare = USUAL - 2 - max(map(self.bits_centred, norms), default=0)
        return max(min(spare, least + MOST_FINER), least)

    def sum_scale(self, total: Total) -> int:
        """The scale of a sum for the LayerNorms that read it: a multiple of its width if a term is in parts, so that
        the term's mean is exact."""
        reader = self.consumers[total.operation.name][0]
        while reader.kind != "layernorm":
            reader = self.consumers[reader.name][0]
        centred = [term.x if isinstance(term, Counted | Less) else term for term in total.terms]
        largest = max((term.scale for term in centred if isinstance(term, Shared)), default=0)
        width = total.operation.shape[-1]
        least = min(bits_of(largest * width * FINER), self.precision.normal + ADDED)
        bits = self.sum_bits([reader], max(self.precision.sums, least))
        return width << max(bits - bits_of(width), 0) if largest else 1 << bits

    def bits_centred(self, norm: Operation) -> int:
        """The bits above the fraction of what a LayerNorm centres."""
        _, largest = self.widths.variance(norm)
        spread = min(2 * self.widths.bound(norm.inputs[0]), math.sqrt(norm.shape[-1] * largest))
        return bits_of(spread * SLACK * (1 if self.only_centred(norm.inputs[0]) else norm.shape[-1]))

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
        return self.enter(name, shape, 2**bits)

    def enter(self, name: str, shape: tuple[int, ...], scale: int, function: Move = np.asarray) -> Shared:
        """An input of the client's, or a function of one, at a scale."""
        kind = local.EnteredInParts if self.delegated else local.Entered
        index = self.step(kind, shape=shape, name=name, scale=scale, operation=name, dealt=False, function=function)
        return Shared(index, shape, scale, None, known=True)

    def know(self, derived: Derived, scale: float) -> int:
        """A value of the owner's at a scale, as a step."""
        key = f"{derived.key}@{scale}"
        self.owned[key] = derived, scale
        return self.step(local.Owned, shape=derived.shape, key=key, ahead=True, dealt=False)

    def slot(self, derived: Derived, scale: float, vector: bool = False) -> int:
        """A weight to be multiplied with."""
        self.slots.append(Slot(derived, scale, vector))
        return len(self.slots) - 1

    def parts(self, value: Value, scale: int | None = None) -> Shared:
        """A value in parts. scale: at which a value of the owner's is wanted."""
        assert not isinstance(value, Total)
        if isinstance(value, Known):
            scale = scale or self.stream
            index = self.know(value.derived, scale)
            return Shared(index, value.derived.shape, scale, value.operation)
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
                value.forms["parts"] = Shared(index, x.shape, x.scale, value.operation, source=value.name)
            return value.forms["parts"]  # type: ignore[no-any-return]
        return self.lifted(value) if value.excess and value.opens else value

    def parts_unopened(self, value: Value) -> Shared:
        """A value in parts, whether or not it will be opened: what is moved is opened where it is read."""
        return value if isinstance(value, Shared) else self.parts(value)

    def factor(self, value: Value) -> Shared:
        """A value in parts, to be multiplied with another; the owner's at the scale of a weight: it is never opened."""
        return self.parts(value, 2**self.precision.weight) if isinstance(value, Known) else self.parts_unopened(value)

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

    def sum_of(self, operation: Operation, first: Shared, second: Shared, sign: int) -> Shared:
        """A sum, or a difference, of values in parts."""
        scale = max(first.scale, second.scale)
        factors = scale // first.scale, sign * (scale // second.scale)
        index = self.plus(first.index, second.index, factors, operation.shape)
        excess, known = first.excess or second.excess, first.known and second.known
        opens = not self.only_added(operation.name)
        return Shared(index, operation.shape, scale, operation, excess, known, opens)

    def opened(self, value: Shared, fraction: int | None = None) -> Shared:
        """A value opened; the scale is what remains, and `forms["step"]` the opening."""
        if "opened" not in value.forms:
            bound = self.bound(value)
            fraction = max(self.precision.of(bound) if fraction is None else fraction, 0)
            shift = max(round(math.log2(value.scale)) - fraction, 0)
            value.forms["opened"] = self.open(value, bound, shift)
        return value.forms["opened"]  # type: ignore[no-any-return]

    def open(self, value: Shared, bound: float, shift: int, what: str = "value") -> Shared:
        """Opens a value, truncated by `shift`. what: see Width."""
        remains = value.scale / 2**shift
        width = self.widths.ring(value.operation or self.operation, bound, value.scale, remains, what)
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
        """What declared ranges let a value become. An input has none declared: the client keeps to its limit."""
        if value.operation is not None:
            return self.widths.bound(value.operation.name) * value.room
        source = value.name or value.source
        if source is not None and not self.widths.force:
            self.limits[source] = UNDECLARED
        return UNDECLARED

    def cut(self, value: Shared) -> int:
        """The bits that are cut off a value that is masked: it needs no range, but is finer if a small one is known."""
        return self.precision.cut(UNDECLARED if value.operation is None else self.bound(value), value.scale)

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
            if self.cut_first(value) or (value.known and value.scale > 2**INPUT):
                x = self.opened(value)
                index = self.step(opening.Renew, x, shape=x.shape, messages=1, opened=x.forms["step"], ahead=True)
                value.forms["masked"] = Shared(index, x.shape, x.scale, value.operation)
            else:
                value.forms["masked"] = self.hidden(value)
        return value.forms["masked"]  # type: ignore[no-any-return]

    def hidden(self, value: Shared) -> Shared:
        """A value masked towards the owner; not truncated, but cut."""
        if "hidden" not in value.forms:
            cut = 0 if value.known else self.cut(value)
            index = self.step(
                masking.Mask,
                value,
                shape=value.shape,
                messages=1,
                known=value.known and not self.delegated,
                corrected=self.steps[value.index].dealt,
                shift=cut,
                ahead=True,
            )
            value.forms["hidden"] = Shared(index, value.shape, value.scale >> cut, value.operation)
        return value.forms["hidden"]  # type: ignore[no-any-return]

    def cut_first(self, value: Shared) -> bool:
        """Whether a value is truncated before it is masked: a product, and what leaves its factor too few bits."""
        return value.excess or value.scale > 2**FINEST

    def both(self, value: Shared) -> Shared:
        """A value masked towards both; truncated first if it is a product."""
        if "both" not in value.forms:
            x, cut = value, 0
            if self.cut_first(value):
                x = self.opened(value)
                index = self.step(opening.RenewBoth, x, shape=x.shape, messages=1, opened=x.forms["step"], ahead=False)
            else:
                cut = self.cut(value)
                index = self.step(masking.MaskBoth, x, shape=x.shape, messages=1, shift=cut, ahead=False)
            value.forms["both"] = Shared(index, x.shape, x.scale >> cut, value.operation)
        return value.forms["both"]  # type: ignore[no-any-return]

    def weighed(self, x: Shared, s: Shared, shape: tuple[int, ...]) -> Shared:
        """s·x for a number s that the client enters."""
        kind = opening.WeighBoth if self.delegated else opening.Weigh
        value, weight = self.opened(x), self.both(s) if self.delegated else self.hidden(s)
        index = self.step(kind, value, weight, shape=shape, opened=value.forms["step"], ahead=False)
        return Shared(index, shape, value.scale * weight.scale, x.operation)
