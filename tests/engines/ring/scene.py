"""The ring engine's three roles in one process, and what they know together, in Python's integers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcify.engines.ring.derived import Derived
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.party import ahead_of_request
from mpcify.engines.ring.plan import Slot, widen
from mpcify.engines.ring.prg import KEY, Place, Prg, Purpose
from mpcify.engines.ring.protocols.lookup import Lookup
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Open
from mpcify.engines.ring.protocols.products import Multiplier
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.roles import Client, Dealer, Inbox, Outbox, Owner
from mpcify.engines.ring.values import Masked

WORD = 2**64
Words = np.ndarray
Drawing = tuple[Place, Purpose]


def key(name: str) -> bytes:
    """A key that a test knows."""
    return name.encode().ljust(KEY, b"\0")[:KEY]


class Shifted(Prg):
    """Streams to some of which words are added; the sum is as uniform as the stream."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self.secret = secret
        self.shifts: dict[Drawing, Words] = {}

    def words(self, place: Place, purpose: Purpose, shape: tuple[int, ...]) -> Words:
        found, shift = super().words(place, purpose, shape), self.shifts.get((place, purpose))
        return found if shift is None else found + shift

    def shift(self, place: Place, purpose: Purpose, words: Words) -> None:
        """Adds words to a stream from now on."""
        self.shifts[place, purpose] = self.shifts.get((place, purpose), 0) + words


def keys() -> dict[str, Shifted]:
    """The three keys of a session."""
    return {name: Shifted(key(name)) for name in ("k01", "k02", "k12")}


@dataclass(kw_only=True)
class Given(Step):
    """A value whose parts a test gives, by role."""

    parts: Mapping[str, Any]

    def deal(self, dealer: Dealer) -> None:
        dealer.values[self.index] = self.parts.get("dealer")

    def compute(self, party: Any) -> None:
        party.values[self.index] = self.parts.get(party.role)


@dataclass
class Chain:
    """Steps one after another, as a plan has them."""

    steps: list[Step] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)

    def add(self, kind: type[Step], *sources: Step, shape: tuple[int, ...], messages: int = 0, **fields: Any) -> Any:
        """Adds a step behind its sources."""
        level = max((source.level for source in sources), default=0) + messages
        numbers = tuple(source.index for source in sources)
        made = kind(index=len(self.steps), operation="", sources=numbers, shape=shape, level=level, **fields)
        self.steps.append(made)
        return made

    def given(self, parts: Mapping[str, Any], ahead: bool = False) -> Given:
        """A value in parts that are there from the beginning."""
        shape = next(part.shape for part in parts.values() if isinstance(part, np.ndarray))
        return self.add(Given, shape=shape, parts=parts, ahead=ahead)

    def slot(self, shape: tuple[int, ...], vector: bool) -> int:
        """A weight; its number."""
        self.slots.append(Slot(Derived("", shape, lambda _: np.zeros(shape)), 1.0, vector))
        return len(self.slots) - 1

    def ready(self, last: Step, ring: int) -> "Chain":
        """All steps know their rings, and the last one's is 2^ring."""
        last.ring = ring
        widen(self.steps, self.slots, [last.index])
        return self

    def weigh(self, weights: Sequence[Words], secrets: Mapping[str, Shifted]) -> dict[str, dict[int, Any]]:
        """Each role's F, W or B of weights."""
        return held(self.slots, weights, secrets)


def masked(
    slots: Sequence[Slot], weights: Mapping[int, Words] | Sequence[Words], secrets: Mapping[str, Shifted]
) -> dict[str, dict[int, Words]]:
    """F, W and B = W − F of weights, by role and slot."""
    found: dict[str, dict[int, Words]] = {"client": {}, "owner": {}, "dealer": {}}
    for index, place in weight_places(slots).items():
        mask = secrets["k01"].words(place, Purpose.WEIGHT, slots[index].derived.shape)
        for role, part in (("client", mask), ("owner", weights[index]), ("dealer", weights[index] - mask)):
            found[role][index] = part
    return found


def weight_places(slots: Sequence[Slot]) -> dict[int, Place]:
    """Where each weight's mask is drawn: equal weights of a session have one."""
    numbers: dict[Any, int] = {}
    needed = {index: slot for index, slot in enumerate(slots) if slot.bits}
    return {
        index: Place(0, 0, numbers.setdefault(slot.key if slot.derived.key else index, len(numbers)))
        for index, slot in needed.items()
    }


def held(
    slots: Sequence[Slot], weights: Mapping[int, Words] | Sequence[Words], secrets: Mapping[str, Shifted]
) -> dict[str, dict[int, Any]]:
    """What client, owner and dealer hold of weights, as a session places them."""
    return {
        role: {
            index: part if slots[index].vector else Multiplier(part, slots[index].bits) for index, part in parts.items()
        }
        for role, parts in masked(slots, weights, secrets).items()
    }


