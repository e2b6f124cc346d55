"""What runs: a protocol of SPU's, its parties, and its numbers. Read by the parent and by the child."""

from dataclasses import dataclass

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.numerics import FixedPoint

# protocol: the parties in the order of their ranks
PARTIES: dict[str, tuple[str, ...]] = {
    "aby3": ("client", "owner", "helper"),
    "cheetah": ("client", "owner"),
    "semi2k": ("client", "owner"),
}
CLIENT, OWNER = 0, 1
STEP = "/step"  # the variable that holds 2^−f in every party; no input of a graph begins so
FIELDS = {64: "FM64", 32: "FM32"}
# SPU's division and erf build a 64-bit constant that FM32 has no room for; its exp runs there and errs by 1.9.
NOT_IN_FM32 = ("reciprocal", "gelu", "exp", "softmax", "gelu-erfc")
OWN_EXP = 8  # t of SPU's own exponential
MERGED = 4  # products at most that are computed as one
MERGED_WORK = 1 << 22  # (products)² · multiplications of each: above it, what merging adds costs more than it saves


@dataclass(frozen=True)
class Settings:
    """protocol: a name of PARTIES. number: its ring and fraction bits. Raises MPC-501 for what SPU does not have."""

    protocol: str
    number: FixedPoint

    def __post_init__(self) -> None:
        if self.protocol not in PARTIES:
            known = ", ".join(PARTIES)
            raise MpcifyError(501, f"protocol {self.protocol}", "SPU has no such protocol", f"use one of {known}")
        if self.number.ring not in FIELDS:
            known = " or ".join(map(str, FIELDS))
            what = f"SPU has no ring 2^{self.number.ring}"
            raise MpcifyError(501, f"ring {self.number.ring}", what, f"use --ring {known}, or --engine fixed")

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties, by rank."""
        return PARTIES[self.protocol]

    @property
    def field(self) -> str:
        """SPU's name of the ring."""
        return FIELDS[self.number.ring]

    def check_graph(self, graph: Graph) -> None:
        """Raises MPC-501 for the first operation that SPU cannot compute in this ring."""
        for operation in graph.operations:
            if self.number.ring == 32 and operation.kind in NOT_IN_FM32:
                what = f"SPU cannot compute {operation.kind} in the ring 2^32"
                raise MpcifyError(501, operation.where, what, "use --ring 64, or --engine fixed")

    def to_json(self) -> dict[str, str | int]:
        """The settings as a JSON object."""
        return {"protocol": self.protocol, "ring": self.number.ring, "fraction_bits": self.number.fraction_bits}

    @staticmethod
    def from_json(values: dict) -> "Settings":
        """The settings in a JSON object."""
        return Settings(values["protocol"], FixedPoint(values["ring"], values["fraction_bits"]))


def merged(count: int, work: int) -> int:
    """How many of `count` products, of `work` multiplications each, are computed as one: the largest such divisor."""
    fitting = (group for group in range(MERGED, 1, -1) if count % group == 0 and group * group * work <= MERGED_WORK)
    return next(fitting, 1)
