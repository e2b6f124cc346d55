"""mpcify bench: recipes side by side on one engine, in one run."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.bench.kept import keep, read_kept
from mpcify.bench.shapes import NAIVE, SHAPES, check_shape
from mpcify.cli.early import check_embeddings, check_lengths, check_plot, read_config
from mpcify.cli.export import integers_in
from mpcify.cli.options import Batch, engine_options
from mpcify.cli.profile import Plot
from mpcify.cli.verb import Answer, table, verb
from mpcify.engines import DEFAULT, engine_named
from mpcify.engines.config import ENGINES, switches
from mpcify.errors import MpcifyError
from mpcify.extras import require
from mpcify.files import refuse_unwritable
from mpcify.progress import progress_bar
from mpcify.recipe import read_recipe

Shape = Annotated[str, typer.Option(metavar="NAME|FOLDER", help="bert-base, bert-large, minilm, or a checkpoint.")]
Recipes = Annotated[str, typer.Option(metavar="R,R…", help="Names or files; naive: JAX's own softmax and GeLU.")]
Engines = Annotated[str, typer.Option("--engine", metavar="E,E…", help=f"{', '.join(reversed(ENGINES))}.")]
Lengths = Annotated[str, typer.Option("--length", metavar="N,N…", help="Tokens.")]
Layers = Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N encoder layers. Default: all.")]
Repeat = Annotated[int, typer.Option(min=1, metavar="N", help="Turns that count.")]
Embeddings = Annotated[str, typer.Option(help="client or one-hot.")]
Rings = Annotated[str, typer.Option("--ring", metavar="BITS,…", help="64 (default), 48, 32, or several.")]
Baseline = Annotated[Path | None, typer.Option(metavar="FILE", help="Compare with an earlier result, as JSON.")]
OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Keep the result there, as JSON.")]


class BenchSettings:
    """The settings of all engines that run: the values of `options`, by their names; of rings there may be several."""

    def __init__(self, ring: str, **values: Any) -> None:
        self.values = values
        self.rings: list[int | None] = [*integers_in(ring, "--ring")] or [None]

    @staticmethod
    def options() -> dict[str, tuple[Any, Any]]:
        """The options by name, each with its default: values before switches."""
        found, permits = engine_options(force="Run though ranges overflow the ring."), switches()
        found["ring"] = Rings, ""
        return dict(sorted(found.items(), key=lambda item: item[0] in permits))


@verb
def bench(
    *,
    shape: Shape = "bert-base",
    recipes: Recipes = "exact-tanh,puma,mpcformer,2quad-freediv,softmax-freediv",
    engine: Engines = DEFAULT,
    length: Lengths = "128",
    layers: Layers = None,
    repeat: Repeat = 3,
    batch: Batch = 1,
    embeddings: Embeddings = "client",
    settings: BenchSettings,
    baseline: Baseline = None,
    plot: Plot = None,
    out: OutFile = None,
) -> Answer:
    """Run recipes in turns and compare what they cost."""
    lengths = integers_in(length)
    names, engines = recipes.split(","), engine.split(",")
    check_bench(shape, names, lengths, layers, plot, out, baseline)
    check_embeddings(embeddings)
    check_engines(engines, settings)
    require("torch", "transformers")
    from mpcify.bench import benchmark
    from mpcify.measure.provenance import provenance

    total = benchmark.steps(lengths, len(names) * len(engines) * len(settings.rings), repeat)
    with progress_bar("bench", total) as advance:
        found = benchmark.bench(
            shape,
            names,
            engines=engines,
            lengths=lengths,
            layers=layers,
            batch=batch,
            repeat=repeat,
            embeddings=embeddings,
            progress=advance,
            rings=settings.rings,
            **settings.values,
        )
    if baseline is not None:
        benchmark.against_earlier(found, baseline)
    values = {**found, **provenance(seed=0)}
    if out is not None:
        keep(values, out)
    if plot is not None:
        from mpcify.measure import picture

        picture.draw({bar(row): row["kinds"] for row in found["rows"]}, heading(found), plot)
    return Answer(values, comparison(found))


def check_bench(
    shape: str,
    recipes: Sequence[str],
    lengths: Sequence[int],
    layers: int | None,
    plot: Path | None,
    out: Path | None,
    baseline: Path | None,
) -> None:
    """Raises what a bench would raise in the end for its arguments alone."""
    if not lengths:
        raise typer.BadParameter("it is empty", param_hint="--length")
    check_lengths(lengths)
    check_shape(shape, layers, max(lengths))
    if shape not in SHAPES:
        read_config(Path(shape))
    for recipe in recipes:
        if recipe != NAIVE:
            read_recipe(recipe)
    check_plot(plot)
    if out is not None:
        refuse_unwritable(out)
    if baseline is not None:
        read_kept(baseline)


def check_engines(engines: Sequence[str], settings: BenchSettings) -> None:
    """Raises what the first engine refuses if none takes its settings: one that does gives rows."""
    refused = []
    for name, ring in product(engines, settings.rings):
        try:
            engine_named(name, ring=ring, **settings.values)
        except MpcifyError as error:
            refused.append(error)
        else:
            return
    raise refused[0]


def heading(found: dict[str, Any]) -> str:
    """What ran."""
    row = found["rows"][0]
    engines = dict.fromkeys(" ".join(filter(None, (row["engine"], row["protocol"]))) for row in found["rows"])
    return f"{found['shape']}, {row['layers']} layers, batch {row['batch']}, {', '.join(engines)}"


def bar(row: dict[str, Any]) -> str:
    """A bar's name."""
    ring = "" if row["ring"] in (None, 64) else f", ring 2^{row['ring']}"
    return f"{row['recipe']}, {row['engine']}, {row['length']} tokens{ring}"