class Recorder(Outbox):
    """An outbox that keeps what it was given, as words."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.given: list[Words] = []
        self.sizes: list[tuple[int, int]] = []
        super().__init__(self.sent.append)

    def put(self, words: Words, bits: int) -> None:
        self.given.append(words)
        self.sizes.append((words.size, bits))
        super().put(words, bits)

    def noted(self, act: Callable[[], None]) -> list[Words]:
        """What it is given while something is done."""
        before = len(self.given)
        act()
        return self.given[before:]


@dataclass
class Scene:
    """One set of randomness of a plan, and one request with it.

    entered: the parts of inputs that no party knows, by role and step. said: what client and owner say to each other,
    by role and step, and `dealt` and `halves`, by step: what the dealer gives the owner, and what the client sends it
    ahead. heard: what the client hears in place of what the owner says.
    """

    steps: Sequence[Step]
    secrets: Mapping[str, Shifted] = field(default_factory=keys)
    weights: Mapping[str, Mapping[int, Any]] | None = None
    inputs: Mapping[str, Words] = field(default_factory=dict)
    arrays: Mapping[str, Words] = field(default_factory=dict)
    entered: Mapping[str, Mapping[int, Words]] = field(default_factory=dict)
    number: int = 1
    heard: Mapping[int, Words] | None = None
    said: dict[tuple[str, int], Words] = field(default_factory=dict)
    dealt: dict[int, list[Words]] = field(default_factory=dict)
    halves: dict[int, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = self.weights or {"client": {}, "owner": {}, "dealer": {}}
        self.from_dealer, self.from_client = Recorder(), Recorder()
        pair = self.secrets["k02"], self.secrets["k12"]
        self.dealer = Dealer(1, self.number, weights["dealer"], pair, self.from_dealer)
        self.client = Client(1, self.number, weights["client"], self.secrets["k02"], self.from_client)
        inboxes = (Inbox(iter(box.sent).__next__) for box in (self.from_dealer, self.from_client))
        self.owner = Owner(1, self.number, weights["owner"], self.secrets["k12"], *inboxes)
        self.client.inputs, self.owner.arrays = self.inputs, self.arrays
        for party in (self.client, self.owner):
            party.entered = self.entered.get(party.role, {})

    def prepare(self) -> "Scene":
        """What is done before the request."""
        for step in self.steps:
            self.dealt[step.index] = self.from_dealer.noted(lambda step=step: step.deal(self.dealer))
        for step in self.steps:
            for half in self.from_client.noted(lambda step=step: ahead_of_request(step, self.client)):
                self.halves[step.index] = half
        for box, told in ((self.from_dealer, "dealt_words"), (self.from_client, "words_ahead")):
            assert box.sizes == [words for step in self.steps for words in getattr(step, told)()]
        self.from_dealer.flush()
        self.from_client.flush()
        for step in self.steps:
            step.prepare(self.owner)
        self.owner.dealt.end()
        self.owner.ahead.end()
        return self

    def run(self) -> "Scene":
        """All of it, level by level as the parties take it."""
        self.prepare()
        for level in sorted({step.level for step in self.steps}):
            here = [step for step in self.steps if step.level == level]
            talking = [step for step in here if step.talks]
            for step in talking:
                for party in (self.client, self.owner):
                    self.say(step, party)
            for step in talking:
                step.hear(self.client, self.hear(step, "owner"))
                step.hear(self.owner, self.hear(step, "client"))
            for step in here:
                step.compute(self.owner)
                if not step.ahead:
                    step.compute(self.client)
        return self

    def say(self, step: Step, party: Any) -> None:
        """Keeps what a party says, after the check that it is what the other one expects."""
        message, wanted = step.say(party), step.words(party.role)
        assert (message is None) == (wanted is None)
        if message is not None and wanted is not None:
            assert (message[0].size, message[1]) == wanted
            self.said[party.role, step.index] = message[0]

    def hear(self, step: Step, role: str) -> Words | None:
        """What the other party gets of what a role said."""
        wanted = step.words(role)
        if wanted is None:
            return None
        if role == "owner" and self.heard is not None:
            return self.heard[step.index]
        return received(self.said[role, step.index], wanted[1]).reshape(-1)

    def bytes_said(self, role: str) -> dict[int, bytes]:
        """The messages of a role."""
        return {
            step.index: bytes(formulas.pack(self.said[role, step.index], words[1]))
            for step in self.steps
            if (words := step.words(role)) is not None
        }

    # What is known by all together.

    def parts(self, step: Step) -> tuple[Words, ...]:
        """The parts of a value that is in parts."""
        found = (role.values[step.index] for role in (self.client, self.owner, self.dealer))
        return tuple(np.zeros(step.shape, np.int64) if part is None else part for part in found)

    def whole(self, step: Step, ring: int) -> Words:
        """A value in parts, of the least absolute value mod 2^ring."""
        return signed(sum(map(integers, self.parts(step))), ring)

    def unmasked(self, step: Step, ring: int, shared: bool) -> Words:
        """A masked value, after the checks of what each must know: A at the dealer, δ at both if it is shared."""
        client, owner, dealer = (role.values[step.index] for role in (self.client, self.owner, self.dealer))
        assert isinstance(client, Masked)
        assert dealer.delta is None
        mask = integers(client.mask)
        if shared:
            mask = mask + owner.mask
            assert not (signed(integers(client.delta) - owner.delta, ring)).any()
        else:
            assert owner.mask is None
        assert not signed(mask - dealer.mask, ring).any()
        return signed(integers(owner.delta) + mask, ring)

    def drawn_by(self, name: str, step: Step, purpose: Purpose) -> Words:
        """What a step draws from a key, as Python's integers."""
        place, shape = Place(1, self.number, step.index), getattr(step, "opens", step.shape)
        return integers(self.secrets[name].words(place, purpose, shape))

    def opened_with(self, step: Lookup) -> Words:
        """r of a look-up, from 0 to 2^l."""
        half, other = (self.drawn_by(name, step, Purpose.MASK) for name in ("k02", "k12"))
        part = self.dealer.values[step.sources[0]]
        return (half + other - (0 if part is None else integers(part))) % (1 << step.table.bits)

    def cut_off(self, step: Any, *summands: Words) -> Words:
        """What is lost of summands when a step cuts T bits off each."""
        return sum(
            (integers(summand) % (1 << step.shift) for summand in summands), integers(np.zeros(step.shape, np.int64))
        )

    def cut(self, step: Open | MaskBoth, z: Words) -> Words:
        """z/2^T, with what the halves and the dealer's mask lose on the way, and what makes up for it."""
        a, b, z2 = (integers(part) for part in self.parts(self.steps[step.sources[0]]))
        mine, other = (self.drawn_by(name, step, Purpose.MASK) for name in ("k02", "k12"))
        half = (1 << step.shift) >> 1
        whole = z + half + self.cut_off(step, mine + other - z2) - self.cut_off(step, a + mine, b + other + half)
        assert not (whole % (1 << step.shift)).any()
        return whole >> step.shift

    def masked(self, step: Mask, z: Words) -> Words:
        """The same of what is masked towards the owner: x₀ + ρ − D₀, x₁ + x₂ − ρ and D₀ lose their lowest bits."""
        a, b, z2 = (integers(part) for part in self.parts(self.steps[step.sources[0]]))
        drawn = self.drawn_by("k02", step, Purpose.FRESH)
        share = (
            self.drawn_by("k02", step, Purpose.OTHER) if step.corrected else integers(np.zeros(step.shape, np.int64))
        )
        more = 3 * ((1 << step.shift) >> 1)
        whole = z + more - self.cut_off(step, a + share - drawn, b + z2 - share + more, drawn)
        assert not (whole % (1 << step.shift)).any()
        return whole >> step.shift


