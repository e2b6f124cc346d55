"""mpcify profile MODEL: where a request's time, bytes and rounds go."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.cli.options import EngineSettings, Model
from mpcify.cli.verb import Answer, cost_line, table, verb

Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture: FILE.png or FILE.html.")]


@verb
def profile(model: Model, settings: EngineSettings, plot: Plot = None) -> Answer:
    """Measure a request operation by operation: seconds, bytes, rounds."""
    picture = drawing(plot)
    from mpcify.measure.profile import profile as measure

    found = measure(model, **settings.keywords())
    if plot is not None:
        picture.draw_profile(found, plot)
    return Answer(found.to_json(), kinds_table(found))


def kinds_table(found: Any) -> Any:
    """The kinds of a profile, for people: their sums, and their shares of the time."""
    about = found.about
    total = sum(values["seconds"] for values in found.by_kind().values()) or 1.0
    rows = [
        (
            kind,
            f"{values['seconds']:.3f}",
            f"{100 * values['seconds'] / total:.0f} %",
            f"{values['bytes'] / 1e6:.2f}",
            f"{values['rounds']:.0f}",
        )
        for kind, values in found.by_kind().items()
    ]
    title = f"{about['model']} ({about['recipe']}), {about['engine']}, length {about['length']}, batch {about['batch']}"
    return table(f"{title}\nas one program: {cost_line(found.cost)}", ("kind", "s", "share", "MB", "rounds"), rows)


def drawing(plot: Path | None) -> Any:
    """The module that draws, where a picture is wanted. Raises MPC-901 for another kind of file, MPC-504."""
    if plot is None:
        return None
    if plot.suffix not in (".png", ".html"):
        raise typer.BadParameter(f"{plot.name} is neither .png nor .html", param_hint="--plot")
    from mpcify.measure import picture

    picture.require()
    return picture
