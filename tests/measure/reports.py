"""Small models, examples for them, and the reports of what they answer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertForSequenceClassification

from mpcify.data.files import Examples
from mpcify.lowering.compile import compile
from mpcify.measure import evaluate as measure
from tests.makers import LETTERS, make_fast_tokenizer, make_model


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


def saved(folder: Path, labels: int, seed: int = 0) -> BertForSequenceClassification:
    sizes = {"intermediate_size": 24, "max_position_embeddings": 32, "initializer_range": 0.5}
    model = make_model("bert", width=16, layers=1, vocabulary=len(LETTERS), seed=seed, num_labels=labels, **sizes)
    model.save_pretrained(folder)
    make_fast_tokenizer(LETTERS).save_pretrained(folder)
    return model


def texts(count: int) -> list[str]:
    draw = np.random.default_rng(3)
    return [" ".join(draw.choice(list("abcdefgh"), draw.integers(1, 24))) for _ in range(count)]


def logits_of(model: BertForSequenceClassification, items: list[str]) -> np.ndarray:
    tokenizer = make_fast_tokenizer(LETTERS)
    with torch.no_grad():
        return np.concatenate([model(**tokenizer(item, return_tensors="pt")).logits.numpy() for item in items])


def examples(items: list[Any], labels: list[Any]) -> Examples:
    return Examples("single", items, labels, "a.tsv", tuple(range(2, len(items) + 2)))
