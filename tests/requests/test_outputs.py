"""Answers from logits."""

import numpy as np
import pytest

from mpcify.requests.outputs import answers


def test_classification_answers_are_softmax_over_the_models_labels() -> None:
    about = {"task": "classification", "labels": ["bad", "fair", "good"]}
    first, second = answers(np.log([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]), about)
    assert (first["label"], second["label"]) == ("good", "bad")
    assert first["score"] == pytest.approx(0.625)
    assert first["scores"] == pytest.approx({"bad": 0.125, "fair": 0.25, "good": 0.625})


def test_large_logits_do_not_overflow() -> None:
    (only,) = answers(np.array([[1e4, 0.0]]), {"task": "image-classification", "labels": ["a", "b"]})
    assert only["scores"] == {"a": 1.0, "b": 0.0}


def test_regression_answers_are_the_value() -> None:
    assert answers(np.array([[2.5], [-1.0]]), {"task": "regression", "labels": ["x"]}) == [
        {"value": 2.5},
        {"value": -1.0},
    ]
