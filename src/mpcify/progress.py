"""Progress on stderr: a bar where a person watches, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PAUSE = 30.0  # seconds between two lines


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What to call with how many of `total` are done."""
    if not sys.stderr.isatty():
        yield lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def lines(what: str, total: int) -> Callable[[int], None]:
    """Writes a line at most every PAUSE seconds, so none where the work is short."""
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
