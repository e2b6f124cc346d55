"""Files of examples: what is read, and that anything else is refused with the row."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mpcify.data.files import Examples, check_labels, read_examples
from mpcify.errors import MpcifyError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(file: Any, **options: Any) -> MpcifyError:
    with pytest.raises(MpcifyError) as caught:
        read_examples(file, **options)
    return caught.value


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for `datasets` that knows the set `films`; the calls it got."""
    calls: list[tuple[Any, ...]] = []
    rows = [{"idx": 0, "sentence": "fine", "label": 1}, {"idx": 1, "sentence": "poor", "label": 0}]

    class Data(list[dict[str, Any]]):
        column_names = ("idx", "sentence", "label")

    def load_dataset(name: str, configuration: str | None, split: str | None) -> Any:
        calls.append((name, configuration, split))
        if name != "films":
            raise ConnectionError("no network")
        return Data(rows) if split else {"train": Data(rows), "validation": Data(rows)}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_tsv_is_read_without_quoting(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'sentence\tlabel\n"so-called" fun\t0\nan "unclosed quote\t1\n')
    examples = read_examples(path)
    assert examples.kind == "single"
    assert examples.texts == ['"so-called" fun', 'an "unclosed quote']
    assert examples.labels == [0, 1]
    assert examples.source == str(path)


def test_only_line_feeds_end_a_tsv_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "\ufeffsentence\tlabel\r\none\x0btwo\u2028three\x85four\t0\r\nfive\t1")
    examples = read_examples(path)
    assert examples.texts == ["one\x0btwo\u2028three\x85four", "five"]
    assert examples.labels == [0, 1]


def test_csv_keeps_quoted_commas_and_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'label,sentence1,sentence2\n1,"a, ""b""","c\nd"\n0,e,f\n')
    examples = read_examples(path)
    assert examples.kind == "pair"
    assert examples.texts == [('a, "b"', "c\nd"), ("e", "f")]
    assert examples.where(1) == f"{path} row 2 (line 4)"


def test_jsonl_is_one_object_a_line(tmp_path: Path) -> None:
    rows = [{"sentence": "a\tb", "label": 2, "note": None}, {"sentence": "c", "label": 0.5, "note": 1}]
    path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    examples = read_examples(path)
    assert examples.texts == ["a\tb", "c"]
    assert examples.labels == [2, 0.5]


def test_images_are_paths_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "pictures" / "one.png")
    path = written(tmp_path, "a.tsv", "image\tlabel\npictures/one.png\t3\n")
    examples = read_examples(path)
    assert examples.kind == "image"
    assert examples.texts == [tmp_path / "pictures" / "one.png"]


def test_labels_may_be_absent(tmp_path: Path) -> None:
    assert read_examples(written(tmp_path, "a.tsv", "sentence\nfine\n")).labels is None


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "sentence\tlabel\na\t0\nb\t1\nragged\n")
    assert read_examples(path, limit=2).texts == ["a", "b"]


