"""Folders that are refused."""

from pathlib import Path

import pytest

from mpcify.conversion.convert import load_model
from mpcify.errors import MpcifyError


def refusal(folder: Path) -> MpcifyError:
    """The error that loading a folder raises."""
    with pytest.raises(MpcifyError) as raised:
        load_model(folder)
    return raised.value
