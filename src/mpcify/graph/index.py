"""The index of an exported folder: what the folder says of itself, and of each file in it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from mpcify.errors import MpcifyError
from mpcify.graph.about import AGAIN, Rule, checked, flag, one_of, whole, wrong_field
from mpcify.graph.graph import parse_strictly

FORMAT = 1
Role = Literal["client", "owner", "helper", "dealer"]
ROLES: tuple[Role, ...] = ("client", "owner", "helper", "dealer")  # of all engines; each has some of them
INDEX = "exported.json"
DIGEST, EXPORT = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Index:
    """What a folder says of itself: see `Exported`.

    export: drawn anew for each export, so that folders of two are not taken for one's (a digest of the weights would
    confirm a guess). files: SHA-256 of each of its other files.
    """

    export: str
    role: Role
    batch: int
    lengths: tuple[int, ...]
    uncalibrated: bool
    public_table: bool
    files: Mapping[str, str]

    @property
    def shared(self) -> tuple[Any, ...]:
        """What is equal in all folders of one export."""
        graphs = [self.files[graph_file(length)] for length in self.lengths]
        return self.export, self.batch, self.lengths, self.uncalibrated, self.public_table, graphs

    def text(self) -> str:
        """The file."""
        values = {**vars(self), "lengths": list(self.lengths), "files": dict(sorted(self.files.items()))}
        return json.dumps({"format": FORMAT, **values}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str, where: Path) -> Self:
        """The index in a file's text. Raises MPC-404 for any other text than an index gives."""
        values = dict(checked(parsed(text, where), FIELDS, str(where)))
        lengths, _ = tuple(values.pop("lengths")), values.pop("format")
        index = cls(lengths=lengths, **values)
        names = set(map(graph_file, lengths))
        if lengths != tuple(sorted(set(lengths))) or not names <= index.files.keys():
            raise wrong_field(str(where), "lengths")
        if index.text() != text:
            raise MpcifyError(404, str(where), "it is not as it was written", AGAIN)
        return index


FIELDS: Mapping[str, Rule] = {
    "format": whole(FORMAT, FORMAT),
    "export": lambda value: isinstance(value, str) and EXPORT.fullmatch(value) is not None,
    "role": one_of(*ROLES),
    "batch": whole(1),
    "lengths": lambda value: isinstance(value, list) and bool(value) and all(map(whole(1, 1 << 20), value)),
    "uncalibrated": flag,
    "public_table": flag,
    "files": lambda value: isinstance(value, dict) and all(map(is_digest, value.values())),
}


def graph_file(length: int) -> str:
    """The file of a length's graph."""
    return f"graph-{length}.json"


def parsed(text: str, path: Path) -> Any:
    """The JSON value in a file's text. Raises MPC-404."""
    try:
        return parse_strictly(text)
    except ValueError:
        refuse(path, "it is not JSON")


def is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def refuse(where: Path, what: str, remedy: str = AGAIN) -> NoReturn:
    """Raises MPC-404 for a folder or a file in it."""
    raise MpcifyError(404, str(where), what, remedy)
