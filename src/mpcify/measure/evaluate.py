"""How good a model's answers are on an engine, and how close to the same model in floats: one metric path for all."""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpcify.data.files import COLUMNS, Examples, check_labels
from mpcify.data.metrics import max_error
from mpcify.engines import engine_named
from mpcify.engines.config import ENGINES
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.about import About, Task
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import RangeRow, headroom
from mpcify.graph.ranges import RangeRecorder, Ranges, merge, outside
from mpcify.inference import PrivateModel
from mpcify.measure.answers import answer
from mpcify.measure.difference import grows_at
from mpcify.progress import Progress

MARGINS = (0.0, 0.5, 0.9, 0.99, 1.0)  # ends of the classes in which a comparison counts; the last is closed
TIGHTEST = 8  # rows of the range report that an evaluation shows


@dataclass(frozen=True)
class Evaluation:
    """What a model answered. logits, plain: (N, labels), on its engine and in floats. labels: the right answers (N,);
    None if nobody knows them.

    plain is None in a client of parties on machines of their own: the weights are not there.

    report: its numbers, a JSON object. about: what is public of the model. buckets: of each example by its own tokens
    (N,), or none at all for images.
    """

    report: dict[str, Any]
    about: About
    logits: np.ndarray
    labels: np.ndarray | None
    plain: np.ndarray | None
    buckets: np.ndarray