def received(words: Words, bits: int) -> Words:
    """Words as they arrive."""
    return formulas.unpack(formulas.pack(words, bits), words.size, bits).reshape(words.shape)


def integers(words: Words) -> Words:
    """Words as Python's integers, which never wrap."""
    return words.astype(object)


def signed(x: Words, ring: int) -> Words:
    """The representative of integers mod 2^ring whose absolute value is least."""
    half = 1 << ring - 1
    return (x + half) % (2 * half) - half


def words(x: Words) -> Words:
    """Integers mod 2^64 as words."""
    return np.asarray(signed(np.asarray(x, object), 64), np.int64)


def drawn(random: np.random.Generator, *shape: int) -> Words:
    """Words of every size and sign, extremes among them."""
    found = random.integers(-(2**63), 2**63, shape, np.int64) >> random.integers(0, 64, shape)
    return np.where(random.random(shape) < 0.2, random.choice([0, 1, -1, 2**63 - 1, -(2**63)], shape), found)


def below(random: np.random.Generator, bound: int, *shape: int) -> Words:
    """Integers |z| < bound, of every size and sign, both ends among them."""
    found = integers(drawn(random, *shape)) % (2 * bound - 1) - bound + 1
    found = found >> random.integers(0, bound.bit_length(), shape).astype(object)
    ends = random.choice(np.array([bound - 1, 1 - bound, 0, 1, -1], object), shape)
    return np.where(random.random(shape) < 0.3, np.clip(ends, 1 - bound, bound - 1), found)


def in_parts(random: np.random.Generator, z: Words, ring: int, **zero: bool) -> dict[str, Words | None]:
    """Integers in three parts mod 2^ring; above it there may be anything. zero: roles whose part is zero."""
    parts = {role: None if zero.get(role) else drawn(random, *z.shape) for role in ("client", "owner", "dealer")}
    last = "owner" if parts["owner"] is not None else "client"
    rest = sum((integers(part) for role, part in parts.items() if part is not None and role != last), 0)
    above = integers(drawn(random, *z.shape)) << ring
    return {**parts, last: words(z - rest + above)}
