"""Two halves of a request: what a thin client posts to delegate and owner, and what each of them answers.

A thin client shares its inputs between two parties, so that neither knows them. It draws an id for the request and
posts each its half: `POST /v1/halves`, the half's bytes as body, with the headers below. Each POST stays open until
that party's half of the answer is there, and brings it back. `GET /v1/halves` says which programs the two run.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mpcify.cluster.orders import LARGEST, is_count
from mpcify.engines.cost import Cost

ROUTE = "/v1/halves"
BINARY = "application/octet-stream"
ID, LENGTH, PROGRAM = "mpcify-request", "mpcify-length", "mpcify-program"  # headers of a half
COST = "mpcify-cost"  # of an answer: a cost as JSON
FIELDS = {"seconds", "bytes", "bytes_per_party", "rounds"}
PARTS = ("online", "offline")  # of a cost, both or none
REMEMBERED = 1 << 17  # halves


@dataclass(frozen=True)
class Half:
    """A party's half of a request. id: of the request, the same in both. content: what nobody but the party gets."""

    id: str
    length: int
    content: bytes


class Seen:
    """The halves that came, of which it remembers so many: neither an id nor a content may come again.

    Two requests of which one half is the same would show the other party by how much their inputs differ.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self.remembered = remembered
        self.words: dict[bytes, None] = {}  # ids and digests of contents, the oldest first

    def is_new(self, half: Half) -> bool:
        """Whether nothing of a half came before; it has come with this."""
        words = half.id.encode(), hashlib.sha256(half.content).digest()
        new = not any(word in self.words for word in words)
        self.words |= dict.fromkeys(words)
        while len(self.words) > 2 * self.remembered:
            del self.words[next(iter(self.words))]
        return new


def cost_from(text: str, roles: Collection[str]) -> Cost:
    """The cost in a header, of these parties. Raises ValueError for any other."""
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is no cost") from None
    parts = {name: values.pop(name) for name in PARTS if name in values} if isinstance(values, dict) else {}
    if len(parts) == 1 or not all(is_cost(each, roles) for each in (values, *parts.values())):
        raise ValueError("it is no cost")
    return Cost.from_json({**values, **parts})


def is_cost(values: Any, roles: Collection[str]) -> bool:
    """Whether a value is the JSON object of a cost without parts."""
    if not isinstance(values, Mapping) or values.keys() != FIELDS:
        return False
    seconds, shares = values["seconds"], values["bytes_per_party"]
    known = isinstance(shares, Mapping) and shares.keys() <= {*roles} and all(map(is_count, shares.values()))
    timed = type(seconds) in (int, float) and 0 <= seconds < LARGEST
    return known and timed and is_count(values["bytes"]) and is_count(values["rounds"])
