"""mpcify evaluate MODEL --data FILE: accuracy, agreement with plain, and cost on an engine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.cli.early import check_runnable
from mpcify.cli.options import Cluster, ColumnNames, Data, EngineSettings, RunnableOrNone
from mpcify.cli.verb import Answer, table, together, verb
from mpcify.engines.cost import line
from mpcify.errors import MpcifyError
from mpcify.progress import progress_bar

Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N examples only.")]
Answers = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Keep answers there as they come; the same command then goes on from them."),
]
Other = Annotated[str | None, typer.Option(metavar="OTHER", help="Another model, on the same examples and engine.")]
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
    """Measure a model on labelled examples, on an engine or by the parties of a cluster."""
    settings.check_model(model, cluster)
    if answers is not None and answers.exists() and not answers.is_dir():
        raise MpcifyError(109, str(answers), "it is not a folder", "name a new folder")
    from mpcify.data.files import read_examples

    if cluster is not None and compare is not None:
        raise typer.BadParameter("--compare needs MODEL: both models run on one engine")
    examples = read_examples(data, limit=limit, **columns.keywords())
    if examples.labels is None:
        raise MpcifyError(103, data, "there is no column label", "add a column label with the right answers")
    if compare is not None:
        check_runnable(compare)
    from mpcify.measure import evaluate as measure

    with progress_bar("examples", len(examples)) as advance:
        with settings.open(model, cluster) as private:
            first = measure.evaluate(private, examples, answers=answers, progress=advance)
        if compare is None:
            report = first.report
            whole = table(heading(report), ("", model or "cluster"), zip(*named_values(report), strict=True))
            return Answer(report, together(whole, *by_length(report)))
        with settings.open(compare, None) as private:
            measure.refuse_other_task(first.about, private.about)
            second = measure.evaluate(private, examples, answers=answers, progress=advance)
    both = measure.compare(first, second)
    names, numbers = named_values(both["a"])
    _, others = named_values(both["b"])
    p = "–" if both["mcnemar_p"] is None else f"{both['mcnemar_p']:.3g}"
    rows = [*zip(names, numbers, others, strict=True), ("equal answers", f"{both['agreement']:.4f}", ""), ("p", p, "")]
    whole = table(heading(both["a"]), ("", model or "cluster", compare), rows)
    return Answer(both, together(whole, *compared(both, compare)))


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


def named_values(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What people read of a report: names, and the value of each."""
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
    return list(found), list(found.values())
