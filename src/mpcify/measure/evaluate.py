"""How good a model's answers are on an engine, and how close to the same model in floats: one metric path for all."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from mpcify.conversion.student import student_config
from mpcify.data.files import COLUMNS, Examples, check_labels
from mpcify.data.metrics import agreement, correct, max_error, mcnemar_p, metrics
from mpcify.engines.fixed.engine import FixedEngine
from mpcify.engines.spu.fit import fit_met
from mpcify.engines.spu.limits import check_ranges
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import RangeRow
from mpcify.graph.ranges import RangeRecorder, Ranges, merge, outside
from mpcify.inference import PrivateModel, compile
from mpcify.measure.answers import answer
from mpcify.measure.difference import grows_at, unequal

Progress = Callable[[int], None]

TIGHTEST = 8  # rows of the range report that an evaluation shows


@dataclass(frozen=True)
class Evaluation:
    """What a model answered. logits, plain: (N, labels), on its engine and in floats. labels: the right answers (N,).

    report: what `evaluate` returns, but for what `told` adds.
    """

    report: dict[str, Any]
    logits: np.ndarray
    labels: np.ndarray
    plain: np.ndarray


def evaluate(
    model: str | Path,
    examples: Examples,
    *,
    engine: str = "plain",
    answers: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Runs a checkpoint on labelled examples. settings: those of `mpcify.compile`. progress: told how many are done.

    answers: a folder where the answers are kept as they come: the same call goes on where an earlier one broke off.

    Returns model, recipe, engine, protocol, ring, examples, accuracy (for regression None, and pearson and spearman
    beside it), agreement_with_plain and max_logit_error against the same graphs in floats, and the cost of all
    requests. On the engine `fixed` also tightest, the rows of the range report with the least headroom, and for a
    student with declared ranges outside_ranges, how many examples leave them. If answers differ from those in floats by
    more than a tie, a warning says so, and unequal counts them; grows_at says where the error of the first one grows.
    Raises MPC-103 and MPC-104 where the examples do not fit the model, and what `compile` and the requests raise.
    """
    with compile(model, engine, **settings) as private:
        return told(private, examples, evaluate_private(private, examples, progress, answers))


def compare(
    model: str | Path,
    other: str | Path,
    examples: Examples,
    *,
    engine: str = "plain",
    answers: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Runs two checkpoints on the same examples and engine.

    Returns a and b (each as `evaluate` does), agreement (the share of equal answers), and mcnemar_p: how likely so
    large a difference in right answers is by chance; None for regression. Raises what `evaluate` raises, and MPC-103
    where the two do not predict the same labels.
    """
    with compile(model, engine, **settings) as private:
        a, about = evaluate_private(private, examples, progress, answers), private.about
        first = told(private, examples, a)
    with compile(other, engine, **settings) as private:
        if private.about["task"] != about["task"] or private.about["labels"] != about["labels"]:
            where = f"{model} and {other}"
            raise MpcifyError(103, where, "the models have different labels", "compare models of the same task")
        b = evaluate_private(private, examples, progress, answers)
        second = told(private, examples, b)
    regression = about["task"] == "regression"
    return {
        "a": first,
        "b": second,
        "agreement": agreement(a.logits, b.logits, regression),
        "mcnemar_p": None if regression else mcnemar_p(correct(a.logits, a.labels), correct(b.logits, b.labels)),
    }


def evaluate_private(
    private: PrivateModel,
    examples: Examples,
    progress: Progress | None = None,
    answers: str | Path | None = None,
) -> Evaluation:
    """Evaluates a model that is compiled already; see `evaluate`."""
    about, regression = private.about, private.about["task"] == "regression"
    if (examples.kind == "image") != private.images:
        wanted = COLUMNS["image"] if private.images else (*COLUMNS["single"], *COLUMNS["pair"])
        found = ", ".join(COLUMNS[examples.kind])
        what = f"its column is {found}, the model reads {' or '.join(wanted)}"
        raise MpcifyError(103, examples.source, what, "give examples of the model's kind")
    labels = np.asarray(check_labels(examples, about["labels"]).labels)
    warn_uncalibrated(private.student)
    logits, cost = answer(private, examples, progress, None if answers is None else Path(answers))
    plain, counts = (logits, {}) if private.engine.name == "plain" else in_floats(private, examples)
    report = {
        "model": about["model"],
        "recipe": about["recipe"],
        "engine": private.engine.name,
        "protocol": private.engine.protocol,
        "ring": private.engine.ring,
        "examples": len(examples),
        **metrics(logits, labels, regression).to_json(),
        "agreement_with_plain": agreement(logits, plain, regression),
        "max_logit_error": max_error(logits, plain),
        **counts,
        "cost": cost.to_json(),
    }
    return Evaluation(report, logits, labels, plain)


def told(private: PrivateModel, examples: Examples, found: Evaluation) -> dict[str, Any]:
    """An evaluation's report; if answers are not those in floats and no tie explains it, that too, with a warning."""
    wrong = unequal(found.logits, found.plain, private.about["task"] == "regression")
    if not wrong:
        return found.report
    place = grows_at(private, examples.texts[wrong[0]])
    what = f"{len(wrong)} of {len(examples)} answers are not the model's own in floats, and no tie explains it"
    grows = "" if place is None else f"; the error grows most in {place}"
    warnings.warn(MpcifyWarning(f"{what}{grows}"), stacklevel=3)
    return {**found.report, "unequal": len(wrong), "grows_at": place}


def in_floats(private: PrivateModel, examples: Examples) -> tuple[np.ndarray, dict[str, Any]]:
    """The logits of the same graphs in floats, and on the engine `fixed` what the range report says."""
    if not isinstance(private.engine, FixedEngine):
        return private.plain(examples.texts), {}
    left: list[bool] = []
    met: Ranges = {}
    graphs: list[Graph] = []

    def observe(recorder: RangeRecorder, count: int) -> None:
        left.extend(bool(outside(measured, recorder.graph.ranges)) for measured in recorder.requests[:count])
        met.update(merge(met, recorder.ranges))
        graphs[:] = [recorder.graph]

    logits = private.plain(examples.texts, observe)
    runs = fit_met(graphs[0], private.engine.number, met)
    rows = sorted(check_ranges(runs, runs.ranges, private.engine.number), key=lambda row: row.headroom_bits)
    counts = {"outside_ranges": sum(left)} if private.declared else {}
    return logits, {**counts, "tightest": [tight(row) for row in rows[:TIGHTEST]]}


def tight(row: RangeRow) -> dict[str, Any]:
    """A row of the range report, for JSON."""
    names = ("where", "layer", "quantity", "least", "largest", "bound", "headroom_bits", "overflow")
    return {name: getattr(row, name) for name in names}


def warn_uncalibrated(student: PreTrainedModel) -> None:
    """Warns where a student has approximations that `calibrate` would fit, and it has not run."""
    config = student_config(student)
    if any(map(config.recipe.approximates, range(len(config.layers)))) and not config.calibrated:
        warnings.warn(
            MpcifyWarning(
                "the student is not calibrated: its answers are far from its teacher's; calibrate or distill it first"
            ),
            stacklevel=3,
        )
