"""Reports of models that the tests evaluate."""

from pathlib import Path
from typing import Any

from mpcify.data.files import Examples
from mpcify.lowering.compile import compile
from mpcify.measure import evaluate as measure


def evaluate(model: Path, found: Examples, answers: Path | None = None, progress: Any = None, **settings: Any) -> Any:
    """A model's report: compiled, evaluated and closed."""
    with compile(model, **{"engine": "plain", **settings}) as private:
        return measure.evaluate(private, found, answers=answers, progress=progress).report


def compare(model: Path, other: Path, found: Examples, progress: Any = None, **settings: Any) -> Any:
    """Two models' reports, and how they differ."""
    answers = settings.pop("answers", None)
    first, second = (compile(one, **{"engine": "plain", **settings}) for one in (model, other))
    with first, second:
        return measure.evaluate_both(first, second, found, answers=answers, progress=progress)
