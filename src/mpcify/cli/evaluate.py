"""mpcify evaluate MODEL --data FILE: accuracy, agreement with plain, and cost on an engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcify.cli.early import check_runnable
from mpcify.cli.options import Cluster, ColumnNames, EngineSettings, RunnableOrNone
from mpcify.cli.verb import Answer, table, together, verb
from mpcify.engines.config import config_named
from mpcify.engines.cost import line
from mpcify.errors import MpcifyError
from mpcify.progress import progress_bar

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

Data = Annotated[
    str,
    typer.Option(metavar="FILE", help="TSV, CSV or JSONL, .txt (a text a line), or name:split of a data set."),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N examples only.")]
Answers = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Keep answers there as they come; the same command then goes on from them."),
]
Other = Annotated[
    str | None,
    typer.Option(metavar="OTHER", help="Another model, on the same examples and engine; no labels are needed."),
]
COLUMNS = {
    "length": "bucket",
    "margin": "margin",
    "examples": "examples",
    "accuracy": "accuracy",
    "pearson": "pearson",
    "spearman": "spearman",
    "agreement_with_plain": "agreement with plain",
    "agreement": "equal answers",
    "taught": "taught on",
}


@verb
def evaluate(
    settings: EngineSettings,
    columns: ColumnNames,
    data: Data,
    model: RunnableOrNone = None,
    limit: Limit = None,
    compare: Other = None,
    answers: Answers = None,
    cluster: Cluster = None,
) -> Answer:
    """Measure a model on examples, on an engine or by the parties of a cluster."""
    settings.check_model(model, cluster)
    if answers is not None and answers.exists() and not answers.is_dir():
        raise MpcifyError(109, str(answers), "it is not a folder", "name a new folder")
    from mpcify.data.files import read_examples
    from mpcify.measure import evaluate as measure

    if cluster is not None and compare is not None:
        raise typer.BadParameter("--compare needs MODEL: both models run on one engine")
    examples = read_examples(data, limit=limit, lines=True, **columns.keywords())
    if compare is not None:
        check_runnable(compare)
    elif cluster is not None or config_named(settings.engine).rules() is None:
        measure.refuse_unlabelled(examples, comparable=cluster is None)
    name = model or "cluster"
    with progress_bar("examples", len(examples)) as advance, settings.open(model, cluster) as private:
        if compare is None:
            report = measure.evaluate(private, examples, answers=answers, progress=advance).report
            rows = named_values(report).items()
            return Answer(report, together(table(heading(report), ("", name), rows), *by_length(report)))
        with open_other(settings, compare) as other:
            both = measure.evaluate_both(private, other, examples, answers=answers, progress=advance)
    whole = table(heading(both["a"]), ("", name, compare), both_values(both))
    return Answer(both, together(whole, *compared(both, compare)))


def open_other(settings: EngineSettings, name: str) -> "PrivateModel":
    """The model to compare with. Its errors name it."""
    try:
        return settings.open(name, None)
    except MpcifyError as error:
        where = error.where if name in error.where else f"{name}, {error.where}"
        raise MpcifyError(error.code, where, error.what, f"{error.remedy}; or compare another model") from error


def both_values(both: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What people read of two reports, joined by name; what only the second has, before the cost."""
    a, b = named_values(both["a"]), named_values(both["b"])
    names = [*(name for name in {**a, **b} if name != "cost"), "cost"]
    p = "–" if both["mcnemar_p"] is None else f"{both['mcnemar_p']:.3g}"
    rows = [(name, a.get(name, "–"), b.get(name, "–")) for name in names]
    return [*rows, ("equal answers", f"{both['agreement']:.4f}", ""), ("p", p, "")]


def by_length(report: dict[str, Any]) -> list[Any]:
    """The table of how good answers are by length; none for images."""
    return [section("by length", rows)] if (rows := report.get("by_length")) else []


def compared(both: dict[str, Any], other: str) -> list[Any]:
    """The tables of equal answers by length, if texts are compared, and by how sure the other is, if answers say it."""
    taught = [row["taught"] for row in both["a"].get("by_length", [])]
    lengths = [{**row, "taught": count} for row, count in zip(both.get("by_length", []), taught, strict=True)]
    margins = [{"margin": f"{row['from']:g} to {row['to']:g}", **row} for row in both.get("by_margin", [])]
    tables = {"by length": lengths, f"by the margin of {other}": margins}
    return [section(title, rows) for title, rows in tables.items() if rows]


def section(title: str, rows: list[dict[str, Any]]) -> Any:
    """A table of rows of a report, without the columns in which nothing stands."""
    names = {name: head for name, head in COLUMNS.items() if any(row.get(name) is not None for row in rows)}
    return table(title, list(names.values()), [[cell(row[name]) for name in names] for row in rows])


def cell(value: Any) -> str:
    """A value of a report."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def heading(report: dict[str, Any]) -> str:
    """What ran."""
    protocol = "" if report["protocol"] is None else f" {report['protocol']}"
    ring = "" if report["ring"] is None else f", ring 2^{report['ring']}"
    return f"{report['examples']} examples, {report['engine']}{protocol}{ring}"


def named_values(report: dict[str, Any]) -> dict[str, str]:
    """What people read of a report, by name."""
    found = {"recipe": report["recipe"]}
    for name in ("accuracy", "pearson", "spearman", "agreement_with_plain"):
        if report.get(name) is not None:
            found[name.replace("_", " ")] = f"{report[name]:.4f}"
    if report["max_logit_error"] is not None:
        found["max logit error"] = f"{report['max_logit_error']:.1e}"
    if "outside_ranges" in report:
        found["outside declared ranges"] = str(report["outside_ranges"])
    for row in report.get("tightest", [])[:1]:
        found["least headroom"] = f"{row['headroom_bits']:.1f} bits, {row['where']} {row['quantity']}"
    found["cost"] = line(report["cost"])
    return found
