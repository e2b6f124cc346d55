"""For other secrets, the randomness under which a party receives the very same bytes.

A party's view shows nothing of a secret if for any other one there are draws of the keys that it does not know, as
likely as the first, with which all that it receives is byte for byte the same. They are found step by step: each draw
is moved by what the message that it hides would else be off by. What a draw moves by depends on earlier draws alone, so
the moved ones are as uniform as the first.
"""

from abc import ABC, abstractmethod

import numpy as np

from mpcify.engines.ring.party import ahead_of_request
from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.lookup import Lookup, Output
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Open, Renew, RenewBoth
from mpcify.engines.ring.protocols.step import Step
from tests.engines.ring.scene import Scene, Shifted, Words, received

HIDES: dict[type[Step], tuple[Purpose, int]] = {  # which draw hides what a step says, and its sign there
    Open: (Purpose.MASK, 1),
    Lookup: (Purpose.MASK, 1),
    MaskBoth: (Purpose.MASK, 1),
    Mask: (Purpose.FRESH, -1),
    Renew: (Purpose.FRESH, -1),
    RenewBoth: (Purpose.FRESH, -1),
}


class ExposedError(Exception):
    """A message shows what no draw hides."""


class Hiding(ABC):
    """Moves the draws of `key` in the scene `other`, so that a party receives what it did in `told`."""

    key: Shifted

    def __init__(self, told: Scene, other: Scene) -> None:
        self.told, self.other, self.dealer = told, other, other.dealer
        self.dealer.give = self.give  # type: ignore[method-assign]
        self.step = other.steps[0]  # the one that is taken

    def hide(self) -> Scene:
        """Moves them. Raises ExposedError if a message cannot be made the same."""
        for step in self.other.steps:
            self.step = step
            self.hide_step(step, self.wanted())
            self.follow(step)
        return self.other

    def hide_step(self, step: Step, wanted: Words | None) -> None:
        """Takes a step, and takes it again with the draw that makes what it says what is wanted."""
        said = self.take(step)
        if said is None or wanted is None or np.array_equal(said, wanted):
            return
        purpose, sign = next(found for kind, found in HIDES.items() if isinstance(step, kind))
        self.key.shift(self.dealer.place(step.index), purpose, (wanted - said) * sign << self.cut(step))
        if not np.array_equal(self.take(step), wanted):
            raise ExposedError(f"what {type(step).__name__} says is not hidden by its draw")

    def cut(self, step: Step) -> int:
        """The bits that a message leaves out, at the lower end."""
        return step.shift if isinstance(step, Open | Mask | MaskBoth) else 0

    @abstractmethod
    def give(self, step: int, purpose: Purpose, secret: Words, bits: int) -> Words:
        """In place of Dealer.give."""

    @abstractmethod
    def take(self, step: Step) -> Words | None:
        """What the hidden party sends the other for a step; it may be taken again."""

    @abstractmethod
    def wanted(self) -> Words | None:
        """What it sent in the first scene."""

    @abstractmethod
    def follow(self, step: Step) -> None:
        """What it does when it has heard what the other one says."""


class FromOwner(Hiding):
    """Of other inputs of the client's: the owner knows no k₀₂. It says what it said."""

    def __init__(self, told: Scene, other: Scene) -> None:
        super().__init__(told, other)
        self.key, self.client = other.secrets["k02"], other.client
        self.given: list[Words] = []

    def give(self, step: int, purpose: Purpose, secret: Words, bits: int) -> Words:
        share, told = self.dealer.of_client(step, purpose, secret.shape), self.told.dealt[step][len(self.given)]
        self.key.shift(self.dealer.place(step), purpose, secret - share - told)
        self.given.append(told)
        return self.dealer.of_client(step, purpose, secret.shape)

    def take(self, step: Step) -> Words | None:
        self.given = []
        step.deal(self.dealer)
        halves = self.other.from_client.noted(lambda: ahead_of_request(step, self.client))
        message = step.say(self.client) if step.talks else None
        return halves[0] if halves else None if message is None else message[0]

    def wanted(self) -> Words | None:
        said = self.told.said.get(("client", self.step.index))
        return self.told.halves.get(self.step.index, said)

    def follow(self, step: Step) -> None:
        if step.talks:
            step.hear(self.client, self.told.hear(step, "owner"))
        if not step.ahead:
            step.compute(self.client)


class FromClient(Hiding):
    """Of other weights of the owner's: the client knows no k₁₂. It says what it said. Outputs show themselves."""

    def __init__(self, told: Scene, other: Scene) -> None:
        super().__init__(told, other)
        self.key, self.owner = other.secrets["k12"], other.owner
        self.given: list[Words] = []
        self.owner.given = lambda *_: self.given.pop(0)  # type: ignore[method-assign]
        self.owner.half = lambda _, shape, bits: received(  # type: ignore[method-assign]
            told.halves[self.step.index], bits
        ).reshape(shape)

    def give(self, step: int, purpose: Purpose, secret: Words, bits: int) -> Words:
        share = self.dealer.of_client(step, purpose, secret.shape)
        self.given.append(received(secret - share, bits))
        return share

    def take(self, step: Step) -> Words | None:
        self.given = []
        step.deal(self.dealer)
        step.prepare(self.owner)
        message = step.say(self.owner) if step.talks else None
        return None if message is None else message[0]

    def wanted(self) -> Words | None:
        return None if isinstance(self.step, Output) else self.told.said.get(("owner", self.step.index))

    def cut(self, step: Step) -> int:
        return step.dropped if isinstance(step, Lookup) and step.early else super().cut(step)

    def follow(self, step: Step) -> None:
        if step.talks:
            step.hear(self.owner, self.told.hear(step, "client"))
        step.compute(self.owner)
