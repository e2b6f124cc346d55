"""JSON that somebody else may have written: what does not make a value is a ValueError, endless nesting included."""

import json
from pathlib import Path
from typing import Any


def parse_json(text: str, **hooks: Any) -> Any:
    """The value in a text. hooks: as of `json.loads`. Raises ValueError."""
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: str | Path) -> Any:
    """The value in a file. Raises OSError, and ValueError."""
    return parse_json(Path(path).read_text(encoding="utf-8"))
