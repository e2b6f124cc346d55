"""The three roles in one set of randomness: what each draws, gives, sends ahead and is given."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.prg import Place, Prg, Purpose
from mpcify.engines.ring.protocols.step import Shape

CHUNK = 8 << 20  # bytes of what is dealt or sent ahead that go in one message, if a value's are not more


class Outbox:
    """Words on their way to one peer, in messages of about CHUNK bytes."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.send, self.waiting, self.size = send, [], 0
        self.bytes, self.messages = 0, 0

    waiting: list[bytes | memoryview]

    def put(self, words: np.ndarray, bits: int) -> None:
        """Adds words mod 2^bits."""
        packed = formulas.pack(words, bits)
        self.waiting.append(packed)
        self.size, self.bytes = self.size + len(packed), self.bytes + len(packed)
        if self.size >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        if self.waiting:
            self.send(b"".join(self.waiting))
            self.messages += 1
            self.waiting, self.size = [], 0


class Inbox:
    """Words from one peer, in the order and the messages in which an Outbox puts them. Raises ValueError for others."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.receive, self.data, self.place = receive, memoryview(b""), 0

    def take(self, shape: Shape, bits: int) -> np.ndarray:
        """Words of a shape, from 0 to 2^bits."""
        count = int(np.prod(shape))
        if self.place == len(self.data):
            self.data, self.place = memoryview(self.receive()), 0
        end = self.place + formulas.packed_size(count, bits)
        if end > len(self.data):
            raise ValueError("a message is too short")
        found = formulas.unpack(self.data[self.place : end], count, bits).reshape(shape)
        self.place = end
        if end >= CHUNK and end < len(self.data):
            raise ValueError("a message is too long")
        return found

    def end(self) -> None:
        """Raises ValueError if more was sent than taken."""
        if self.place < len(self.data):
            raise ValueError("a message is too long")


class Role:
    """What all have: the set's place, and the values and notes of its steps."""

    role: Literal["client", "owner", "dealer"]

    def __init__(self, program: int, number: int, weights: Mapping[int, Any]) -> None:
        self.program, self.number, self.weights = program, number, weights
        self.values: dict[int, Any] = {}
        self.kept: dict[int, Any] = {}
        self.inputs: Mapping[str, np.ndarray] = {}
        self.arrays: Mapping[str, np.ndarray] = {}

    def place(self, step: int) -> Place:
        """Where a step's streams are."""
        return Place(self.program, self.number, step)

    def weight(self, slot: int) -> Any:
        return self.weights[slot]

    def owned(self, key: str) -> np.ndarray:
        return self.arrays[key]


class Dealer(Role):
    """The dealer; `out` goes to the owner."""

    role = "dealer"

    def __init__(
        self, program: int, number: int, weights: Mapping[int, Any], keys: tuple[Prg, Prg], out: Outbox
    ) -> None:
        super().__init__(program, number, weights)
        (self.client, self.owner), self.out = keys, out

    def of_client(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        return self.client.words(self.place(step), purpose, shape)

    def of_owner(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        return self.owner.words(self.place(step), purpose, shape)

    def give(self, step: int, purpose: Purpose, secret: np.ndarray, bits: int) -> np.ndarray:
        share = self.of_client(step, purpose, secret.shape)
        self.out.put(secret - share, bits)
        return share


class Client(Role):
    """The client: it draws its share of everything. `out` goes to the owner, before the request."""

    role = "client"
    first = False

    def __init__(self, program: int, number: int, weights: Mapping[int, Any], key: Prg, out: Outbox) -> None:
        super().__init__(program, number, weights)
        self.key, self.out = key, out

    def draw(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        return self.key.words(self.place(step), purpose, shape)

    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        return self.draw(step, purpose, shape)

    def send_ahead(self, words: np.ndarray, bits: int) -> None:
        self.out.put(words, bits)

    def sent_ahead(self, shape: Shape, bits: int) -> np.ndarray:
        raise AssertionError("nobody sends the client anything ahead")


class Owner(Role):
    """The owner. dealt, ahead: what the dealer and the client send it before the request."""

    role = "owner"
    first = True

    def __init__(
        self, program: int, number: int, weights: Mapping[int, Any], key: Prg, dealt: Inbox, ahead: Inbox
    ) -> None:
        super().__init__(program, number, weights)
        self.key, self.dealt, self.ahead = key, dealt, ahead

    def draw(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        return self.key.words(self.place(step), purpose, shape)

    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        return self.dealt.take(shape, bits)

    def send_ahead(self, words: np.ndarray, bits: int) -> None:
        raise AssertionError("the owner sends nothing ahead")

    def sent_ahead(self, shape: Shape, bits: int) -> np.ndarray:
        return self.ahead.take(shape, bits)
