"""What a request costs: seconds, bytes and rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a request cost, from sharing its input to the rebuilt output.

    seconds: wall time. bytes: sent by all parties together, input and output shares included. bytes_per_party: the
    same a party. rounds: messages of the busiest party. setup: the sharing of the weights, once, and in none of the
    others.
    """

    seconds: float = 0.0
    bytes: int = 0
    rounds: int = 0
    bytes_per_party: Mapping[str, int] = field(default_factory=dict)
    setup: "Cost | None" = None

    def __add__(self, other: "Cost") -> "Cost":
        """Both costs, one after the other; `setup` counts once."""
        parties = dict.fromkeys((*self.bytes_per_party, *other.bytes_per_party))
        return Cost(
            self.seconds + other.seconds,
            self.bytes + other.bytes,
            self.rounds + other.rounds,
            {name: self.bytes_per_party.get(name, 0) + other.bytes_per_party.get(name, 0) for name in parties},
            self.setup or other.setup,
        )

    def to_json(self) -> dict[str, Any]:
        """The cost as a JSON object."""
        base: dict[str, Any] = {
            "seconds": self.seconds,
            "bytes": self.bytes,
            "bytes_per_party": dict(self.bytes_per_party),
            "rounds": self.rounds,
        }
        return base if self.setup is None else {**base, "setup": self.setup.to_json()}
