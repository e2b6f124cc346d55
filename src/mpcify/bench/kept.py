"""Results of `bench` that are kept, and read again to be compared with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from mpcify.files import write_whole
from mpcify.jsontext import read_json

FORMAT = 1

Row = Mapping[str, Any]


def keep(values: Mapping[str, Any], path: Path) -> None:
    """Writes a result, whole or not at all. Raises MPC-109."""
    write_whole(path, json.dumps({"format": FORMAT, **values}, indent=1) + "\n")


def read_kept(path: str | Path) -> dict[tuple[Any, ...], Row]:
    """The rows of a kept result, by `key_of`.

    Raises MPC-101 if there is no such file, MPC-110 if it is no result of this version.
    """
    try:
        before = read_json(path)
        if before["format"] != FORMAT:
            raise ValueError
        for row in before["rows"]:
            if Cost.from_json(row["cost"]).to_json() != row["cost"]:
                raise ValueError
        return {key_of(row): row for row in before["rows"]}
    except FileNotFoundError:
        raise MpcifyError(101, str(path), "there is no such file", "name a result of mpcify bench") from None
    except (OSError, ValueError, KeyError, TypeError):
        remedy = "make it again with this version: mpcify bench --format json"
        raise MpcifyError(110, str(path), "it is no benchmark's result of this version", remedy) from None


def key_of(row: Row) -> tuple[Any, ...]:
    """What makes two rows comparable."""
    return tuple(row[name] for name in ("recipe", "engine", "protocol", "ring", "length", "batch", "layers"))
