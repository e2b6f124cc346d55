"""Settings of the engine `fixed`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from mpcify.engines.config import EngineConfig, setting

if TYPE_CHECKING:
    from mpcify.engines.fixed.engine import FixedEngine
    from mpcify.engines.rules import Rules
    from mpcify.numerics import FixedPoint


@dataclass(frozen=True)
class FixedConfig(EngineConfig):
    """Integers mod 2^`ring` (64, 48 or 32) with `fraction_bits` (18, 14, 12 if None), by the rules of the engine `spu`.

    Raises MPC-501 for a ring or fraction bits that there are not.
    """

    name = "fixed"

    ring: int = setting(64, "Width of the ring: 64 (default), 48 or 32.", "BITS")
    fraction_bits: int | None = setting(None, "Default: 18, 14, 12 in 64, 48, 32.", "F")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fraction_bits", self.number.fraction_bits)

    @property
    def number(self) -> "FixedPoint":
        """The ring and its fraction bits."""
        from mpcify.numerics import FixedPoint

        return FixedPoint.of(self.ring, self.fraction_bits)

    def rules(self) -> "Rules":
        from mpcify.engines.spu.rules import SpuRules

        return SpuRules(self.number)

    def build(self) -> "FixedEngine":
        from mpcify.engines.fixed.engine import FixedEngine

        return FixedEngine(self.rules(), force=self.force)

    def for_made_up_numbers(self) -> Self:
        return replace(self, force=True)
