"""Whether a name may be written: asked before minutes of work, not after."""

import os
from pathlib import Path

from mpcify.errors import MpcifyError


def refuse_taken(out: str | Path) -> None:
    """Raises MPC-109 if something stands under the name of a folder that is to be written."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MpcifyError(109, str(out), "something is there already", "name a new folder")


def refuse_unwritable(path: str | Path) -> None:
    """Raises MPC-109 if a file cannot be written under this name."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        what = "it is a folder" if path.is_dir() else "its folder is not there, or you may not write in it"
        raise MpcifyError(109, str(path), what, "name a file in a folder you may write")
