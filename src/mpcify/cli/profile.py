"""mpcify profile MODEL: where a request's time, bytes and rounds go."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.cli.early import check_plot
from mpcify.cli.options import Cluster, EngineSettings, RunnableOrNone
from mpcify.cli.verb import Answer, table, verb
from mpcify.engines.cost import line
from mpcify.progress import progress_bar

Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture: FILE.png or FILE.html.")]


@verb
def profile(
    settings: EngineSettings, model: RunnableOrNone = None, plot: Plot = None, cluster: Cluster = None
) -> Answer:
    """Measure a request operation by operation: seconds, bytes, rounds."""
    check_plot(plot)
    settings.check_model(model, cluster)
    from mpcify.measure.profile import STEPS
    from mpcify.measure.profile import profile as measure

    with progress_bar("profile", STEPS) as advance, settings.open(model, cluster) as private:
        found = measure(private, advance)
    if plot is not None:
        draw_profile(found, plot)
    return Answer(found.to_json(), parts_table(found))


def parts_table(found: Any) -> Any:
    """The parts of a profile, for people: their sums, and their shares of the time."""
    about = found.about
    total = sum(values["seconds"] for values in found.by_part().values()) or 1.0
    rows = [
        (
            part,
            f"{values['seconds']:.3f}",
            f"{100 * values['seconds'] / total:.0f} %",
            f"{values['bytes'] / 1e6:.2f}",
            f"{values['rounds']:.0f}",
        )
        for part, values in found.by_part().items()
    ]
    title = f"{about['model']} ({about['recipe']}), {about['engine']}, length {about['length']}, batch {about['batch']}"
    return table(f"{title}\nas one program: {line(found.cost)}", ("kind", "s", "share", "MB", "rounds"), rows)


def draw_profile(found: Any, plot: Path) -> None:
    """Draws a profile."""
    from mpcify.measure import picture

    picture.draw_profile(found, plot)
