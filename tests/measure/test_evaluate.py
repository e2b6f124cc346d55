"""One metric path for all engines: what `evaluate` reports is what the model and the metrics say."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from transformers import BertForSequenceClassification

from mpcify.conversion.convert import convert
from mpcify.conversion.student import update_config
from mpcify.data.files import Examples
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.about import About, Classification, Regression, Task, TextFacts
from mpcify.lowering.compile import compile
from mpcify.measure import evaluate as measure
from tests.makers import LETTERS, make_fast_tokenizer
from tests.measure.reports import compare, evaluate, examples, logits_of, saved, texts

KEYS = ["model", "recipe", "engine", "protocol", "ring", "examples", "accuracy", "agreement_with_plain"]
KEYS += ["max_logit_error", "by_length", "cost"]


def test_plain_reports_the_accuracy_of_the_model_itself(classifier: tuple[Path, BertForSequenceClassification]) -> None:
    folder, model = classifier
    items, labels = texts(20), [index % 3 for index in range(20)]
    right = np.mean(logits_of(model, items).argmax(-1) == labels)
    done: list[int] = []
    report = evaluate(folder, examples(items, labels), batch=4, progress=done.append)
    assert list(report) == KEYS
    assert report["accuracy"] == right
    assert (report["model"], report["recipe"], report["examples"]) == (folder.name, "exact", 20)
    assert (report["engine"], report["protocol"], report["ring"]) == ("plain", None, None)
    assert (report["agreement_with_plain"], report["max_logit_error"]) == (1.0, 0.0)
    assert report["cost"]["seconds"] > 0
    assert done == sorted(done)
    assert done[-1] == 20
    json.dumps(report, allow_nan=False)


def test_label_names_count_as_the_models_labels(classifier: tuple[Path, BertForSequenceClassification]) -> None:
    folder, model = classifier
    items = texts(6)
    names = [model.config.id2label[number] for number in logits_of(model, items).argmax(-1).tolist()]
    assert evaluate(folder, examples(items, names))["accuracy"] == 1.0


def test_nothing_is_traced_but_the_lengths_of_the_examples(
    classifier: tuple[Path, BertForSequenceClassification],
) -> None:
    with compile(classifier[0], "fixed") as private:
        measure.evaluate(private, examples(["a b c d e f g h " * 3], [0]))
        assert list(private.exported.graphs) == [32]  # type: ignore[attr-defined]


def test_fixed_is_compared_with_plain(classifier: tuple[Path, BertForSequenceClassification]) -> None:
    folder, _ = classifier
    report = evaluate(folder, examples(texts(6), [0] * 6), engine="fixed", ring=64, batch=2)
    with compile(folder, "fixed", batch=2) as private:
        logits, plain = private(texts(6))[0], private.plain(texts(6))
    assert list(report) == [*KEYS[:-1], "tightest", "cost"]
    headroom = [row["headroom_bits"] for row in report["tightest"]]
    assert headroom == sorted(headroom)
    assert not any(row["overflow"] for row in report["tightest"])
    assert report["tightest"][0]["where"]
    assert (report["engine"], report["protocol"], report["ring"]) == ("fixed", None, 64)
    assert report["agreement_with_plain"] == np.mean(logits.argmax(-1) == plain.argmax(-1))
    assert report["max_logit_error"] == np.abs(logits - plain).max() > 0


def test_regression_has_correlations_instead_of_accuracy(tmp_path: Path) -> None:
    model = saved(tmp_path, 1)
    items = texts(8)
    right = [float(index) for index in range(8)]
    report = evaluate(tmp_path, examples(items, right))
    values = logits_of(model, items)[:, 0]
    assert report["accuracy"] is None
    # graph and torch agree to 1e-4 on logits of about 1; a correlation moves no more than that
    assert report["pearson"] == pytest.approx(stats.pearsonr(values, right).statistic, abs=1e-4)
    assert report["spearman"] == pytest.approx(stats.spearmanr(values, right).statistic)


def test_requests_that_leave_the_declared_ranges_are_counted(tmp_path: Path, declare) -> None:
    teacher, folder = saved(tmp_path / "teacher", 2), tmp_path / "student"
    student = convert(teacher, "puma")
    declare(student, tmp_path / "teacher", texts(12))
    student.config.mpcify["ranges"]["logits"]["value"] = [0.0, 0.0]
    student.save_pretrained(folder)
    make_fast_tokenizer(LETTERS).save_pretrained(folder)
    report = evaluate(folder, examples(texts(5), [0, 1, 0, 1, 0]), engine="fixed")
    assert report["outside_ranges"] == 5


@pytest.mark.parametrize(
    "kind, labels, code",
    [("image", [0, 1], 103), ("single", None, 103), ("single", [0, 3], 104), ("single", [0, 0.5], 104)],
)
def test_examples_that_do_not_fit_the_model_are_refused(
    classifier: tuple[Path, BertForSequenceClassification], kind: Any, labels: Any, code: int
) -> None:
    given = Examples(kind, ["a", "b"], labels, "a.tsv")
    with pytest.raises(MpcifyError) as caught:
        evaluate(classifier[0], given)
    assert caught.value.code == code
    if labels is not None:
        with pytest.raises(MpcifyError) as caught:
            compare(classifier[0], classifier[0], given)
        assert caught.value.code == code


def without_cost(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "cost"}


@pytest.mark.parametrize("labels, metrics", [(3, ["accuracy"]), (1, ["accuracy", "pearson", "spearman"])])
def test_without_labels_all_but_the_metrics_is_measured(tmp_path: Path, labels: int, metrics: list[str]) -> None:
    saved(tmp_path, labels)
    items = texts(6)
    with_labels = evaluate(tmp_path, examples(items, [0, 1] * 3), engine="fixed")
    with pytest.warns(MpcifyWarning, match=r"^a\.tsv has no labels: nothing says which answers are right$") as said:
        report = evaluate(tmp_path, Examples("single", items, None, "a.tsv"), engine="fixed")
    assert len(said) == 1
    assert list(report) == list(with_labels)
    unknown = dict.fromkeys(metrics)
    rows = [{**row, **unknown} for row in with_labels["by_length"]]
    assert without_cost(report) == without_cost({**with_labels, **unknown, "by_length": rows})


def test_without_labels_and_weights_there_is_nothing_to_measure() -> None:
    client: Any = StandIn(Classification("classification", ("a", "b")), [[0, 1]], [[0, 0]])
    client.has_weights = False  # as in a client of parties on machines of their own
    with pytest.raises(MpcifyError, match=r"MPC-103 a\.tsv: there are no labels, and no other answers to compare with"):
        measure.evaluate(client, Examples("single", ["x"], None, "a.tsv"))


def test_an_uncalibrated_student_is_a_warning(tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", 2)
    student = convert(teacher, "2quad-freediv")
    for calibrated in (False, True):
        student.config.mpcify = {**student.config.mpcify, "calibrated": calibrated}
        student.save_pretrained(tmp_path / "student")
        make_fast_tokenizer(LETTERS).save_pretrained(tmp_path / "student")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            evaluate(tmp_path / "student", examples(["a b"], [1]))
        ours = [str(item.message) for item in said if issubclass(item.category, MpcifyWarning)]
        assert [("not calibrated" in text) for text in ours] == ([] if calibrated else [True])


def test_answers_that_leave_those_in_floats_are_said_loudly_with_the_layer(
    classifier: tuple[Path, BertForSequenceClassification],
) -> None:
    folder, _ = classifier
    said = r"of 12 answers are not the model's own in floats.*; the error grows most in (embedding|layer \d|head) \("
    with pytest.warns(MpcifyWarning, match=said):
        report = evaluate(folder, examples(texts(12), [0] * 12), engine="fixed", ring=32, fraction_bits=4, force=True)
    assert report["unequal"] > 0
    assert report["agreement_with_plain"] <= 1 - report["unequal"] / 12


def test_a_report_says_how_good_answers_are_by_the_texts_own_lengths(
    classifier: tuple[Path, BertForSequenceClassification],
) -> None:
    folder, model = classifier
    items = ["a b", "a " * 18, "c d e", "b " * 25, "d " * 20]
    buckets = np.array([16, 24, 16, 32, 24])
    answers = logits_of(model, items).argmax(-1)
    labels = np.where([True, False, False, True, False], answers, (answers + 1) % 3)
    for settings in ({}, {"length": 32}, {"length": 32, "batch": 2}):
        report = evaluate(folder, examples(items, labels.tolist()), **settings)
        assert report["by_length"] == [
            {"length": 16, "examples": 2, "accuracy": 0.5, "agreement_with_plain": 1.0, "taught": None},
            {"length": 24, "examples": 2, "accuracy": 0.0, "agreement_with_plain": 1.0, "taught": None},
            {"length": 32, "examples": 1, "accuracy": 1.0, "agreement_with_plain": 1.0, "taught": None},
        ]
        assert report["accuracy"] == 0.4
    assert buckets.tolist() == compile(folder, "plain").buckets(items)


def test_a_report_says_on_how_many_texts_of_a_length_the_student_was_taught(tmp_path: Path) -> None:
    student = convert(saved(tmp_path / "teacher", 2), "2quad-freediv")
    update_config(student, calibrated=True, taught={16: 300, 32: 2})
    student.save_pretrained(tmp_path / "student")
    make_fast_tokenizer(LETTERS).save_pretrained(tmp_path / "student")
    given = examples(["a b", "a " * 18, "a " * 25], [0, 0, 1])
    with pytest.warns(MpcifyWarning, match=r"2 of 3 texts .* on hardly any text of \(buckets 24 and 32\)") as said:
        report = evaluate(tmp_path / "student", given, engine="fixed", force=True)
    assert [(row["length"], row["taught"]) for row in report["by_length"]] == [(16, 300), (24, 0), (32, 2)]
    assert len([item for item in said if "taught" in str(item.message)]) == 1, "though it runs and is compared"


def test_regression_by_length_has_correlations_that_may_not_exist(tmp_path: Path) -> None:
    model = saved(tmp_path, 1)
    items = [*texts(8)[:6], "a " * 28]
    short = [item for item in items if len(item.split()) <= 14]
    report = evaluate(tmp_path, examples(items, [float(index) for index in range(7)]))
    first, *_, last = report["by_length"]
    assert list(first) == ["length", "examples", "accuracy", "pearson", "spearman", "agreement_with_plain", "taught"]
    assert (first["length"], first["examples"], first["accuracy"]) == (16, len(short), None)
    right = [float(items.index(item)) for item in short]
    # graph and torch agree to 1e-4 on logits of about 1; a correlation moves no more than that
    assert first["pearson"] == pytest.approx(stats.pearsonr(logits_of(model, short)[:, 0], right).statistic, abs=1e-4)
    assert (last["length"], last["examples"], last["pearson"], last["spearman"]) == (32, 1, None, None)


def test_a_report_of_images_has_no_lengths(checkpoint: Callable[..., Path]) -> None:
    images = [np.random.default_rng(seed).integers(0, 255, (8, 8, 1), np.uint8) for seed in range(2)]
    report = evaluate(checkpoint("vit", labels=5), Examples("image", images, [0, 1], "a.tsv"))
    assert "by_length" not in report


class StandIn:
    """A model on an engine whose logits are off by what the test says."""

    in_floats, has_weights = False, True
    requests = SimpleNamespace(columns=("sentence", "sentence1", "sentence2"))
    exported = SimpleNamespace(uncalibrated=False, taught_texts=None)
    engine = SimpleNamespace(name="spu", protocol="aby3", ring=64, reports_ranges=False, rules=None)

    def __init__(self, task: Task, plain: list[list[float]], error: list[list[float]]) -> None:
        self.about = About("", "m", "bert", task, "exact", "client", TextFacts(12, 32, True, "right", 32, 2, None))
        self.values, self.error = np.array(plain), np.array(error)

    def __call__(self, items: list[str], progress: Callable[[int], None] | None = None) -> tuple[np.ndarray, Cost]:
        return self.values + self.error, Cost(2.0, 300, 7, {"alice": 100, "bob": 200}, setup=Cost(1.0, 50))

    def buckets(self, items: list[str]) -> list[int]:
        return [16] * len(items)

    def plain(self, items: list[str], observe: Any = None) -> np.ndarray:
        assert observe is None
        return self.values


def test_an_engines_logits_are_judged_and_its_cost_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "grows_at", lambda *_: None)
    private: Any = StandIn(
        Classification("classification", ("a", "b")),
        [[0, 1], [0, 1], [1, 0], [1, 0]],
        [[0, 0], [1.5, 0], [0, -0.25], [0, 0]],
    )
    with pytest.warns(MpcifyWarning, match="1 of 4 answers"):
        report = measure.evaluate(private, examples(["x"] * 4, [1, 1, 1, 0])).report
    assert report["accuracy"] == 0.5
    assert (report["agreement_with_plain"], report["max_logit_error"]) == (0.75, 1.5)
    assert (report["engine"], report["protocol"], report["ring"]) == ("spu", "aby3", 64)
    assert report["cost"]["bytes"] == 300
    assert report["cost"]["setup"]["bytes"] == 50


def test_regression_answers_agree_within_a_fiftieth() -> None:
    private: Any = StandIn(Regression("regression", ("x",)), [[0], [1], [2], [3]], [[0.01], [-0.019], [0.03], [0]])
    report = measure.evaluate(private, examples(["x"] * 4, [0, 1, 2, 3])).report
    assert report["agreement_with_plain"] == 0.75
