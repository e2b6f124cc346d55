"""Packages that an extra brings, as in `pip install 'mpcify[train]'`: a missing one is a numbered error."""

import importlib.util
import re

from mpcify.errors import MpcifyError

# package: the extra that brings it
EXTRAS = {
    "torch": "train",
    "transformers": "train",
    "accelerate": "train",
    "datasets": "train",
    "spu": "spu",
    "jax": "spu",
    "cryptography": "parties",
    "grpc": "parties",
    "grpc_health": "parties",
    "prometheus_client": "parties",
    "pydantic": "parties",
    "starlette": "parties",
    "uvicorn": "parties",
    "sklearn": "demo",
    "matplotlib": "plot",
}


def require(*packages: str) -> None:
    """Raises MPC-504 for the first package that is not installed; imports none of them."""
    for package in packages:
        try:
            found = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise missing(package)


def missing(package: str) -> MpcifyError:
    """The error for a package that is not installed."""
    return MpcifyError(504, package, "the package is not installed", f"pip install 'mpcify[{EXTRAS[package]}]'")


def explained(error: ImportError) -> MpcifyError | None:
    """The error for an import that failed; None if no extra brings what it lacks."""
    found = re.search(r"No module named '(\w+)", str(error))
    package = (error.name or (found[1] if found else "")).partition(".")[0]
    return missing(package) if package in EXTRAS and isinstance(error, ModuleNotFoundError) else None
