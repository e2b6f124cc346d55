"""Folders with a model in them: written whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import cached_file

from mpcify.conversion.contents import COMPANIONS
from mpcify.errors import MpcifyError
from mpcify.paths import refuse_taken


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill; it takes its place under `path` when the block ends well, and leaves nothing when it does not.

    Raises MPC-109 where something is there already, or the disk refuses.
    """
    target = Path(path)
    refuse_taken(target)
    made = [parent for parent in target.absolute().parents if not parent.exists()]  # the innermost first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as problem:
        raise MpcifyError(
            109, str(target), problem.strerror or "no folder can be made", "name a folder you may write"
        ) from None
    try:
        yield draft
        draft.chmod(0o755)
        if target.is_dir():
            target.rmdir()
        draft.rename(target)
    except OSError as problem:
        reason = problem.strerror or "the disk refuses"
        raise MpcifyError(109, str(target), reason, "free some space, or name another folder") from problem
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


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
