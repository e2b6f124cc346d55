"""What runs: a protocol of SPU's, its parties, and its numbers. Read by the parent and by the child."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from mpcify.engines.config import EngineConfig, setting
from mpcify.errors import MpcifyError

if TYPE_CHECKING:
    from mpcify.engines.spu.engine import SpuEngine
    from mpcify.engines.spu.rules import SpuRules
    from mpcify.numerics import FixedPoint

# protocol: the parties in the order of their ranks
PARTIES: dict[str, tuple[str, ...]] = {
    "aby3": ("client", "owner", "helper"),
    "cheetah": ("client", "owner"),
    "semi2k": ("client", "owner"),
}
STEP = "/step"  # the variable that holds 2^−f in every party; no input of a graph begins so
FIELDS = {64: "FM64", 32: "FM32"}


@dataclass(frozen=True)
class SpuConfig(EngineConfig):
    """SPU with a protocol, in a ring with `fraction_bits` (18 in 64, 12 in 32 if None).

    protocol: `aby3`, `cheetah` (two parties; products take fifty times as long, and the first request sets up its
    oblivious transfers too) or `semi2k`, whose only mode here lets its first party, the client, unmask everything:
    it is built only if trust_first_party. ring: 64, or 32, which has no division, erf or exp. force: run unproven,
    although ranges overflow or are not declared. Raises MPC-501 for what SPU does not have.
    """

    name = "spu"

    protocol: str = setting("aby3", "spu: aby3 (default), cheetah or semi2k.")
    ring: int = setting(64, "Width of the ring: 64 (default), 48 or 32.", "BITS")
    fraction_bits: int | None = setting(None, "Default: 18, 14, 12 in 64, 48, 32.", "F")
    trust_first_party: bool = setting(False, "semi2k: the client may unmask the weights.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fraction_bits", self.number.fraction_bits)
        if self.protocol not in PARTIES:
            known = ", ".join(PARTIES)
            raise MpcifyError(501, f"protocol {self.protocol}", "SPU has no such protocol", f"use one of {known}")
        if self.ring not in FIELDS:
            known = " or ".join(map(str, FIELDS))
            what = f"SPU has no ring 2^{self.ring}"
            raise MpcifyError(501, f"ring {self.ring}", what, f"use --ring {known}, or --engine fixed")

    @property
    def number(self) -> "FixedPoint":
        """The ring and its fraction bits."""
        from mpcify.numerics import FixedPoint

        return FixedPoint.of(self.ring, self.fraction_bits)

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties, by rank."""
        return PARTIES[self.protocol]

    @property
    def field(self) -> str:
        """SPU's name of the ring."""
        return FIELDS[self.ring]

    def rules(self) -> "SpuRules":
        from mpcify.engines.spu.rules import SpuRules

        return SpuRules(self.number, self.protocol)

    def build(self) -> "SpuEngine":
        from mpcify.engines.spu.engine import SpuEngine

        return SpuEngine(self)

    def for_made_up_numbers(self) -> Self:
        return replace(self, force=True, trust_first_party=True)
