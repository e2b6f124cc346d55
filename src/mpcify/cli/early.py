"""What is wrong with a command line for sure, found before torch is imported, which takes up to half a minute."""

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import typer

from mpcify.conversion.contents import ADAPTER, an_adapter, describe_folder
from mpcify.errors import MpcifyError
from mpcify.extras import require
from mpcify.files import is_locked
from mpcify.jsontext import read_json

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
WAIT = 5.0  # seconds for the hub to answer
TRAINING = ("torch", "transformers", "accelerate")
PARTIES = ("cryptography", "grpc", "grpc_health", "pydantic", "prometheus_client")


def check_model(name: str) -> dict[str, Any] | None:
    """The config.json of a local folder, None of a hub name. Raises MPC-201 and 202 for what cannot be a checkpoint.

    Raises MPC-504 if what reads one is not installed.
    """
    folder, config = Path(name), None
    if is_locked(folder):
        raise MpcifyError(202, name, "you may not read it", "run as the user that it belongs to")
    if folder.is_file():
        raise MpcifyError(202, name, "this is a file", "name the folder that holds it")
    if folder.is_dir():
        config = read_config(folder)
    elif not (HUB_NAME.fullmatch(name) and is_in_reach(name)):
        raise MpcifyError(201, name, "no such folder, and no such name on the hub within reach", "check the path")
    require("torch", "transformers")
    return config


def check_runnable(name: str) -> None:
    """Raises what `check_model` raises, unless the name is that of an exported folder, which needs no torch."""
    from mpcify.graph.exported import is_exported

    if not is_exported(name):
        check_model(name)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises MPC-202 for a folder without one, and says what it holds."""
    remedy = "name the folder that save_pretrained wrote"
    if (folder / ADAPTER).is_file():
        raise an_adapter(folder)
    if not (folder / "config.json").is_file():
        raise describe_folder(folder, "config.json")
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        raise MpcifyError(202, str(folder), "config.json cannot be read", remedy) from None
    if not isinstance(config, dict):
        raise MpcifyError(202, str(folder), "config.json holds no JSON object", remedy)
    return config


def is_in_reach(name: str) -> bool:
    """Whether the hub's cache holds a model, or else the hub (or a proxy) can be asked at all."""
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    if any(word.lower().endswith("_proxy") for word in os.environ):
        return True
    hub = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), WAIT).close()
    except OSError:
        return False
    return True


def check_student(name: str) -> None:
    """Raises what `check_model` raises, and MPC-207 for a local checkpoint that was not converted."""
    config = check_model(name)
    if config is not None and config.get("mpcify") is None:
        raise MpcifyError(207, name, "the model is not a student", "convert it first: mpcify convert MODEL OUT")


def check_embeddings(embeddings: str) -> None:
    """Raises MPC-501 for embeddings that are neither of the two."""
    from mpcify.graph.inputs import EMBEDDINGS

    if embeddings not in EMBEDDINGS:
        remedy = f"use {' or '.join(EMBEDDINGS)}"
        raise MpcifyError(501, f"embeddings {embeddings}", "there is no such choice", remedy)


def check_plot(plot: Path | None) -> None:
    """Raises MPC-901 for a picture of another kind, MPC-109 if it cannot be written, MPC-504 without matplotlib."""
    from mpcify.files import refuse_unwritable

    if plot is None:
        return
    if plot.suffix not in (".png", ".html"):
        raise typer.BadParameter(f"{plot.name} is neither .png nor .html", param_hint="--plot")
    refuse_unwritable(plot)
    require("matplotlib")


def check_positive(**numbers: float | None) -> None:
    """Raises MPC-901 for an option that must be a finite number above 0."""
    for name, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise typer.BadParameter(f"{value} is no number above 0", param_hint=f"--{name.replace('_', '-')}")


def check_lengths(lengths: Sequence[int]) -> None:
    """Raises MPC-405 for a length below two tokens."""
    for length in lengths:
        if length < 2:
            raise MpcifyError(405, f"length {length}", "no model takes fewer than 2 tokens", "choose a longer one")
