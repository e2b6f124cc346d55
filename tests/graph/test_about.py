"""What is public of a model: its JSON object, and what each task makes of logits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mpcify.errors import MpcifyError
from mpcify.graph.about import About, Classification, ImageFacts, Regression, TextFacts

TEXT = About(
    notice="a notice",
    model="student",
    family="bert",
    task=Classification("classification", ("bad", "fair", "good")),
    recipe="2quad-freediv",
    embeddings="client",
    inputs=TextFacts(30522, 512, True, truncation="right", longest=510, types=2, skipped=None),
)
IMAGE = replace(
    TEXT,
    task=Classification("image-classification", ("a", "b"), images=True),
    embeddings="patches",
    inputs=ImageFacts(3, (16, 24), 8, True, 2, True, 1 / 255, True, (0.4, 0.5, 0.6), 0.5),
)
TAUGHT = replace(TEXT, taught=(16, 32))


def test_classification_answers_are_softmax_over_the_models_labels() -> None:
    first, second = TEXT.task.answers(np.log([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))
    assert (first["label"], second["label"]) == ("good", "bad")
    assert first["score"] == pytest.approx(0.625)
    assert first["scores"] == pytest.approx({"bad": 0.125, "fair": 0.25, "good": 0.625})


def test_large_logits_do_not_overflow() -> None:
    (only,) = IMAGE.task.answers(np.array([[1e4, 0.0]]))
    assert only["scores"] == {"a": 1.0, "b": 0.0}


def test_regression_answers_are_the_value() -> None:
    task = Regression("regression", ("x",))
    assert task.answers(np.array([[2.5], [-1.0]])) == [{"value": 2.5}, {"value": -1.0}]


def test_a_tie_is_not_a_departure() -> None:
    plain = np.array([[0.0, 0.01], [0.0, 1.0], [0.0, 0.021]])
    assert TEXT.task.unequal(plain[:, ::-1], plain) == [1, 2]
    assert TEXT.task.unequal(plain, plain) == []
    assert Regression("regression", ("x",)).unequal(-plain, plain) == []


def test_a_margin_is_the_difference_of_the_two_largest_probabilities() -> None:
    margins = TEXT.task.margins(np.log([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0], [2.0, 1.0, 2.0]]))
    assert margins == pytest.approx([0.375, 0.625, 0.0])
    assert IMAGE.task.margins(np.array([[1e4, 0.0]])) == pytest.approx([1.0])
    assert Regression("regression", ("x",)).margins(np.array([[2.5]])) is None


def test_its_json_object_has_these_fields_in_this_order() -> None:
    assert list(TEXT.to_json().items()) == [
        ("notice", "a notice"),
        ("model", "student"),
        ("family", "bert"),
        ("task", "classification"),
        ("recipe", "2quad-freediv"),
        ("labels", ["bad", "fair", "good"]),
        ("embeddings", "client"),
        ("vocabulary", 30522),
        ("positions", 512),
        ("segments", True),
        ("text", {"truncation": "right", "longest": 510, "types": 2, "skipped": None}),
        ("image", None),
    ]
    image = IMAGE.to_json()
    assert (image["vocabulary"], image["positions"], image["segments"], image["text"]) == (0, 0, False, None)
    assert list(image["image"].items()) == [
        ("channels", 3),
        ("size", [16, 24]),
        ("patch", 8),
        ("do_resize", True),
        ("resample", 2),
        ("do_rescale", True),
        ("rescale", 1 / 255),
        ("do_normalize", True),
        ("mean", [0.4, 0.5, 0.6]),
        ("std", 0.5),
    ]


def test_the_buckets_that_it_was_taught_stand_there_if_they_are_known() -> None:
    assert list(TAUGHT.to_json().items())[-1] == ("taught", [16, 32])
    assert "taught" not in TEXT.to_json(), "as earlier versions wrote it"


@pytest.mark.parametrize("about", [TEXT, IMAGE, TAUGHT, replace(TEXT, task=Regression("regression", ("x",)))])
def test_it_comes_back_from_its_json_object(about: About) -> None:
    assert About.from_json(about.to_json()) == about


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A JSON object with another value at a dotted path."""
    name, _, rest = path.partition(".")
    return {**values, name: changed(values[name], rest, value) if rest else value}


