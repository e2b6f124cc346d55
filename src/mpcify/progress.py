"""Progress on stderr: a bar if a person watches, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeAlias

PAUSE = 30.0  # seconds between two lines

Progress: TypeAlias = Callable[[int], None]  # called with how many are done
Stage: TypeAlias = Callable[
    [str, int], AbstractContextManager[Progress]
]  # opens a part of the work: its name, how many


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Progress]:
    """Shows how many of `total` are done; yields what to call with that number."""
    if not sys.stderr.isatty():
        yield lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def lines(what: str, total: int) -> Progress:
    """Writes a line at most every PAUSE seconds, so none if the work is short."""
    last = time.monotonic()

    def advance(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            say(f"{what}: {done} of {total}")

    return advance


def say(line: str) -> None:
    """One line on stderr, whatever the text holds; lost if nobody reads it."""
    with suppress(OSError):
        print(" ".join(line.split()), file=sys.stderr, flush=True)
