"""mpcify infer and evaluate: answers, and inputs that are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file


def test_answers_have_a_label_and_the_probability_of_each(mpcify: Callable, model: Path) -> None:
    outcome = mpcify("infer", model, "a good film", "not bad", "--engine", "plain", "--format", "json")
    answer = outcome.json
    assert outcome.code == 0
    assert list(answer) == ["format", "model", "recipe", "engine", "results", "cost"]
    assert [result["input"] for result in answer["results"]] == ["a good film", "not bad"]
    for result in answer["results"]:
        assert set(result) == {"input", "label", "scores"}
        assert sum(result["scores"].values()) == pytest.approx(1)
        assert result["label"] == max(result["scores"], key=result["scores"].get)


def test_people_get_the_same_as_a_table(mpcify: Callable, model: Path) -> None:
    outcome = mpcify("infer", model, "a good film", "--engine", "plain")
    assert "a good film" in outcome.out
    assert "good" in outcome.out or "bad" in outcome.out


def test_pairs_go_in_together(mpcify: Callable, model: Path) -> None:
    arguments = ("a film", "--pair", "the film", "--engine", "plain", "--format", "json")
    results = mpcify("infer", model, *arguments).json["results"]
    assert [result["input"] for result in results] == [["a film", "the film"]]
    alone = mpcify("infer", model, "a film", "--engine", "plain", "--format", "json").json["results"]
    assert results[0]["scores"] != alone[0]["scores"]


def test_inputs_from_a_file_need_no_labels(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"sentence": "a film"}\n{"sentence": "the film"}\n')
    outcome = mpcify("infer", model, "--data", tmp_path / "texts.jsonl", "--engine", "plain", "--format", "json")
    assert [result["input"] for result in outcome.json["results"]] == ["a film", "the film"]


def test_a_regression_answers_with_a_value(mpcify: Callable, checkpoint: Callable) -> None:
    folder = checkpoint("bert", labels=1)
    results = mpcify("infer", folder, "a film", "--engine", "plain", "--format", "json").json["results"]
    assert [set(result) for result in results] == [{"input", "value"}]


def test_images_go_in_by_path(mpcify: Callable, checkpoint: Callable, tmp_path: Path) -> None:
    folder, path = checkpoint("vit"), tmp_path / "image.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    outcome = mpcify("infer", folder, path, "--engine", "plain", "--format", "json")
    assert outcome.json["results"][0]["input"] == str(path)


def test_evaluate_reports_accuracy_agreement_and_cost(mpcify: Callable, model: Path, data: Path) -> None:
    outcome = mpcify("evaluate", model, "--data", data, "--engine", "plain", "--limit", 5, "--format", "json")
    report = outcome.json
    expected = {"format": 1, "recipe": "exact", "engine": "plain", "protocol": None, "ring": None, "examples": 5}
    assert {key: report[key] for key in expected} == expected
    assert (report["agreement_with_plain"], report["max_logit_error"]) == (1.0, 0.0)
    assert set(report["cost"]) >= {"seconds", "bytes", "bytes_per_party", "rounds"}
    answers = mpcify("infer", model, "--data", data, "--engine", "plain", "--format", "json").json["results"]
    right = [line.split("\t")[1] for line in data.read_text().splitlines()[1:]]
    found = [answer["label"] for answer in answers]
    assert report["accuracy"] == np.mean([a == b for a, b in zip(found[:5], right, strict=False)])


def test_evaluate_in_fixed_point_says_which_ring(mpcify: Callable, model: Path, data: Path) -> None:
    report = mpcify("evaluate", model, "--data", data, "--engine", "fixed", "--format", "json").json
    assert (report["engine"], report["ring"]) == ("fixed", 64)
    assert 0 < report["max_logit_error"] < 2e-2


def test_a_private_evaluation_counts_what_is_sent(mpcify: Callable, model: Path, data: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    assert mpcify("convert", model, student, "--recipe", "2quad-freediv", "--calibration", data).code == 0
    arguments = ("evaluate", student, "--data", data, "--engine", "spu", "--limit", 2, "--format", "json")
    outcome = mpcify(*arguments, "--accept-embedding-leak")
    report = outcome.json
    assert (outcome.code, outcome.err) == (0, "")
    assert (report["engine"], report["protocol"], report["ring"]) == ("spu", "aby3", 64)
    assert report["agreement_with_plain"] == 1
    assert report["max_logit_error"] < 2e-2
    cost = report["cost"]
    assert cost["bytes"] == sum(cost["bytes_per_party"].values()) > 0
    assert cost["rounds"] > 0
    assert "table is not recorded as public" in mpcify(*arguments).err


def test_two_models_are_compared_on_the_same_examples(mpcify: Callable, model: Path, data: Path) -> None:
    outcome = mpcify("evaluate", model, "--data", data, "--engine", "plain", "--compare", model, "--format", "json")
    assert (outcome.json["agreement"], outcome.json["mcnemar_p"]) == (1.0, 1.0)
    assert outcome.json["a"]["accuracy"] == outcome.json["b"]["accuracy"]


@pytest.fixture
def student(mpcify: Callable, model: Path, data: Path, tmp_path: Path) -> Path:
    """A student of the model, with declared ranges."""
    assert mpcify("convert", model, tmp_path / "student", "--recipe", "2quad-freediv", "--calibration", data).code == 0
    return tmp_path / "student"


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of tables, by their first cell."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {name: values for name, *values in cells}


def test_rows_that_only_one_of_two_models_has_are_shown_all_the_same(
    mpcify: Callable, model: Path, student: Path, data: Path
) -> None:
    arguments = ("--data", data, "--engine", "fixed")
    for first, second, cells in ((student, model, ["0", "–"]), (model, student, ["–", "0"])):
        outcome = mpcify("evaluate", first, *arguments, "--compare", second)
        rows = rows_of(outcome.out)
        assert (outcome.code, rows["outside declared ranges"]) == (0, cells)
        names = list(rows)
        assert names.index("cost") == names.index("equal answers") - 1 > names.index("outside declared ranges")
    both = mpcify("evaluate", student, *arguments, "--compare", model, "--format", "json").json
    assert ("outside_ranges" in both["a"], "outside_ranges" in both["b"]) == (True, False)


def unlabelled(folder: Path, kind: str) -> Path:
    """A file of eight examples without labels."""
    texts = ["a good film", "the dull film", "the film is not bad", "not very good"] * 2
    if kind == "txt":
        path, lines = folder / "requests.txt", ["\ufeff" + texts[0], "", *texts[1:]]
    elif kind == "image":
        for index in range(8):
            pixels = np.random.default_rng(index).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
        path, lines = folder / "requests.tsv", ["image", *(f"{index}.png" for index in range(8))]
    elif kind == "pair":
        path, lines = folder / "requests.tsv", ["sentence1\tsentence2", *(f"{text}\ta film" for text in texts)]
    else:
        path, lines = folder / "requests.tsv", ["sentence", *texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["single", "txt", "pair", "image", "regression"])
def test_two_models_are_compared_without_labels(
    mpcify: Callable, checkpoint: Callable, tmp_path: Path, kind: str
) -> None:
    options = {"labels": 1 if kind == "regression" else 3}
    family = "vit" if kind == "image" else "bert"
    first, second = checkpoint(family, **options), checkpoint(family, name="other", seed=5, **options)
    file = unlabelled(tmp_path, kind)
    arguments = ("evaluate", first, "--data", file, "--engine", "plain", "--compare", second)
    said = f"warning: {file} has no labels: nothing says which answers are right\n"
    text, both = mpcify(*arguments), mpcify(*arguments, "--format", "json")
    assert (text.code, both.code, text.err, both.err) == (0, 0, said, said)
    rows, report = rows_of(text.out), both.json
    assert not {"accuracy", "pearson", "spearman"} & set(rows)
    assert (rows["p"], report["mcnemar_p"]) == (["–"], None)
    assert ("by length" in rows, "by_length" in report) == ((kind != "image"),) * 2
    assert ("by_margin" in report) == (kind != "regression")
    metrics = ["accuracy", "pearson", "spearman"] if kind == "regression" else ["accuracy"]
    for one in (report["a"], report["b"]):
        assert [one[name] for name in metrics] == [None] * len(metrics)
        assert one["examples"] == 8
    assert mpcify(*arguments, "--limit", 3, "--format", "json").json["a"]["examples"] == 3


def test_labels_are_needed_if_there_is_nothing_else_to_measure(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    for kind in ("single", "txt"):
        file = unlabelled(tmp_path, kind)
        said = f"MPC-103 {file}: there are no labels, and no other answers to compare with"
        for arguments in ((model, "--engine", "plain"), ("--cluster", tmp_path / "client")):
            outcome = mpcify("evaluate", *arguments, "--data", file)
            assert (outcome.code, outcome.out, outcome.err.startswith(said)) == (2, "", True)
        outcome = mpcify("evaluate", model, "--data", file, "--engine", "fixed", "--format", "json")
        assert (outcome.code, outcome.json["accuracy"], outcome.json["agreement_with_plain"]) == (0, None, 1.0)
        assert outcome.err == f"warning: {file} has no labels: nothing says which answers are right\n"
        people = rows_of(mpcify("evaluate", model, "--data", file, "--engine", "fixed").out)
        assert ("agreement with plain" in people, "accuracy" in people) == (True, False)


@pytest.mark.parametrize(
    "kind, option", [("single", "--label-column"), ("txt", "--label-column"), ("txt", "--text-column")]
)
def test_a_column_that_is_named_must_be_there(
    mpcify: Callable, model: Path, tmp_path: Path, kind: str, option: str
) -> None:
    arguments = ("--data", unlabelled(tmp_path, kind), option, "gone", "--engine", "plain", "--compare", model)
    outcome = mpcify("evaluate", model, *arguments)
    assert (outcome.code, outcome.out, outcome.err[:8]) == (2, "", "MPC-103 ")


def test_lines_of_text_are_not_for_a_model_that_reads_images(
    mpcify: Callable, checkpoint: Callable, tmp_path: Path
) -> None:
    folder = checkpoint("vit")
    file = unlabelled(tmp_path, "txt")
    outcome = mpcify("evaluate", folder, "--data", file, "--engine", "plain", "--compare", folder)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-103 {file}: its column is sentence, the model reads image")


@pytest.mark.parametrize(
    "engine, options, said",
    [
        ("ring", {}, "MPC-401 other, layer 0 "),
        ("spu", {}, "MPC-406 other, the model: it declares no ranges"),
        ("fixed", {"hidden_act": "silu"}, "MPC-303 {other}, recipe: the model's own activation 'silu'"),
        ("fixed", {"id2label": {0: "no", 1: "yes"}}, "MPC-103 student and other: the models have different labels"),
    ],
)
def test_models_that_cannot_be_compared_are_refused_before_one_runs(
    mpcify: Callable,
    checkpoint: Callable,
    student: Path,
    data: Path,
    tmp_path: Path,
    engine: str,
    options: dict,
    said: str,
) -> None:
    other = checkpoint(name="other", **{"labels": 2, "id2label": {0: "bad", 1: "good"}, **options})
    arguments = ("evaluate", student, "--data", data, "--engine", engine, "--accept-embedding-leak")
    outcome = mpcify(*arguments, "--compare", other, "--answers", tmp_path / "kept")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(said.format(other=other))
    assert ("compare on --engine plain or fixed" in outcome.err) == (engine != "fixed")
    assert not (tmp_path / "kept").exists()


def test_people_read_where_a_model_is_right_by_length_and_by_margin(
    mpcify: Callable, model: Path, data: Path, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    assert mpcify("convert", model, student, "--recipe", "2quad-freediv", "--calibration", data).code == 0
    config = json.loads((student / "config.json").read_text())
    config["mpcify"]["taught"] = {"16": 8}  # as if it had seen no piece of them
    (student / "config.json").write_text(json.dumps(config))
    with data.open("a") as file:
        file.write(" ".join(["film"] * 20) + "\tgood\n")
    arguments = ("evaluate", student, "--data", data, "--engine", "plain")
    said = "warning: 1 of 9 texts are of lengths that the student was taught on no text of (bucket 24): "
    alone = mpcify(*arguments)
    assert (alone.code, alone.err.count("\n"), alone.err.startswith(said)) == (0, 1, True)
    lines = [line.split() for line in alone.out.splitlines()]
    assert ["bucket", "examples", "accuracy", "agreement", "with", "plain", "taught", "on"] in lines
    assert [(line[0], line[1], line[-1]) for line in lines if line[:1] in (["16"], ["24"])] == [
        ("16", "8", "8"),
        ("24", "1", "0"),
    ]
    both = mpcify(*arguments, "--compare", model)
    assert (both.code, both.err) == (0, alone.err)
    lines = [line.split() for line in both.out.splitlines()]
    assert ["bucket", "examples", "equal", "answers", "taught", "on"] in lines
    assert ["margin", "examples", "equal", "answers"] in lines
    infer = mpcify("infer", student, "a film", " ".join(["film"] * 20), "--engine", "plain")
    assert infer.err == alone.err.replace("1 of 9", "1 of 2")


def test_a_table_of_lengths_leaves_out_what_is_not_known(mpcify: Callable, model: Path, data: Path) -> None:
    assert "taught" not in mpcify("evaluate", model, "--data", data, "--engine", "plain").out


def test_a_text_too_long_is_cut_only_when_asked_and_it_is_said(mpcify: Callable, model: Path) -> None:
    text = " ".join(["film"] * 100)
    refused = mpcify("infer", model, text, "--engine", "plain")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("MPC-106 text 1: it has 102 tokens, at most 40 fit")
    cut = mpcify("infer", model, text, "--engine", "plain", "--truncate", "--format", "json")
    assert (cut.code, cut.err) == (0, "warning: 1 of 1 texts were cut to fit\n")


FILES = {
    "101": ("nothing.tsv", None),
    "102": ("data.tsv", "sentence\tlabel\na film\tgood\textra\n"),
    "103": ("data.tsv", "text\tlabel\na film\tgood\n"),
    "103 labels": ("data.tsv", "sentence\na film\n"),
    "104": ("data.tsv", "sentence\tlabel\na film\t2\n"),
    "104 name": ("data.tsv", "sentence\tlabel\na film\tugly\n"),
    "105": ("data.tsv", "sentence\tlabel\n  \tgood\n"),
    "108": ("data.tsv", "sentence\tlabel\n"),
    "103 image": ("data.tsv", "image\tlabel\ndata.tsv\tgood\n"),
    "107": ("data.tsv", "image\tlabel\nnothing.png\tgood\n"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_data_is_one_numbered_line(mpcify: Callable, model: Path, tmp_path: Path, case: str) -> None:
    name, text = FILES[case]
    if text is not None:
        (tmp_path / name).write_text(text)
    outcome = mpcify("evaluate", model, "--data", tmp_path / name, "--engine", "plain")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-{case[:3]} ")
    assert "a film" not in outcome.err


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("", "--engine", "plain"), 105),
        (("a film", "--engine", "quantum"), 501),
        (("a film", "--engine", "plain", "--ring", "64"), 501),
        (("a film", "--engine", "fixed", "--ring", "65"), 501),
        (("a film", "--engine", "plain", "--embeddings", "secret"), 501),
        (("a film", "--engine", "plain", "--length", "64"), 405),
        (("a film", "--engine", "spu", "--protocol", "semi2k"), 502),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_request_is_one_numbered_line(mpcify: Callable, model: Path, arguments: tuple, code: int) -> None:
    outcome = mpcify("infer", model, *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-{code} ")


def test_a_file_of_another_kind_than_the_model_reads_is_refused_and_not_quoted(
    mpcify: Callable, model: Path, checkpoint: Callable, tmp_path: Path
) -> None:
    (tmp_path / "texts.tsv").write_text("sentence\na secret film\n")
    Image.new("L", (2, 2)).save(tmp_path / "one.png")
    (tmp_path / "images.tsv").write_text("image\none.png\n")
    for folder, file in ((checkpoint("vit", name="images"), "texts.tsv"), (model, "images.tsv")):
        outcome = mpcify("infer", folder, "--data", tmp_path / file, "--engine", "plain")
        assert (outcome.code, outcome.out, outcome.err[:8]) == (2, "", "MPC-103 ")
        assert "secret" not in outcome.err


def test_second_texts_of_a_file_are_not_given_beside_it(mpcify: Callable, model: Path, data: Path) -> None:
    outcome = mpcify("infer", model, "--data", data, "--pair", "a film", "--engine", "plain")
    assert (outcome.code, outcome.out, outcome.err[:8]) == (2, "", "MPC-901 ")


@pytest.mark.parametrize("verb", ["infer", "check", "evaluate"])
def test_a_text_in_place_of_a_model_is_not_quoted(mpcify: Callable, verb: str) -> None:
    more = {"infer": ("a film",), "check": (), "evaluate": ("--data", "data.tsv")}[verb]
    outcome = mpcify(verb, "a secret film " * 30, *more)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-901 mpcify {verb}: ")
    assert "secret" not in outcome.err


def test_an_unreadable_image(mpcify: Callable, checkpoint: Callable, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"no image")
    outcome = mpcify("infer", checkpoint("vit"), tmp_path / "image.png", "--engine", "plain")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("MPC-107 ")


def test_a_model_without_a_tokenizer(mpcify: Callable, model: Path) -> None:
    for path in model.glob("*token*"):
        path.unlink()
    outcome = mpcify("infer", model, "a film", "--engine", "plain")
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-208 ")


def test_values_that_overflow_the_ring_are_refused_by_layer_unless_forced(
    mpcify: Callable, model: Path, data: Path
) -> None:
    weights = load_file(model / "model.safetensors")
    weights["bert.encoder.layer.1.intermediate.dense.weight"] *= 1e8
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    arguments = ("evaluate", model, "--data", data, "--engine", "fixed", "--format", "json")
    refused = mpcify(*arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("MPC-402 layer 1 ")
    assert mpcify(*arguments, "--force").code == 0


def test_a_simulated_prediction_says_that_it_is_one(mpcify: Callable, model: Path) -> None:
    outcome = mpcify(
        "infer", model, "a film", "--engine", "spu", "--force", "--accept-embedding-leak", "--format", "json"
    )
    assert outcome.code == 0
    assert outcome.json["engine"] == "spu"
    assert "warning: this run simulates all parties on one machine: it protects nothing\n" in outcome.err
    assert "simulates" not in mpcify("infer", model, "a film", "--engine", "plain").err
