"""mpcify turns a Hugging Face Transformer into an MPC-friendly one, and runs it privately.

The public names load lazily: importing mpcify imports neither torch nor jax nor spu. A name whose packages are not
installed raises MPC-504, with the extra that brings them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpcify.cluster.connect import connect
    from mpcify.conversion.check import Finding
    from mpcify.conversion.convert import load
    from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer
    from mpcify.engines.cost import Cost
    from mpcify.errors import MpcifyError, MpcifyWarning
    from mpcify.inference import PrivateModel
    from mpcify.lowering.calibrate import calibrate
    from mpcify.lowering.check import check
    from mpcify.lowering.compile import compile
    from mpcify.lowering.convert import convert
    from mpcify.recipe import RECIPES, Recipe

__version__ = "0.1.0"

HOMES = {
    "Cost": "engines.cost",
    "DistillationArguments": "distillation.trainer",
    "DistillationTrainer": "distillation.trainer",
    "Finding": "conversion.check",
    "MpcifyError": "errors",
    "MpcifyWarning": "errors",
    "PrivateModel": "inference",
    "RECIPES": "recipe",
    "Recipe": "recipe",
    "calibrate": "lowering.calibrate",
    "check": "lowering.check",
    "compile": "lowering.compile",
    "connect": "cluster.connect",
    "convert": "lowering.convert",
    "load": "conversion.convert",
}

__all__ = [
    "RECIPES",
    "Cost",
    "DistillationArguments",
    "DistillationTrainer",
    "Finding",
    "MpcifyError",
    "MpcifyWarning",
    "PrivateModel",
    "Recipe",
    "calibrate",
    "check",
    "compile",
    "connect",
    "convert",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'mpcify' has no attribute {name!r}")
    try:
        return getattr(import_module(f"mpcify.{HOMES[name]}"), name)
    except ImportError as error:
        from mpcify.extras import explained

        raise explained(error) or error from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