def comparison(found: dict[str, Any]) -> Any:
    """The rows, for people; if an engine works ahead of a request, what is left for its time, too."""
    apart = any("online" in row["cost"] for row in found["rows"])
    measures = ("seconds", *(["online"] if apart else []), "bytes", "rounds", "lan", "wan")
    heads = {"seconds": "× time", "bytes": "× MB"}
    columns = (
        *("recipe", "engine", "ring", "n", "s", "MB", "rounds"),
        *(("s online", "MB online") if apart else ()),
        *(heads.get(name, f"× {name}") for name in measures),
        "total s",
    )
    rows = [
        (
            row["recipe"],
            row["engine"],
            row["ring"] or "–",
            row["length"],
            f"{row['cost']['seconds']:.2f}",
            f"{row['cost']['bytes'] / 1e6:.1f}",
            row["cost"]["rounds"],
            *(online(row["cost"]) if apart else ()),
            *(times(row["ratios"].get(name)) for name in measures),
            f"{row['total']['seconds']:.2f}",
        )
        for row in found["rows"]
    ]
    title = heading(found)
    refused = [f"refused: {entry['recipe']} on {entry['engine']}: {entry['error']}" for entry in found["refused"]]
    against = best(found["rows"][0]["ratios"]["to"])
    return table("\n".join([title, *refused, f"encoder layers; × less than {against}"]), columns, rows)


def online(cost: dict[str, Any]) -> tuple[str, str]:
    """Seconds and MB that are not ahead of the request; dashes if nothing is."""
    rest = cost.get("online")
    return ("–", "–") if rest is None else (f"{rest['seconds']:.2f}", f"{rest['bytes'] / 1e6:.1f}")


def best(to: dict[str, str]) -> str:
    """Which recipe each measure is compared with."""
    names = list(dict.fromkeys(to.values()))
    if len(names) == 1:
        return names[0]
    return "; ".join(f"{name} ({', '.join(key for key, other in to.items() if other == name)})" for name in names)


def times(value: float | None) -> str:
    """A ratio."""
    return "–" if value is None else f"{value:.2f}"
