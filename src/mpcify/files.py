"""Files and folders that are written whole or not at all, and names that are refused before minutes of work.

Whole means on the disk: the content is flushed before the draft takes its name, and the name after it. Without that, a
machine that loses its power can keep the new name and lose what it stands for; `distill` removes its checkpoints as
soon as OUT is there.
"""

import os
import resource
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpcify.errors import MpcifyError


def refuse_taken(out: str | Path) -> None:
    """Raises MPC-109 if something stands under the name of a folder that is to be written, or it cannot be made."""
    try:
        check_free(Path(out))
    except PermissionError as problem:
        what = problem.strerror or "you may not look there"
        raise MpcifyError(109, str(out), what, "name a folder you may write") from None


def check_free(out: Path) -> None:
    """As `refuse_taken`. Raises PermissionError if one may not look."""
    if out.is_symlink():
        raise MpcifyError(109, str(out), "it is a symbolic link", "name a new folder, or where the link leads")
    holder = next(parent for parent in out.absolute().parents if parent.exists())
    if not holder.is_dir():
        raise MpcifyError(109, str(out), f"{holder} is no folder", "name a folder in one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MpcifyError(109, str(out), "something is there already", "name a new folder")


def is_locked(folder: Path) -> bool:
    """Whether a folder, or one that it is in, may not be entered or read."""
    try:
        folder.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def refuse_unwritable(path: str | Path) -> None:
    """Raises MPC-109 if a file cannot be written under this name."""
    path = Path(path)
    remedy = "name a file in a folder you may write"
    if os.path.exists(path) and not path.is_file():  # a device, say, that a file would take the place of
        raise MpcifyError(109, str(path), "it is a folder" if path.is_dir() else "it is no ordinary file", remedy)
    if not os.path.isdir(path.parent) or not os.access(path.parent, os.W_OK):
        raise MpcifyError(109, str(path), "its folder is not there, or you may not write in it", remedy)


def write_whole(
    path: str | Path, content: str | bytes, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Writes a file (text as UTF-8), in place of the one that is there; if anything fails, that one stays as it is.

    mode: the new file's permissions, less the umask's; an old file's are not kept. owner: its user and group; None:
    this process's. A symbolic link is replaced, not followed. Raises MPC-109.
    """
    target = Path(path)
    refuse_unwritable(target)
    draft = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fsync(file.fileno())
        draft.replace(target)
        flush(target.parent)
    except OSError as problem:
        reason = problem.strerror or "the disk refuses"
        raise MpcifyError(109, str(target), reason, "free some space, or name another file") from problem
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def new_folder(path: str | Path, mode: int = 0o755) -> Iterator[Path]:
    """A folder to fill; it takes its place under `path` when the block ends well, and leaves nothing when it does not.

    mode: the folder's own permissions, once it is in its place; until then only its owner may enter. Raises MPC-109 if
    something is there already, or the disk refuses.
    """
    refuse_taken(path)
    target = Path(path).absolute()  # "." has no name
    made = [parent for parent in target.parents if not parent.exists()]  # the innermost first
    draft = target.with_name(f".{target.name}-{secrets.token_hex(4)}")  # named first: an interrupt may come at any time
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir(mode=0o700)
        except OSError as problem:
            reason = problem.strerror or "no folder can be made"
            raise MpcifyError(109, str(path), reason, "name a folder you may write") from None
        yield draft
        draft.chmod(mode)
        for written in (*draft.rglob("*"), draft):
            flush(written)
        refuse_taken(target)  # another process may have been faster
        draft.rename(target)  # an empty folder gives way
        for holder in (target.parent, *(parent.parent for parent in made)):
            flush(holder)
    except OSError as problem:
        reason = problem.strerror or "the disk refuses"
        raise MpcifyError(109, str(path), reason, "free some space, or name another folder") from problem
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def forbid_core_dumps() -> None:
    """Lets the system write no memory of this process to the disk if it crashes, nor of processes that it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def flush(path: Path) -> None:
    """Returns once a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def at_once(path: str, flags: int) -> int:
    """An opener for `open`: it does not wait for somebody who writes into it if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