@pytest.mark.parametrize(
    "about, path, value",
    [
        (TEXT, "format", 1),
        (TEXT, "text.format", 1),
        (TEXT, "labels", []),
        (TEXT, "labels", ["a", "a"]),
        (TEXT, "labels", "ab"),
        (TEXT, "labels", [1, 2]),
        (TEXT, "task", "translation"),
        (TEXT, "task", ["classification"]),
        (TEXT, "task", "regression"),
        (TEXT, "task", "image-classification"),
        (TEXT, "embeddings", "patches"),
        (TEXT, "embeddings", None),
        (TEXT, "vocabulary", 0),
        (TEXT, "vocabulary", -3),
        (TEXT, "vocabulary", 3.0),
        (TEXT, "vocabulary", True),
        (TEXT, "positions", 1),
        (TEXT, "segments", 1),
        (TEXT, "text", None),
        (TEXT, "text.truncation", "up"),
        (TEXT, "text.types", 3),
        (TEXT, "text.skipped", -1),
        (TEXT, "model", None),
        (TEXT, "taught", None),
        (TEXT, "taught", []),
        (TEXT, "taught", 16),
        (TEXT, "taught", {"16": 40}),
        (TEXT, "taught", [16.0]),
        (TEXT, "taught", [True]),
        (TEXT, "taught", [0, 16]),
        (TEXT, "taught", [32, 16]),
        (TEXT, "taught", [16, 16]),
        (IMAGE, "taught", [16]),
        (IMAGE, "image", None),
        (IMAGE, "text", {}),
        (IMAGE, "vocabulary", 5),
        (IMAGE, "image.size", [16]),
        (IMAGE, "image.size", "16"),
        (IMAGE, "image.size", 1 << 40),
        (IMAGE, "image.patch", 0),
        (IMAGE, "image.patch", 32),
        (IMAGE, "image.rescale", float("nan")),
        (IMAGE, "image.mean", [0.5, 0.5]),
        (IMAGE, "image.std", 10**400),
        (IMAGE, "image.std", 0),
        (IMAGE, "image.resample", 9),
    ],
)
def test_a_field_that_is_unknown_or_wrong_is_refused(about: About, path: str, value: Any) -> None:
    with pytest.raises(MpcifyError, match="MPC-404 about"):
        About.from_json(changed(about.to_json(), path, value))


@pytest.mark.parametrize("name", list(TEXT.to_json()))
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    values = TEXT.to_json()
    del values[name]
    with pytest.raises(MpcifyError, match=f"MPC-404 about: the field {name} is missing"):
        About.from_json(values)


@pytest.mark.parametrize("values", [None, [], "about", {}])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(MpcifyError, match="MPC-404 about"):
        About.from_json(values)


@pytest.mark.parametrize(
    "change, field",
    [
        ({"size": [4097, 4096]}, "image"),
        ({"mean": [0.5, 0.5, 0.5], "channels": 1, "std": 1.0}, "mean"),
        ({"std": [0.5, 0.5, 0.5], "channels": 1, "mean": 0.0}, "std"),
        ({"std": 1e-39}, "std"),
    ],
)
def test_images_that_no_client_can_make_are_refused(change: dict[str, Any], field: str) -> None:
    """Too many pixels, other channels than the image has, and a divisor that is 0 in float32."""
    values = IMAGE.to_json()
    assert About.from_json(values) == IMAGE
    with pytest.raises(MpcifyError, match=f"MPC-404 .*the field {field} "):
        About.from_json({**values, "image": {**values["image"], **change}})


def test_half_a_character_is_no_label() -> None:
    """JSON may escape it, but nothing could print it."""
    with pytest.raises(MpcifyError, match=r"MPC-404 .*the field labels "):
        About.from_json({**TEXT.to_json(), "labels": ["bad", "fair", "\ud800"]})
