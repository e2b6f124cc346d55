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
    """The parts of a profile, for people: sums, and their shares of the time; what was done ahead stands apart."""
    about, ahead = found.about, found.ahead_by_part()
    parts = found.by_part()
    if ahead is not None:
        parts = {part: {name: values[name] - ahead[part][name] for name in values} for part, values in parts.items()}
    total = sum(values["seconds"] for values in parts.values()) or 1.0
    rows = [
        (
            part,
            f"{values['seconds']:.3f}",
            f"{100 * values['seconds'] / total:.0f} %",
            f"{values['bytes'] / 1e6:.2f}",
            f"{values['rounds']:.0f}",
            *(() if ahead is None else (f"{ahead[part]['seconds']:.3f}", f"{ahead[part]['bytes'] / 1e6:.2f}")),
        )
        for part, values in parts.items()
    ]
    heads = ("kind", "s", "share", "MB", "rounds", *(() if ahead is None else ("s ahead", "MB ahead")))
    title = f"{about['model']} ({about['recipe']}), {about['engine']}, length {about['length']}, batch {about['batch']}"
    return table(f"{title}\nas one program: {line(found.cost)}{sent_by_each(found.cost)}", heads, rows)


def sent_by_each(cost: dict[str, Any]) -> str:
    """A line of what each party sends: during a request, and ahead of it if anything is."""

    def told(values: dict[str, Any]) -> str:
        return ", ".join(f"{name} {count / 1e6:.2f} MB" for name, count in values["bytes_per_party"].items())

    if not cost["bytes_per_party"]:
        return ""
    ahead = f"\nahead by {told(cost['offline'])}" if "offline" in cost else ""
    return f"\nsent by {told(cost.get('online', cost))}{ahead}"


def draw_profile(found: Any, plot: Path) -> None:
    """Draws a profile."""
    from mpcify.measure import picture

    picture.draw_profile(found, plot)
