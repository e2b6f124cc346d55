"""FILE on the command line: its columns, its labels, and what no verb reads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

NUMBERS = {0: "-1", 1: "0", 2: "1"}
TEXTS = ["a good film", "the dull film", "the film is not bad", "not very good", "very bad", "a dull , good film"]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("names", [NUMBERS, {0: "5", 1: "2019", 2: "1.0"}, {0: "bad", 1: " so so ", 2: "good"}])
def test_a_models_own_answers_are_right_whatever_its_labels_are_called(
    mpcify: Callable, checkpoint: Callable, tmp_path: Path, names: dict[int, str]
) -> None:
    model = checkpoint("bert", labels=3, id2label=names, label2id={name: index for index, name in names.items()})
    words = ("--engine", "plain", "--format", "json")
    results = mpcify("infer", model, *TEXTS, *words).json["results"]
    assert {result["label"] for result in results} <= set(names.values())
    rows = [{"sentence": result["input"], "label": result["label"]} for result in results]
    for name, lines in (
        ("own.jsonl", [json.dumps(row) for row in rows]),
        ("own.tsv", ["sentence\tlabel", *(f"{row['sentence']}\t{row['label']}" for row in rows)]),
    ):
        outcome = mpcify("evaluate", model, "--data", written(tmp_path / name, *lines), *words)
        assert (outcome.code, outcome.json["accuracy"]) == (0, 1.0)


def test_numbers_that_are_names_are_read_as_names_and_it_is_said(
    mpcify: Callable, checkpoint: Callable, tmp_path: Path
) -> None:
    model = checkpoint("bert", labels=3, id2label=NUMBERS)
    data = written(tmp_path / "a.tsv", "sentence\tlabel", "a film\t1", "the film\t0")
    outcome = mpcify("evaluate", model, "--data", data, "--engine", "plain")
    assert outcome.err == f"warning: {data}: labels are read as the model's label names, not as numbers from 0\n"


@pytest.mark.parametrize("cell", ["-1", "", "ugly", "7"])
def test_labels_that_a_verb_does_not_use_may_be_anything(
    mpcify: Callable, model: Path, tmp_path: Path, cell: str
) -> None:
    data = written(tmp_path / "a.tsv", "sentence\tlabel", *(f"{text}\t{cell}" for text in TEXTS))
    assert mpcify("infer", model, "--data", data, "--engine", "plain").code == 0
    converted = mpcify("convert", model, tmp_path / "raw", "--recipe", "2quad-freediv", "--calibration", data)
    assert converted.code == 0, converted.err
    used = mpcify("evaluate", model, "--data", data, "--engine", "plain")
    assert (used.code, used.err[:8]) == (2, "MPC-104 ")


def test_distill_goes_on_without_labels_that_are_not_the_models_and_says_so(
    mpcify: Callable, model: Path, tmp_path: Path
) -> None:
    lines = [json.dumps({"sentence": text, "label": None}) for text in TEXTS]
    train = written(tmp_path / "train.jsonl", *lines, '{"sentence": "a film"}')
    held_out = written(tmp_path / "eval.tsv", "sentence\tlabel", "a film\tgood")
    mpcify("convert", model, tmp_path / "raw", "--recipe", "2quad-freediv")
    words = ("--teacher", model, "--train", train, "--eval", held_out, "--epochs", 1, "--device", "cpu")
    outcome = mpcify("distill", tmp_path / "raw", tmp_path / "out", *words, "--format", "json")
    assert outcome.code == 0, outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    what = "the label is none of the model's: no label is used, and the teacher is not checked against them"
    assert said[0] == f"warning: {train} row 1 (line 1): {what}"


def test_every_verb_that_reads_a_file_takes_the_names_of_its_columns(
    mpcify: Callable, model: Path, tmp_path: Path
) -> None:
    rows = [f'{index},"{text}",good' for index, text in enumerate(TEXTS)]
    data = written(tmp_path / "a.csv", "\ufeff,review,sentiment", *rows)
    columns = ("--text-column", "review", "--label-column", "sentiment")
    report = mpcify("evaluate", model, "--data", data, "--engine", "plain", *columns, "--format", "json")
    assert report.json["examples"] == len(TEXTS)
    found = mpcify("infer", model, "--data", data, "--engine", "plain", *columns, "--format", "json")
    assert [result["input"] for result in found.json["results"]] == TEXTS
    raw = tmp_path / "raw"
    assert mpcify("convert", model, raw, "--recipe", "2quad-freediv", "--calibration", data, *columns).code == 0
    words = ("--teacher", model, "--train", data, "--eval", data, "--epochs", 1, "--device", "cpu", *columns)
    result = mpcify("distill", raw, tmp_path / "out", *words, "--format", "json")
    assert set(result.json["student"]) == {"accuracy"}


def test_second_texts_may_stand_in_a_column_of_any_name(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "a.csv", "question,answer", "a film,the film")
    columns = ("--text-column", "question", "--pair-column", "answer")
    found = mpcify("infer", model, "--data", data, "--engine", "plain", *columns, "--format", "json")
    assert [result["input"] for result in found.json["results"]] == [["a film", "the film"]]


@pytest.mark.parametrize(
    "words", [("infer", "MODEL", "a film", "--engine", "plain"), ("convert", "MODEL", "OUT", "--recipe", "puma")]
)
def test_columns_of_no_file_are_wrong_usage(mpcify: Callable, model: Path, tmp_path: Path, words: tuple) -> None:
    places = {"MODEL": model, "OUT": tmp_path / "out"}
    outcome = mpcify(*(places.get(word, word) for word in words), "--text-column", "review")
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-901 ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["infer", "evaluate", "convert", "distill"])
@pytest.mark.parametrize(
    "line", ['{"sentence": "a \\ud800", "label": "good"}', '{"sentence": "a", "label": "\\ud800"}']
)
def test_half_a_surrogate_pair_is_refused_with_its_line_by_every_verb(
    mpcify: Callable, model: Path, tmp_path: Path, verb: str, line: str
) -> None:
    data = written(tmp_path / "a.jsonl", '{"sentence": "a film", "label": "good"}', line)
    words = {
        "infer": (model, "--data", data, "--engine", "plain"),
        "evaluate": (model, "--data", data, "--engine", "plain"),
        "convert": (model, tmp_path / "out", "--recipe", "puma", "--calibration", data),
        "distill": (model, tmp_path / "out", "--teacher", model, "--train", data, "--eval", data),
    }
    outcome = mpcify(verb, *words[verb])
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-102 {data} line 2: ")


@pytest.mark.parametrize("cell", ["9" * 400, "1e400", "NaN", "Infinity", "-" + "9" * 5000])
def test_a_number_beyond_all_floats_is_no_label_of_a_regression(
    mpcify: Callable, checkpoint: Callable, tmp_path: Path, cell: str
) -> None:
    for line in (f'{{"sentence": "a", "label": {cell}}}', f'{{"sentence": "a", "label": "{cell}"}}'):
        data = written(tmp_path / "a.jsonl", '{"sentence": "a film", "label": 0.5}', line)
        outcome = mpcify("evaluate", checkpoint("bert", labels=1), "--data", data, "--engine", "plain")
        assert (outcome.code, outcome.err[:8]) == (2, "MPC-104 ")
        assert "row 2 (line 2)" in outcome.err
