"""What a request costs: seconds, bytes and rounds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a request cost, from sharing its input to the rebuilt output.

    seconds: wall time. bytes: sent by all parties together, input and output shares included. bytes_per_party: the
    same a party. rounds: messages of the busiest party. setup: the sharing of the weights, once, which counts in
    none of them. offline: the part of all of them that was done ahead of the request; None if nothing was.
    """

    seconds: float = 0.0
    bytes: int = 0
    rounds: int = 0
    bytes_per_party: Mapping[str, int] = field(default_factory=dict)
    setup: "Cost | None" = None
    offline: "Cost | None" = None

    def __add__(self, other: "Cost") -> "Cost":
        """Both costs, one after the other; `setup` counts once."""
        ahead = [cost.offline for cost in (self, other) if cost.offline is not None]
        return Cost(
            self.seconds + other.seconds,
            self.bytes + other.bytes,
            self.rounds + other.rounds,
            together(self.bytes_per_party, other.bytes_per_party),
            self.setup or other.setup,
            sum(ahead[1:], ahead[0]) if ahead else None,
        )

    @property
    def online(self) -> "Cost":
        """What is left of the cost without its offline part."""
        ahead = self.offline or Cost()
        sent = together(self.bytes_per_party, {name: -count for name, count in ahead.bytes_per_party.items()})
        seconds = max(self.seconds - ahead.seconds, 0.0)  # a sum may be rounded below its part
        return Cost(seconds, self.bytes - ahead.bytes, self.rounds - ahead.rounds, sent)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Every number of the cost itself."""
        return self.seconds, self.bytes, self.rounds, *self.bytes_per_party.values()

    def to_json(self) -> dict[str, Any]:
        """The cost as a JSON object. If part of it was done ahead, "online" and "offline" in it are costs again."""
        values: dict[str, Any] = {
            "seconds": self.seconds,
            "bytes": self.bytes,
            "bytes_per_party": dict(self.bytes_per_party),
            "rounds": self.rounds,
        }
        if self.setup is not None:
            values["setup"] = self.setup.to_json()
        if self.offline is not None:
            values |= {"online": self.online.to_json(), "offline": self.offline.to_json()}
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Cost":
        """The cost in a JSON object. Raises ValueError for what is no field of a cost, TypeError for no object."""
        if not isinstance(values, Mapping):
            raise TypeError("a cost is an object")
        inner = {name: Cost.from_json(values[name]) for name in ("setup", "offline", "online") if name in values}
        online = inner.pop("online", None)
        if not {item.name for item in fields(Cost)} >= values.keys() - {"online"}:
            raise ValueError("a cost has no such field")
        cost = Cost(**{**values, **inner} if online is None else {**without(values, "online"), **inner})
        if not isinstance(cost.bytes_per_party, Mapping) or not all(map(counts, cost.numbers)):
            raise ValueError("a cost is made of numbers from 0 on")
        if online is not None and (cost.offline is None or online != cost.online):
            raise ValueError("online and offline are not the cost together")
        return cost


def counts(value: Any) -> bool:
    """Whether a value is a finite number from 0 on."""
    return type(value) in (int, float) and 0 <= value < math.inf


def together(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Bytes a party, added."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in dict.fromkeys((*first, *second))}


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values but for one."""
    return {key: value for key, value in values.items() if key != name}


def combined(costs: Mapping[str, Cost]) -> Cost:
    """What parties that began at once spent: seconds until the last was done, all bytes, the busiest's messages.

    What was done ahead is one part and the rest another.
    """
    ahead = {role: cost.offline for role, cost in costs.items() if cost.offline is not None}
    if ahead:
        offline = combined(ahead)
        return replace(combined({role: cost.online for role, cost in costs.items()}) + offline, offline=offline)
    parties = {role: cost.bytes for role, cost in costs.items()}
    return Cost(
        max(cost.seconds for cost in costs.values()),
        sum(parties.values()),
        max(cost.rounds for cost in costs.values()),
        parties,
    )


def median(costs: Sequence[Cost]) -> Cost:
    """The median of every part of some requests' costs; `setup` is the first one's.

    Bytes are the same in each request, but a party's share of them may be drawn by chance: then the shares need not
    add up to the bytes.
    """
    ahead = [cost.offline for cost in costs if cost.offline is not None]
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        round(statistics.median(cost.bytes for cost in costs)),
        round(statistics.median(cost.rounds for cost in costs)),
        {
            name: round(statistics.median(cost.bytes_per_party[name] for cost in costs))
            for name in costs[0].bytes_per_party
        },
        costs[0].setup,
        median(ahead) if ahead else None,
    )


def line(cost: Mapping[str, Any]) -> str:
    """A cost's JSON object as people read it; without rounds nothing was sent. If part was done ahead, both parts."""
    if "offline" in cost:
        return f"{line(cost['online'])}; ahead {line(cost['offline'])}"
    seconds = f"{cost['seconds']:.2f} s"
    rounds = f"{cost['rounds']} round{'' if cost['rounds'] == 1 else 's'}"
    return f"{seconds}, {cost['bytes'] / 1e6:.1f} MB, {rounds}" if cost["rounds"] else seconds