def evaluate(
    private: PrivateModel,
    examples: Examples,
    *,
    answers: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Runs a compiled model on examples. progress: is called with how many are done.

    answers: a folder where the answers are kept as they come: the same call goes on from where an earlier one stopped.

    The report has model, recipe, engine, protocol, ring, examples, accuracy (for regression None, and pearson and
    spearman beside it), agreement_with_plain and max_logit_error against the same graphs in floats (None if the weights
    are another party's), the same by length (see `by_length`; absent for images), and the cost of all requests. On an
    engine that reports ranges also tightest, the rows of the range report with the least headroom, and for a model with
    declared ranges outside_ranges, how many examples leave them. If answers differ from those in floats by more than a
    tie, a warning says so, and unequal counts them; grows_at says where the error of the first one grows. Without
    labels the metrics are None, and a warning says so. Raises MPC-103 and MPC-104 if the examples do not fit the model,
    MPC-103 without labels if there are no answers in floats to compare with (on `plain`, and in a client of parties on
    machines of their own), and what its requests raise.
    """
    refuse_other_kind(private, examples)
    if private.in_floats or not private.has_weights:
        refuse_unlabelled(examples, private.has_weights)
    return judged(private, examples, labels_of(examples, private.about.task), answers, progress)


def evaluate_both(
    first: PrivateModel,
    second: PrivateModel,
    examples: Examples,
    *,
    answers: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs two compiled models on the same examples: what `compare` gives. Closes each once it has answered.

    answers, progress: see `evaluate`. No labels are needed. Before either answers, raises MPC-103 if they do not
    predict the same labels, MPC-103 and MPC-104 if the examples do not fit them, and what `check_runs` raises.
    """
    refuse_other_task(first.about, second.about)
    refuse_other_kind(first, examples)
    labels = labels_of(examples, first.about.task)
    for private in (first, second):
        check_runs(private, examples)
    with first:  # two engines of parties at once would take twice the memory
        ours = judged(first, examples, labels, answers, progress)
    with second:
        return compare(ours, judged(second, examples, labels, answers, progress))


def judged(
    private: PrivateModel,
    examples: Examples,
    labels: np.ndarray | None,
    answers: str | Path | None,
    progress: Progress | None,
) -> Evaluation:
    """What a model answers, with its report: see `evaluate`."""
    task = private.about.task
    if private.exported.uncalibrated:
        what = "the student is not calibrated: its answers are far from its teacher's; calibrate or distill it first"
        warnings.warn(MpcifyWarning(what), stacklevel=3)
    logits, cost = answer(private, examples, progress, None if answers is None else Path(answers))
    plain, ranges = in_floats(private, examples, logits)
    buckets = np.asarray(private.buckets(examples.texts), np.int64)
    lengths = {"by_length": by_length(private, buckets, logits, labels, plain)} if len(buckets) else {}
    report = {
        "model": private.about.model,
        "recipe": private.about.recipe,
        "engine": private.engine.name,
        "protocol": private.engine.protocol,
        "ring": private.engine.ring,
        "examples": len(examples),
        **metrics(task, logits, labels),
        "agreement_with_plain": None if plain is None else task.agreement(logits, plain),
        "max_logit_error": None if plain is None else max_error(logits, plain),
        **lengths,
        **ranges,
        "cost": cost.to_json(),
        **differences(private, examples, [] if plain is None else task.unequal(logits, plain)),
    }
    return Evaluation(report, private.about, logits, labels, plain, buckets)


def refuse_other_kind(private: PrivateModel, examples: Examples) -> None:
    """Raises MPC-103 for texts if the model reads images, and the other way round."""
    if not set(COLUMNS[examples.kind]) <= set(private.requests.columns):
        found, wanted = ", ".join(COLUMNS[examples.kind]), " or ".join(private.requests.columns)
        what = f"its column is {found}, the model reads {wanted}"
        raise MpcifyError(103, examples.source, what, "give examples of the model's kind")


def refuse_unlabelled(examples: Examples, comparable: bool = True) -> None:
    """Raises MPC-103 if there are no labels, for a model whose answers nothing else can be compared with.

    comparable: whether another model could run beside it.
    """
    if examples.labels is None:
        what = "there are no labels, and no other answers to compare with"
        remedy = "add a column label with the right answers, or name it: --label-column"
        remedy += "; --compare OTHER needs none" if comparable else ""
        raise MpcifyError(103, examples.source, what, remedy)


def labels_of(examples: Examples, task: Task) -> np.ndarray | None:
    """The labels as a model predicts them (N,); None, with a warning, if there are none. Raises MPC-104."""
    if examples.labels is None:
        what = f"{examples.source} has no labels: nothing says which answers are right"
        warnings.warn(MpcifyWarning(what), stacklevel=3)
        return None
    return np.asarray(check_labels(examples, task.labels).labels)


def metrics(
    task: Task, logits: np.ndarray, labels: np.ndarray | None, there: np.ndarray | slice = slice(None)
) -> dict[str, float | None]:
    """How good the answers at some places are, as JSON: `Task.metrics`, or each of them None without labels."""
    right = np.zeros(len(logits)) if labels is None else labels
    found = task.metrics(logits[there], right[there]).to_json()
    return found if labels is not None else dict.fromkeys(found)


def check_runs(private: PrivateModel, examples: Examples) -> None:
    """Raises what keeps a model from answering examples on its engine. Opens no session, and nothing is shared.

    That is what its requests raise of inputs, and at each of their lengths what its graph and the engine's `compile`
    do; the remedy then names the engines that compile it.
    """
    for group in private.groups(examples.texts):
        graph = private.graph(group.length)
        try:
            private.engine.compile(graph)
            for session in private.proven([group]).values():
                session.close()
        except MpcifyError as error:
            others = [name for name in engines_for(graph) if name != private.engine.name]
            remedy = f"compare on --engine {' or '.join(others)}; or {error.remedy}"
            raise MpcifyError(error.code, f"{private.about.model}, {error.where}", error.what, remedy) from error


def engines_for(graph: Graph) -> list[str]:
    """The engines that compile a graph, in settings of their own."""
    found = []
    for name in ENGINES:
        with suppress(MpcifyError):
            engine_named(name).compile(graph)
            found.append(name)
    return found


def by_length(
    private: PrivateModel, buckets: np.ndarray, logits: np.ndarray, labels: np.ndarray | None, plain: np.ndarray | None
) -> list[dict[str, Any]]:
    """How good answers are in each bucket that occurs, the shortest first.

    length: the bucket. examples: in it. Then the metrics, agreement_with_plain, and taught: how many such texts the
    student was taught on; None if that is not known.
    """
    task, taught = private.about.task, private.exported.taught_texts
    return [
        {
            "length": bucket,
            "examples": len(there),
            **metrics(task, logits, labels, there),
            "agreement_with_plain": None if plain is None else task.agreement(logits[there], plain[there]),
            "taught": None if taught is None else taught.get(bucket, 0),
        }
        for bucket, there in places_of(buckets)
    ]


def places_of(classes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The places of each class that occurs, in the classes' order."""
    return [(found, np.flatnonzero(classes == found)) for found in np.unique(classes).tolist()]


def refuse_other_task(a: About, b: About) -> None:
    """Raises MPC-103 unless two models predict the same labels."""
    if a.task != b.task:
        where = f"{a.model} and {b.model}"
        raise MpcifyError(103, where, "the models have different labels", "compare models of the same task")


def compare(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """How two models answer the same examples.

    a and b: their reports. agreement: the share of equal answers. mcnemar_p: how likely so large a difference in right
    answers is by chance; None for regression, and without labels. by_length: the agreement in each bucket of `a`
    (absent for images). by_margin: the agreement where `b` is so sure of its answer, see `Task.margins` (absent for
    regression). Raises MPC-103 if they do not predict the same labels.
    """
    refuse_other_task(a.about, b.about)
    task = a.about.task

    def agreement(there: np.ndarray) -> dict[str, Any]:
        return {"examples": len(there), "agreement": task.agreement(a.logits[there], b.logits[there])}

    parts: dict[str, Any] = {}
    if len(a.buckets):
        parts["by_length"] = [{"length": bucket, **agreement(there)} for bucket, there in places_of(a.buckets)]
    margins = task.margins(b.logits)
    if margins is not None:
        found = places_of(np.digitize(margins, MARGINS[1:-1]))
        parts["by_margin"] = [
            {"from": MARGINS[place], "to": MARGINS[place + 1], **agreement(there)} for place, there in found
        ]
    return {
        "a": a.report,
        "b": b.report,
        "agreement": task.agreement(a.logits, b.logits),
        "mcnemar_p": None if a.labels is None else task.difference_p(a.logits, b.logits, a.labels),
        **parts,
    }


def differences(private: PrivateModel, examples: Examples, places: list[int]) -> dict[str, Any]:
    """What a report says of answers that are not those in floats, with a warning; nothing if there are none."""
    if not places:
        return {}
    place = grows_at(private, examples.texts[places[0]])
    what = f"{len(places)} of {len(examples)} answers are not the model's own in floats, and no tie explains it"
    grows = "" if place is None else f"; the error grows most in {place}"
    warnings.warn(MpcifyWarning(f"{what}{grows}"), stacklevel=4)
    return {"unequal": len(places), "grows_at": place}


def in_floats(
    private: PrivateModel, examples: Examples, logits: np.ndarray
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The logits of the same graphs in floats, and of an engine that reports ranges what it says.

    logits: the engine's. None in place of those in floats if the weights are not here.
    """
    if private.in_floats:
        return logits, {}
    if not private.has_weights:
        return None, {}
    rules = private.engine.rules
    if rules is None or not private.engine.reports_ranges:
        return private.plain(examples.texts), {}
    left: list[bool] = []
    measured: Ranges = {}
    graphs: list[Graph] = []

    def observe(recorder: RangeRecorder, count: int) -> None:
        left.extend(bool(outside(ranges, recorder.graph.ranges)) for ranges in recorder.requests[:count])
        measured.update(merge(measured, recorder.ranges))
        graphs[:] = [recorder.graph]

    plain = private.plain(examples.texts, observe)
    runs = rules.fit_measured(graphs[0], measured)
    rows = sorted(headroom(runs, runs.ranges, rules), key=lambda row: row.headroom_bits)
    counts = {"outside_ranges": sum(left)} if private.exported.declared else {}
    return plain, {**counts, "tightest": [tight(row) for row in rows[:TIGHTEST]]}


def tight(row: RangeRow) -> dict[str, Any]:
    """A row of the range report, for JSON."""
    names = ("where", "layer", "quantity", "least", "largest", "bound", "headroom_bits", "overflow")
    return {name: getattr(row, name) for name in names}
