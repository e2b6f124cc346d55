"""Two models on the same examples: where they part, and what hinders a comparison before either runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import BertForSequenceClassification

from mpcify.data.files import Examples
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.about import About, Classification, Regression, Task, TextFacts
from mpcify.measure import evaluate as measure
from tests.makers import LETTERS, make_fast_tokenizer, make_model, write_checkpoint, write_student
from tests.measure.reports import compare, evaluate, examples, logits_of, saved, texts


def test_without_labels_two_models_are_compared_all_the_same(
    classifier: tuple[Path, BertForSequenceClassification], tmp_path: Path
) -> None:
    saved(tmp_path, 3, seed=7)
    items = texts(12)
    labelled = compare(classifier[0], tmp_path, examples(items, [0, 1, 2] * 4))
    with pytest.warns(MpcifyWarning, match="has no labels") as said:
        found = compare(classifier[0], tmp_path, Examples("single", items, None, "a.tsv"))
    assert len(said) == 1
    assert list(found) == list(labelled)
    for name in ("agreement", "by_length", "by_margin"):
        assert found[name] == labelled[name]
    assert (found["mcnemar_p"], found["a"]["accuracy"], found["b"]["accuracy"]) == (None, None, None)
    json.dumps(found, allow_nan=False)


def test_two_models_are_compared_on_the_same_examples(
    classifier: tuple[Path, BertForSequenceClassification], tmp_path: Path
) -> None:
    folder, model = classifier
    other = saved(tmp_path, 3, seed=7)
    items = texts(24)
    labels = logits_of(model, items).argmax(-1)
    found = compare(folder, tmp_path, examples(items, labels.tolist()))
    same = np.mean(logits_of(other, items).argmax(-1) == labels)
    assert list(found) == ["a", "b", "agreement", "mcnemar_p", "by_length", "by_margin"]
    assert found["a"] == {**evaluate(folder, examples(items, labels.tolist())), "cost": found["a"]["cost"]}
    assert (found["a"]["accuracy"], found["b"]["accuracy"], found["agreement"]) == (1.0, same, same)
    assert found["mcnemar_p"] == pytest.approx(stats.binomtest(0, round(24 * (1 - same)), 0.5).pvalue)


def test_models_of_other_labels_are_not_compared(
    classifier: tuple[Path, BertForSequenceClassification], tmp_path: Path
) -> None:
    saved(tmp_path, 2)
    with pytest.raises(MpcifyError, match="MPC-103"):
        compare(classifier[0], tmp_path, examples(["a"], [0]))


def forbidden(done: int) -> None:
    raise AssertionError("a model ran")


@pytest.mark.parametrize(
    "engine, code, said",
    [
        ("ring", 401, "other, layer 0.* no operation .* compare on --engine plain or fixed; or convert"),
        ("spu", 406, "other, the model: .* compare on --engine plain or fixed; or calibrate"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_model_that_the_engine_cannot_run_is_refused_before_the_other_runs(
    tmp_path: Path, engine: str, code: int, said: str, turned: bool
) -> None:
    items = ["a b", "c " * 20]
    student, other = write_student(tmp_path, items), write_checkpoint(tmp_path / "other")
    models = (other, student) if turned else (student, other)
    with pytest.raises(MpcifyError, match=f"MPC-{code} {said}"):
        compare(*models, examples(items, [0, 1]), forbidden, engine=engine, accept_embedding_leak=True)


def test_values_that_overflow_on_the_examples_are_found_before_the_other_runs(
    classifier: tuple[Path, BertForSequenceClassification], tmp_path: Path
) -> None:
    model = saved(tmp_path / "other", 3)
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight *= 1e8
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(MpcifyError, match=r"MPC-402 other, layer 0 .* compare on --engine plain; or"):
        compare(classifier[0], tmp_path / "other", examples(["a b"], [0]), forbidden, engine="fixed")


def test_a_text_too_long_for_the_other_is_found_before_a_model_runs(tmp_path: Path) -> None:
    saved(tmp_path / "first", 2)
    sizes = {"intermediate_size": 24, "max_position_embeddings": 16, "num_labels": 2}
    make_model("bert", width=16, layers=1, vocabulary=len(LETTERS), **sizes).save_pretrained(tmp_path / "second")
    make_fast_tokenizer(LETTERS).save_pretrained(tmp_path / "second")
    with pytest.raises(MpcifyError, match="MPC-106 text 1"):
        compare(tmp_path / "first", tmp_path / "second", examples(["a " * 20], [0]), forbidden)


def judged(task: Task, logits: list[list[float]], buckets: list[int]) -> measure.Evaluation:
    values, facts = np.array(logits), TextFacts(12, 32, True, "right", 32, 2, None)
    about = About("", "m", "bert", task, "exact", "client", facts)
    return measure.Evaluation({}, about, values, np.zeros(len(values)), values, np.array(buckets, np.int64))


def test_a_comparison_says_where_the_answers_part_by_length_and_by_how_sure_the_other_is() -> None:
    task = Classification("classification", ("x", "y"))
    shares = [0.5, 0.74, 0.76, 0.76, 0.96, 0.996, 1.0]  # of x: margins of 0, 0.48, 0.52, 0.52, 0.92, 0.992 and 1
    sure = [[np.log(share), np.log1p(-share)] if share < 1 else [50.0, -50.0] for share in shares]
    ours = [[1, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [0, 1]]
    found = measure.compare(
        judged(task, ours, [16, 16, 32, 16, 32, 32, 64]), judged(task, sure, [16, 16, 16, 16, 16, 16, 16])
    )
    assert found["by_length"] == [
        {"length": 16, "examples": 3, "agreement": pytest.approx(2 / 3)},
        {"length": 32, "examples": 3, "agreement": pytest.approx(2 / 3)},
        {"length": 64, "examples": 1, "agreement": 0.0},
    ]
    assert found["by_margin"] == [
        {"from": 0.0, "to": 0.5, "examples": 2, "agreement": 0.5},
        {"from": 0.5, "to": 0.9, "examples": 2, "agreement": 0.5},
        {"from": 0.9, "to": 0.99, "examples": 1, "agreement": 1.0},
        {"from": 0.99, "to": 1.0, "examples": 2, "agreement": 0.5},
    ]
    json.dumps(found, allow_nan=False)


def test_a_margin_at_the_end_of_a_class_belongs_to_the_next() -> None:
    task = Classification("classification", ("x", "y"))
    one = judged(task, [[np.log(3), 0.0]], [16])  # 0.75 − 0.25, in floats exactly
    assert task.margins(one.logits).tolist() == [0.5]
    assert [row["from"] for row in measure.compare(one, one)["by_margin"]] == [0.5]


def test_regression_is_not_compared_by_margin_and_images_not_by_length() -> None:
    values = [[0.0], [1.0]]
    found = measure.compare(*[judged(Regression("regression", ("x",)), values, [16, 24])] * 2)
    assert list(found) == ["a", "b", "agreement", "mcnemar_p", "by_length"]
    pictures = Classification("image-classification", ("x", "y"), images=True)
    found = measure.compare(*[judged(pictures, [[0, 1], [1, 0]], [])] * 2)
    assert list(found) == ["a", "b", "agreement", "mcnemar_p", "by_margin"]
