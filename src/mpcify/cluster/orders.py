"""What the client asks of the other parties, and what they answer: one order at a time, numbered from 1.

An order is JSON under the key `order#N`, {"do": a word below, "length": a padded length}; each party answers under
`cost#N` with what it spent. What the engine's parties send each other stands under other keys.

If inputs are delegated, two orders make a request: `half`, with the request's id beside the others ("id"), after which
the owner says under `half#N` whether it has its half, and `answer`, with that half.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mpcify.cluster.handshake import against_protocol
from mpcify.engines.cost import Cost

Word = Literal["open", "half", "answer", "profile", "echo"]
WORDS: tuple[Word, ...] = get_args(Word)
MOST = 1 << 22  # bytes of an order or of what it cost: a profile has a line an operation
LARGEST = 1 << 62
ID = re.compile(r"[0-9a-f]{32}")  # of a request of which each of two parties gets a half
THERE, MISSING = b"1", b"0"  # whether the owner has its half


@dataclass(frozen=True)
class Order:
    """What to do. open: share the weights of a length's program. half: see whether the owner has its half of a request.
    answer: a request of that length. profile: the same, by operation. echo: send the next message back, which has
    `length` bytes. id: of the request whose half is asked for, and of nothing else.
    """

    do: Word
    length: int
    id: str = ""

    def to_bytes(self) -> bytes:
        """The message."""
        return json.dumps({name: value for name, value in vars(self).items() if value != ""}).encode()

    @staticmethod
    def from_bytes(message: bytes, peer: str) -> "Order":
        """The order in a peer's message. Raises MPC-707 for any other."""
        values = parsed(message, peer)
        wanted = {"do", "length", "id"} if values.get("do") == "half" else {"do", "length"}
        if values.keys() != wanted or values["do"] not in WORDS or not is_count(values["length"]):
            raise against_protocol(peer, "it sent an order that there is not")
        if "id" in wanted and not is_id(values["id"]):
            raise against_protocol(peer, "it asks for a half without an id")
        return Order(**values)


def order_key(number: int) -> str:
    """The key of an order."""
    return f"order#{number}"


def cost_key(number: int) -> str:
    """The key of what an order cost."""
    return f"cost#{number}"


def half_key(number: int) -> str:
    """The key of whether the owner has its half."""
    return f"half#{number}"


def echo_key(number: int) -> str:
    """The key of what an order sends there and back."""
    return f"echo#{number}"


def costs_to_bytes(costs: Mapping[str, Cost]) -> bytes:
    """What a party spent, by operation ("" for an order as a whole), as a message: a list of seconds, bytes and rounds
    each, with another behind it, of what of it was done ahead, if anything was.
    """

    def listed(cost: Cost) -> list[Any]:
        ahead = [] if cost.offline is None else [listed(cost.offline)]
        return [cost.seconds, cost.bytes, cost.rounds, *ahead]

    return json.dumps({name: listed(cost) for name, cost in costs.items()}).encode()


def costs_from_bytes(message: bytes, peer: str, names: frozenset[str]) -> dict[str, Cost]:
    """The costs in a peer's message, for these names. Raises MPC-707 for any other."""
    values = parsed(message, peer)
    if values.keys() != names or not all(map(is_cost, values.values())):
        raise against_protocol(peer, "it sent costs that there are not")

    def cost(seconds: float, sent: int, rounds: int, ahead: list[Any] | None = None) -> Cost:
        return Cost(float(seconds), sent, rounds, {peer: sent}, offline=None if ahead is None else cost(*ahead))

    return {name: cost(*listed) for name, listed in values.items()}


def parsed(message: bytes, peer: str) -> dict[str, Any]:
    """The JSON object in a peer's message."""
    try:
        if len(message) > MOST:
            raise ValueError
        values = json.loads(message)
    except (ValueError, RecursionError):
        raise against_protocol(peer, "it sent an order or costs that are no JSON") from None
    if not isinstance(values, dict):
        raise against_protocol(peer, "it sent an order or costs that are no JSON object")
    return values


def is_id(value: Any) -> bool:
    """Whether a value names a request of which each of two parties gets a half."""
    return isinstance(value, str) and ID.fullmatch(value) is not None


def is_count(value: Any) -> bool:
    """Whether a value is a whole number as things are counted."""
    return type(value) is int and 0 <= value < LARGEST


def is_cost(value: Any) -> bool:
    """Whether a value is [seconds, bytes, rounds], with another behind it if that is a part of it."""
    if isinstance(value, list) and len(value) == 4:
        *whole, part = value
        inside = is_cost(whole) and is_cost(part) and len(part) == 3
        return inside and all(less <= more for less, more in zip(part, whole, strict=True))
    if not isinstance(value, list) or len(value) != 3:
        return False
    seconds, sent, rounds = value
    return type(seconds) in (int, float) and 0 <= seconds < LARGEST and is_count(sent) and is_count(rounds)
