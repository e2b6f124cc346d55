"""The lines between machines, as `estimate` and `bench` reckon with them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mpcify.errors import MpcifyError


@dataclass(frozen=True)
class Network:
    """A link between each two parties. round_trip: seconds. rate: bytes a second, of each party's line."""

    name: str
    round_trip: float
    rate: float

    @staticmethod
    def named(text: str) -> "Network":
        """`lan` (0.4 ms, 5 Gbit/s), `wan` (40 ms, 400 Mbit/s), or `RTT,GBIT`: milliseconds and Gbit/s. MPC-501."""
        known = {"lan": "0.4,5", "wan": "40,0.4"}.get(text, text)
        try:
            round_trip, gigabits = map(float, known.split(","))
        except ValueError:
            round_trip, gigabits = -1.0, 0.0
        if not (0 <= round_trip < float("inf") and 0 < gigabits < float("inf")):
            remedy = "use lan, wan, or the round trip in ms and the rate in Gbit/s, as in 10,1"
            raise MpcifyError(501, f"network {text}", "there is no such network", remedy)
        return Network(text, round_trip / 1e3, gigabits * 1e9 / 8)

    def seconds(self, bytes_per_party: Mapping[str, float], rounds: float) -> float:
        """The network's share: half a round trip a round, and the bytes of the party that sends most, over its line.

        bytes_per_party: what each party sends. rounds: the messages of the busiest.
        """
        return rounds * self.round_trip / 2 + max(bytes_per_party.values(), default=0.0) / self.rate
