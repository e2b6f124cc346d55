"""Folders with a model in them."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import cached_file

from mpcify.conversion.contents import COMPANIONS
from mpcify.files import new_folder


def beside(source: str | Path, name: str) -> Path | None:
    """A file of a checkpoint, a local folder or a hub name; None if it has none of that name."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        found = cached_file(
            str(source),
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # no name that the hub could have
        return None
    return None if found is None else Path(found)


def copy_companions(source: str | Path, target: Path) -> None:
    """Copies what stands beside a model's weights: tokenizer, or image processor."""
    for name in COMPANIONS:
        path = beside(source, name)
        if path is not None:
            shutil.copyfile(path, target / name)


def keep_companions(model: PreTrainedModel, folder: Path) -> None:
    """Copies the companions of the checkpoint that a model came from, unless the folder has some of its own."""
    if model.name_or_path and not any((folder / name).is_file() for name in COMPANIONS):
        copy_companions(model.name_or_path, folder)


def save(model: PreTrainedModel, out: str | Path, companions: str | Path) -> None:
    """Writes a model and the companions of the checkpoint it came from, all or nothing. Raises MPC-109."""
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        copy_companions(companions, folder)
