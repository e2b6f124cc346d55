"""mpcify infer MODEL TEXT...: private predictions."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcify.cli.options import Cluster, ColumnNames, EngineSettings, RunnableOrNone
from mpcify.cli.verb import Answer, table, verb
from mpcify.engines.cost import line
from mpcify.errors import MpcifyWarning
from mpcify.progress import progress_bar

if TYPE_CHECKING:
    from mpcify.data.files import Examples

Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts, or paths of images.")]
Pairs = Annotated[
    list[str] | None, typer.Option("--pair", metavar="TEXT2", help="The second text of a pair, once a TEXT.")
]
DataFile = Annotated[str | None, typer.Option("--data", metavar="FILE", help="Take the inputs from a file instead.")]


@verb
def infer(
    settings: EngineSettings,
    columns: ColumnNames,
    model: RunnableOrNone = None,
    texts: Texts = None,
    pair: Pairs = None,
    data: DataFile = None,
    cluster: Cluster = None,
) -> Answer:
    """Predict labels for texts, pairs of texts or images, on an engine or by the parties of a cluster."""
    given = list(texts or [])
    if cluster is not None and model is not None:  # there is no MODEL then: what stands first is a text
        given.insert(0, model)
        model = None
    items, examples = inputs(given, pair or [], data, columns)
    settings.check_model(model, cluster)
    from mpcify.inference import SIMULATED
    from mpcify.measure.evaluate import refuse_other_kind

    with settings.open(model, cluster) as private:
        if examples is not None:
            refuse_other_kind(private, examples)
        if private.engine.parties and cluster is None:
            warnings.warn(MpcifyWarning(SIMULATED), stacklevel=2)
        with progress_bar("inputs", len(items)) as advance:
            logits, cost = private(items, advance)
    results = [
        {"input": shown(item), **{key: value for key, value in answer.items() if key != "score"}}
        for item, answer in zip(items, private.about.task.answers(logits), strict=True)
    ]
    values = {
        "model": model or private.about.model,
        "recipe": private.about.recipe,
        "engine": private.engine.name,
        "results": results,
        "cost": cost.to_json(),
    }
    rows = [(result["input"], *answer_cells(result)) for result in results]
    return Answer(values, table(line(cost.to_json()), ("input", "answer", "score"), rows))


def inputs(
    texts: Sequence[str], seconds: Sequence[str], data: str | None, columns: ColumnNames
) -> tuple[list[Any], "Examples | None"]:
    """The inputs that the command line names, one way or the other; and the examples that they are, of a file."""
    if bool(texts) == (data is not None):
        raise typer.BadParameter("give either TEXT or --data FILE")
    if seconds and data is not None:
        raise typer.BadParameter("second texts of a file stand in it", param_hint="--pair")
    columns.refuse_without("--data", data)
    from mpcify.requests.text import check_text

    for index, text in enumerate((*texts, *seconds)):
        check_text(text, f"text {index + 1}")
    if data is not None:
        from mpcify.data.files import read_examples

        examples = read_examples(data, labels=False, **columns.keywords())
        return examples.texts, examples
    if not seconds:
        return list(texts), None
    if len(seconds) != len(texts):
        raise typer.BadParameter(f"{len(texts)} TEXT need as many --pair, not {len(seconds)}")
    return list(zip(texts, seconds, strict=True)), None


def shown(item: Any) -> Any:
    """An input as JSON holds it."""
    return list(item) if isinstance(item, tuple) else str(item)


def answer_cells(result: dict[str, Any]) -> tuple[str, str]:
    """The answer, and how sure it is."""
    if "value" in result:
        return f"{result['value']:.4f}", ""
    return result["label"], f"{result['scores'][result['label']]:.4f}"
