"""Settings of the engine `ring`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from mpcify.engines.config import EngineConfig, Speed, setting
from mpcify.errors import MpcifyError
from mpcify.processors import threads

if TYPE_CHECKING:
    from mpcify.engines.ring.engine import RingEngine
    from mpcify.engines.ring.rules import RingRules

PARTIES = ("client", "owner", "dealer")
WIDEST = 64  # bits of a word
WIDTHS = (32, 40, 48, 56, 64)  # of the widest ring
MOST_AHEAD = 16
KNOWN_TO = ("client", "delegated")


@dataclass(frozen=True)
class RingConfig(EngineConfig):
    """Client and owner compute on additive shares, and a dealer prepares their randomness, which depends on no input.

    ring: the widest ring that an operation may take; each gets the narrowest that its declared ranges prove. ahead: how
    many requests' randomness waits prepared. inputs: who knows them: the client, or no party, if they come from thin
    clients in two shares. device: cuda multiplies by weights there; parties may differ in it. Raises
    MPC-501 for a ring, a number of sets or a sort of inputs that there are not.
    """

    name = "ring"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    ring: int = setting(64, "Width of the ring: 64 (default), 48 or 32; ring: of the widest, also 56 or 40.", "BITS")
    ahead: int = setting(1, "ring: requests whose randomness is dealt ahead (default: 1).", "N")
    inputs: str = setting(
        "client", "ring: who knows the inputs: client (default), or no party: delegated, in two shares.", "WHO"
    )

    protocol: ClassVar[str] = "dealer"
    parties: ClassVar[tuple[str, ...]] = PARTIES  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ring not in WIDTHS:
            known = ", ".join(map(str, WIDTHS))
            raise MpcifyError(501, f"ring {self.ring}", "there is no such ring", f"use --ring {known}")
        if not 0 <= self.ahead <= MOST_AHEAD:
            what = "so many sets of randomness do not wait"
            raise MpcifyError(501, f"ahead {self.ahead}", what, f"use --ahead 0 to {MOST_AHEAD}")
        if self.inputs not in KNOWN_TO:
            what = "there are no such inputs"
            raise MpcifyError(501, f"inputs {self.inputs}", what, f"use --inputs {' or '.join(KNOWN_TO)}")

    @property
    def delegated(self) -> bool:
        """Whether no party knows the inputs."""
        return self.inputs == "delegated"

    def rules(self) -> "RingRules":
        from mpcify.engines.ring.rules import RingRules

        return RingRules(self.ring, self.force, self.ahead, self.delegated)

    def speed(self) -> Speed:
        from mpcify.engines.ring.kernels.products import SLOW, blas_alone, measured

        kernels = measured(self.device).items()
        told = (f"{name} {kernel['rate']:.1f} (up to {kernel['bits']} bits)" for name, kernel in kernels)
        remedy = "install mpcify's wheel, or a C compiler and then mpcify again"
        found = f"{', '.join(told)}; billions of multiply-adds a second, threads: {threads()}"
        return Speed(found, (SLOW, remedy) if blas_alone() else None)

    def build(self) -> "RingEngine":
        from mpcify.engines.ring.engine import RingEngine

        return RingEngine(self)

    def for_made_up_numbers(self) -> Self:
        return replace(self, force=True)
