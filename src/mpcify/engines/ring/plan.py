"""What every role runs of a graph: the steps in order, by the messages that stand before them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mpcify.engines.ring.derived import Derived
from mpcify.engines.ring.protocols.local import FromClient, Moved
from mpcify.engines.ring.protocols.lookup import ForClient
from mpcify.engines.ring.protocols.opening import FromOpened, Product
from mpcify.engines.ring.protocols.products import Linear
from mpcify.engines.ring.protocols.step import Step


@dataclass
class Slot:
    """A weight that is multiplied with: the integers round(array · scale) mod 2^bits. vector: element by element."""

    derived: Derived
    scale: float
    vector: bool
    bits: int = 0

    @property
    def key(self) -> tuple[str, float, int]:
        """What decides its masks and integers: sessions of several lengths share equal ones."""
        return self.derived.key, self.scale, self.bits


@dataclass(frozen=True)
class Width:
    """The ring of an opening. what: `value`, an operation's; of a LayerNorm `deviation`, or `root`, the inverse one in
    units of its table's; `output`, the client's, which is not cut again. value: the fraction bits of what is opened;
    fraction: of what remains. bound: what declared ranges let it become. headroom: bits by which that stays below the
    ring's end.
    """

    operation: str
    what: str
    ring: int
    value: float
    fraction: float
    bound: float
    headroom: float


@dataclass(frozen=True)
class Plan:
    """What to run.

    steps: in an order in which each finds its sources. slots: the weights that are masked (one of no bits is not
    needed). owned: the owner's own arrays, each with its scale. outputs: the steps that give the client an output.
    widths: the openings, and what was proven of them. limits: the client's inputs that are opened as they are, and how
    large each number of theirs may be for the proof.
    """

    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    owned: Mapping[str, tuple[Derived, float]]
    outputs: tuple[ForClient, ...]
    widths: tuple[Width, ...]
    limits: Mapping[str, float]

    @property
    def inputs(self) -> tuple[FromClient, ...]:
        """The steps by which the client enters something."""
        return tuple(step for step in self.steps if isinstance(step, FromClient))

    @property
    def levels(self) -> list[list[Step]]:
        """The steps by level; level 0 needs no message."""
        found: list[list[Step]] = [[] for _ in range(max(step.level for step in self.steps) + 1)]
        for step in self.steps:
            found[step.level].append(step)
        return found

    def read_last(self, when: Callable[[Step], int]) -> dict[int, list[int]]:
        """The steps whose values are not read again, by the last time that they are; outputs are kept.

        when: a step's time, its index or its level.
        """
        last = {step.index: when(step) for step in self.steps}
        for step in self.steps:
            for source in step.sources:
                last[source] = max(last[source], when(step))
        found: dict[int, list[int]] = {}
        for index, time in last.items():
            if all(index != output.index for output in self.outputs):
                found.setdefault(time, []).append(index)
        return found


def widen(steps: list[Step], slots: list[Slot], outputs: Iterable[int]) -> tuple[Step, ...]:
    """Tells each step how many bits of its value later ones need, and each slot the bits of its products.

    Gives the steps on which an output depends.
    """
    needed = set(outputs)
    for step in reversed(steps):
        if step.index not in needed:
            continue
        needed.update(step.sources)
        if isinstance(step, FromOpened):
            opened = step.opened
            high, wrap = step.opened_needs()
            opened.high, opened.wrap = max(opened.high, high), max(opened.wrap, wrap)
            if isinstance(step, Product):
                step.other.high = max(step.other.high, step.ring)
                step.other.wrap = max(step.other.wrap, step.other_wrap)
        for source, bits in zip(step.sources, step.needs(), strict=True):
            steps[source].ring = max(steps[source].ring, bits)
        if isinstance(step, Linear):
            slots[step.slot].bits = max(slots[step.slot].bits, step.ring)
    return tuple(step for step in steps if step.index in needed)


def is_repeated(step: Step) -> bool:
    """Whether the client computes a step before the request and again during it: what was moved is known in part."""
    return isinstance(step, Moved)
