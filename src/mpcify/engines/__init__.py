"""Engines run graphs: in floats, in fixed point, or shared among parties."""

from typing import TYPE_CHECKING, Any

from mpcify.engines.config import PlainConfig, config_named, register
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.spu.config import SpuConfig

if TYPE_CHECKING:
    from mpcify.engines.engine import Engine

DEFAULT = SpuConfig.name

register(PlainConfig)
register(FixedConfig)
register(SpuConfig)
register(RingConfig)


def engine_named(name: str, **given: Any) -> "Engine":
    """An engine by its name and settings, None standing for its own default.

    Raises MPC-501 for a name or a setting that it does not have, MPC-502 and MPC-504 as its `build` does.
    """
    return config_named(name, **given).build()
