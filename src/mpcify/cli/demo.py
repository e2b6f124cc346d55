"""mpcify demo: the whole way on a small model of our own, in a few minutes and without a download."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.early import PARTIES, TRAINING
from mpcify.cli.verb import Answer, together, verb
from mpcify.engines import DEFAULT, engine_named
from mpcify.extras import require
from mpcify.files import new_folder, refuse_taken, refuse_unwritable, write_whole
from mpcify.progress import progress_bar

Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result there too, as JSON.")]
Keep = Annotated[
    Path | None, typer.Option(metavar="OUT", help="A new folder for the data, the teacher and the student.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Everything drawn by chance comes from it.")]


@verb
def demo(report: Report = None, keep: Keep = None, seed: Seed = 0) -> Answer:
    """Train a teacher on generated reviews, convert and distill it, and answer in private, by three processes too."""
    if report is not None:
        refuse_unwritable(report)
    if keep is not None:
        refuse_taken(keep)
    require(*TRAINING, *PARTIES, "sklearn")
    engine_named(DEFAULT)  # it is installed
    from mpcify.demo.report import parties_line, table
    from mpcify.demo.run import run

    with folder(keep) as place:
        values = run(place, seed=seed, stage=progress_bar)
    if report is not None:
        write_whole(report, json.dumps({"format": 1, **values}, indent=1) + "\n")
    return Answer(values, together(table(values), parties_line(values)))


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """A folder that stays under the name given, or goes."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="mpcify-demo-") as place:
            yield Path(place)
        return
    with new_folder(keep) as place:
        yield place
