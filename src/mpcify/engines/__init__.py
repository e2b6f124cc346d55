"""Engines run graphs: in floats, in fixed point, or shared among parties."""

from mpcify.engines.engine import Engine
from mpcify.errors import MpcifyError

NAMES = ("plain", "fixed", "spu")


def engine_named(
    name: str,
    *,
    protocol: str | None = None,
    ring: int | None = None,
    fraction_bits: int | None = None,
    force: bool = False,
    trust_first_party: bool = False,
) -> Engine:
    """An engine by its name; None chooses its default. Raises MPC-501 for a name or a setting that it does not have."""
    width = 64 if ring is None else ring
    if name == "spu":
        from mpcify.engines.spu.engine import SpuEngine

        return SpuEngine(
            protocol or "aby3",
            width,
            fraction_bits,
            force=force,
            trust_first_party=trust_first_party,
        )
    given = {"--protocol": protocol, "--ring": ring, "--fraction-bits": fraction_bits}
    taken = {"plain": (), "fixed": ("--ring", "--fraction-bits")}.get(name)
    if taken is None:
        raise MpcifyError(501, f"engine {name}", "there is no such engine", f"use one of {', '.join(NAMES)}")
    for flag, value in given.items():
        if value is not None and flag not in taken:
            raise MpcifyError(501, f"engine {name}", f"it has no {flag.strip('-')}", f"leave {flag} out")
    if name == "fixed":
        from mpcify.engines.fixed.engine import FixedEngine

        return FixedEngine(width, fraction_bits, force=force)
    from mpcify.engines.plain import PlainEngine

    return PlainEngine()