@pytest.mark.parametrize(
    "name, content, code, where",
    [
        ("a.tsv", "", 108, "a.tsv"),
        ("a.csv", "\n\n", 108, "a.csv"),
        ("a.jsonl", "", 108, "a.jsonl"),
        ("a.tsv", "sentence\tlabel\n", 108, "a.tsv"),
        ("a.tsv", b"sentence\tlabel\nfine\t0\nna\xefve\t1\n", 102, "a.tsv line 3"),
        ("a.tsv", "sentence\tlabel\nfine\t0\nfine\n", 102, "a.tsv line 3"),
        ("a.tsv", "sentence\tlabel\nfine\t0\n\nfine\t1\n", 102, "a.tsv line 3"),
        ("a.csv", 'sentence,label\nfine,0\n"a\nb",1,2\n', 102, "a.csv line 3"),
        ("a.csv", 'sentence,label\n"fine"x,0\n', 102, "a.csv line 2"),
        ("a.csv", 'sentence,label\nfine,0\n"open,0\n', 102, "a.csv line 3"),
        ("a.jsonl", '{"sentence": "a"}\n{"sentence": \n', 102, "a.jsonl line 2"),
        ("a.jsonl", '["a"]\n', 102, "a.jsonl line 1"),
        ("a.jsonl", '{"sentence": "a"}\n{"text": "a"}\n', 102, "a.jsonl row 2 (line 2)"),
        ("a.jsonl", '{"sentence": 7}\n', 102, "a.jsonl row 1 (line 1)"),
        ("a.txt", "sentence\nfine\n", 102, "a.txt"),
        ("a.tsv", "sentence\tlabel\nfine\t0\n \t1\n", 105, "a.tsv row 2 (line 3)"),
        ("a.tsv", "sentence1\tsentence2\nfine\t\n", 105, "a.tsv row 1 (line 2)"),
        ("a.tsv", "sentence\nfine\n\nfine\n", 105, "a.tsv row 2 (line 3)"),
        ("a.tsv", "sentence\tlabel\nfine\t\n", 104, "a.tsv row 1 (line 2)"),
        ("a.jsonl", '{"sentence": "a", "label": true}\n', 104, "a.jsonl row 1 (line 1)"),
        ("a.jsonl", '{"sentence": "a", "label": NaN}\n', 104, "a.jsonl row 1 (line 1)"),
        ("a.tsv", "image\tlabel\ngone.png\t0\n", 107, "a.tsv row 1 (line 2)"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, code: int, where: str
) -> None:
    error = refusal(written(tmp_path, name, content))
    assert error.code == code
    assert error.where == str(tmp_path / where)
    assert "fine" not in str(error)


@pytest.mark.parametrize(
    "header", ["text\tlabel", "sentence1\tlabel", "sentence\timage", "sentence\tsentence", "Sentence"]
)
def test_wrong_columns_are_named_beside_the_expected(tmp_path: Path, header: str) -> None:
    error = refusal(written(tmp_path, "a.tsv", f"{header}\n"))
    assert error.code == 103
    assert f"the columns are {', '.join(header.split())}; expected" in error.what
    assert "sentence | sentence1, sentence2 | image" in error.what


def test_a_file_without_a_header_is_refused_without_quoting_its_first_row(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "a.tsv", "a private matter\t1\n"))
    assert error.code == 103
    assert "the columns are 1 and 1 longer;" in error.what


@pytest.mark.parametrize("name", ["gone.tsv", "gone.txt", "no/such/folder/data", "./gone", "a:b:c:d"])
def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path, hub: list[Any], name: str) -> None:
    assert refusal(name).code == 101
    assert hub == []


def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder.tsv").mkdir()
    assert refusal(tmp_path / "folder.tsv").code == 102


@pytest.mark.parametrize(
    "name, split, call",
    [
        ("films:train", None, ("films", None, "train")),
        ("films", "train", ("films", None, "train")),
        ("films:short:train", None, ("films", "short", "train")),
    ],
)
def test_a_data_set_is_read_by_its_name(hub: list[Any], name: str, split: str | None, call: tuple[Any, ...]) -> None:
    examples = read_examples(name, split=split)
    assert hub == [call]
    assert (examples.texts, examples.labels) == (["fine", "poor"], [1, 0])
    assert examples.where(1) == f"{name} row 2"


def test_a_data_set_with_several_splits_needs_one(hub: list[Any]) -> None:
    error = refusal("films")
    assert error.code == 101
    assert "train, validation" in error.what


def test_a_data_set_that_does_not_load_is_a_missing_file(hub: list[Any]) -> None:
    error = refusal("someone/else:train")
    assert error.code == 101
    assert "ConnectionError" in error.what
    assert ".tsv" in error.remedy


def test_without_datasets_installed_a_name_is_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal("films").code == 101


def labelled(*labels: Any) -> Examples:
    return Examples("single", ["x"] * len(labels), list(labels), "a.tsv", tuple(range(2, len(labels) + 2)))


def test_label_names_become_the_models_numbers() -> None:
    checked = check_labels(labelled("good", 0, "bad"), ["bad", "good"])
    assert checked.labels == [1, 0, 0]
    assert checked.texts == ["x"] * 3


def test_a_number_is_never_taken_for_a_name(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "sentence\tlabel\nfine\t1\n")
    assert check_labels(read_examples(path), ["1", "0"]).labels == [1]


def test_regression_labels_are_decimals() -> None:
    assert check_labels(labelled(3, 0.25), ["score"]).labels == [3.0, 0.25]


@pytest.mark.parametrize(
    "label, names",
    [
        (2, ["bad", "good"]),
        (-1, ["bad", "good"]),
        (1.0, ["bad", "good"]),
        ("fair", ["bad", "good"]),
        ("fair", ["score"]),
    ],
)
def test_labels_outside_the_model_are_refused_with_the_row(label: Any, names: list[str]) -> None:
    with pytest.raises(MpcifyError) as caught:
        check_labels(labelled(0, label), names)
    assert caught.value.code == 104
    assert caught.value.where == "a.tsv row 2 (line 3)"


def test_labels_that_are_needed_and_absent_are_a_missing_column() -> None:
    with pytest.raises(MpcifyError) as caught:
        check_labels(Examples("single", ["x"], None, "a.tsv"), ["bad", "good"])
    assert caught.value.code == 103
