"""The three roles in one set of randomness: what each draws, gives, sends ahead and is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.prg import Place, Prg, Purpose

Shape = tuple[int, ...]
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


def chunks(said: Iterable[tuple[int, int]]) -> list[int]:
    """The bytes of each message in which an Outbox sends words: of each value how many, and of how many bits."""
    found, size = [], 0
    for count, bits in said:
        size += formulas.packed_size(count, bits)
        if size >= CHUNK:
            found.append(size)
            size = 0
    return [*found, size] if size else found


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
    """What all have of a set: its place, and by the numbers of the steps their values, and what they need again.

    weights: F at the client, W at the owner, B = W − F at the dealer, by the numbers of their slots. inputs: the
    client's, as floats. entered: this role's part of each input that no role knows. arrays: the owner's own, encoded.
    """

    role: Literal["client", "owner", "dealer"]

    def __init__(self, program: int, number: int, weights: Mapping[int, Any]) -> None:
        self.program, self.number, self.weights = program, number, weights
        self.values: dict[int, Any] = {}
        self.kept: dict[int, Any] = {}
        self.inputs: Mapping[str, np.ndarray] = {}
        self.entered: Mapping[int, np.ndarray] = {}
        self.arrays: Mapping[str, np.ndarray] = {}

    def place(self, step: int) -> Place:
        """Where a step's streams are."""
        return Place(self.program, self.number, step)


class Dealer(Role):
    """The dealer; `out` goes to the owner."""

    role = "dealer"

    def __init__(
        self, program: int, number: int, weights: Mapping[int, Any], keys: tuple[Prg, Prg], out: Outbox
    ) -> None:
        super().__init__(program, number, weights)
        (self.client, self.owner), self.out = keys, out

    def of_client(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the client draws too."""
        return self.client.words(self.place(step), purpose, shape)

    def of_owner(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the owner draws too."""
        return self.owner.words(self.place(step), purpose, shape)

    def give(self, step: int, purpose: Purpose, secret: np.ndarray, bits: int) -> np.ndarray:
        """Shares a secret mod 2^bits: the client's share, which it draws, is returned; the owner is sent the rest."""
        share = self.of_client(step, purpose, secret.shape)
        self.out.put(secret - share, bits)
        return share


class Peer(Role, ABC):
    """The client's or the owner's role. key: with the dealer. first: whether it adds what both know: the owner does."""

    first: bool

    def __init__(self, program: int, number: int, weights: Mapping[int, Any], key: Prg) -> None:
        super().__init__(program, number, weights)
        self.key = key

    def draw(self, step: int, purpose: Purpose, shape: Shape) -> np.ndarray:
        """Words that the dealer draws too."""
        return self.key.words(self.place(step), purpose, shape)

    @abstractmethod
    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        """This party's share of what the dealer gives; the owner's come in the order in which they are given."""

    @abstractmethod
    def half(self, own: np.ndarray | None, shape: Shape, bits: int) -> np.ndarray | None:
        """The client's half of what the owner alone opens, at the owner: the client sends it before the request."""


class Client(Peer):
    """The client: it draws its share of everything. out: what goes to the owner before the request."""

    role = "client"
    first = False

    def __init__(self, program: int, number: int, weights: Mapping[int, Any], key: Prg, out: Outbox) -> None:
        super().__init__(program, number, weights, key)
        self.out = out

    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        return self.draw(step, purpose, shape)

    def half(self, own: np.ndarray | None, shape: Shape, bits: int) -> np.ndarray | None:
        assert own is not None
        self.out.put(own, bits)
        return None


class Owner(Peer):
    """The owner. dealt, ahead: what the dealer and the client send it before the request."""

    role = "owner"
    first = True

    def __init__(
        self, program: int, number: int, weights: Mapping[int, Any], key: Prg, dealt: Inbox, ahead: Inbox
    ) -> None:
        super().__init__(program, number, weights, key)
        self.dealt, self.ahead = dealt, ahead

    def given(self, step: int, purpose: Purpose, shape: Shape, bits: int) -> np.ndarray:
        return self.dealt.take(shape, bits)

    def half(self, own: np.ndarray | None, shape: Shape, bits: int) -> np.ndarray | None:
        return self.ahead.take(shape, bits)
