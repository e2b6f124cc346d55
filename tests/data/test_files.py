"""Files of examples: what is read, and that anything else is refused with the row."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mpcify.data.files import Examples, check_labels, read_examples
from mpcify.errors import MpcifyError, MpcifyWarning


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
        ("a.jsonl", '{"sentence": "fine", "label": 1e400}\n', 104, "a.jsonl row 1 (line 1)"),
        ("a.jsonl", '{"sentence": "fine"}\n{"sentence": "fine \\ud800"}\n', 102, "a.jsonl line 2"),
        ("a.jsonl", '{"sentence": "fine", "label": "\\udfff"}\n', 102, "a.jsonl line 1"),
        ("a.jsonl", '{"sentence": "fine", "note": ["\\ud800"]}\n', 102, "a.jsonl line 1"),
        ("a.jsonl", '{"sentence": "fine", "\\ud800": 1}\n', 102, "a.jsonl line 1"),
        ("a.jsonl", '{"sentence": "fine", "sentence": "poor"}\n', 102, "a.jsonl line 1"),
        ("a.jsonl", '{"sentence": "fine"}\n' + "[" * 100_000, 102, "a.jsonl line 2"),
        ("a.jsonl", '{"sentence": "fine\\u0000"}\n', 102, "a.jsonl row 1 (line 1)"),
        ("a.tsv", "sentence\tlabel\nfine\t0\nfi\0ne\t1\n", 102, "a.tsv line 3"),
        ("a.tsv", "sentence\tlabel\rfine\t0\r", 102, "a.tsv"),
        ("a.jsonl", '{"sentence": "fine"}\r{"sentence": "fine"}\r', 102, "a.jsonl"),
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


@pytest.mark.parametrize(
    "name, header, found, own",
    [
        ("a.csv", "sentence;label", "semicolons", "commas"),
        ("a.csv", '"text" ; "label"', "semicolons", "commas"),
        ("a.csv", "sentence\tlabel", "tabs", "commas"),
        ("a.csv", "sentence|label", "bars", "commas"),
        ("a.csv", "Review Text;Sentiment;", "semicolons", "commas"),
        ("a.tsv", "sentence, label", "commas", "tabs"),
    ],
)
def test_another_separator_is_named(tmp_path: Path, name: str, header: str, found: str, own: str) -> None:
    error = refusal(written(tmp_path, name, f"{header}\nfine;1\n"))
    assert error.code == 103
    assert f"separated by {found}, not by {own}" in error.what


@pytest.mark.parametrize(
    "content, kind",
    [
        ("sentence,label\nfine,1\n".encode("utf-16"), "UTF-16"),
        ("sentence,label\nfine,1\n".encode("utf-16-be"), "NUL"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"PAR1\x15\x04\x00\x00PAR1", "Parquet"),
        (b"\x1f\x8b\x08\0", "gzip"),
    ],
)
def test_a_file_of_another_kind_under_a_known_name_is_told_by_what_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    error = refusal(written(tmp_path, "a.csv", content))
    assert error.code == 102
    assert kind in error.what


def test_names_of_columns_may_stand_between_spaces_and_have_none(tmp_path: Path) -> None:
    examples = read_examples(written(tmp_path, "a.csv", ", label, sentence\n0, good, fine\n1,1, poor \n"))
    assert examples.texts == [" fine", " poor "]
    assert examples.labels == [" good", 1]


def test_a_long_field_of_csv_is_read_and_leaves_the_csv_module_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    text = "fine " * 40_000
    assert read_examples(written(tmp_path, "a.csv", f"sentence,label\n{text},1\n")).texts == [text]
    assert csv.field_size_limit() == before


def test_columns_of_other_names_are_read_where_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", '\ufeff,review,sentence,summary,sentiment\n0,"a, b",x,c,pos\n1,d,x,e,neg\n')
    examples = read_examples(path, text_column="review", label_column="sentiment")
    assert (examples.kind, examples.texts, examples.labels) == ("single", ["a, b", "d"], ["pos", "neg"])
    examples = read_examples(path, text_column="review", pair_column="summary")
    assert (examples.kind, examples.texts, examples.labels) == ("pair", [("a, b", "c"), ("d", "e")], None)
    path = written(tmp_path, "b.tsv", "sentence1\tother\na\tb\n")
    assert read_examples(path, pair_column="other").texts == [("a", "b")]


@pytest.mark.parametrize("named", ["text_column", "pair_column", "label_column"])
def test_a_column_that_is_named_and_not_there_is_refused(tmp_path: Path, named: str) -> None:
    error = refusal(written(tmp_path, "a.csv", "sentence,sentence1,label\na,b,0\n"), **{named: "review"})
    assert error.code == 103
    assert "the columns are sentence, sentence1, label; expected review" in error.what


def test_a_column_that_stands_twice_is_refused_though_it_is_named(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "a.csv", "text,text\na,b\n"), text_column="text").code == 103


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.tsv", "sentence\tlabel\nfine\t\npoor\t-1\n"),
        ("a.jsonl", '{"sentence": "fine", "label": true}\n{"sentence": "poor"}\n'),
        ("a.jsonl", '{"sentence": "fine", "label": NaN}\n{"sentence": "poor", "label": [1]}\n'),
    ],
)
def test_labels_that_are_not_needed_may_be_anything(tmp_path: Path, name: str, content: str) -> None:
    path = written(tmp_path, name, content)
    assert read_examples(path, labels=False, label_column="label").texts == ["fine", "poor"]
    assert refusal(path).code == 104


def test_a_label_column_that_is_not_needed_may_be_absent(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "sentence\nfine\n")
    assert read_examples(path, labels=False, label_column="sentiment").labels is None


def test_a_file_without_a_header_is_refused_without_quoting_its_first_row(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "a.tsv", "a private matter\t1\n"))
    assert error.code == 103
    assert "the columns are 1 and 1 longer;" in error.what
    error = refusal(written(tmp_path, "a.tsv", "a private matter, and another one that is far longer\n"))
    assert "the columns are 1 longer;" in error.what


@pytest.mark.parametrize("name", ["gone.tsv", "gone.txt", "no/such/folder/data", "./gone", "a:b:c:d"])
def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path, hub: list[Any], name: str) -> None:
    assert refusal(name).code == 101
    assert hub == []


@pytest.mark.parametrize("name", ["data", "./folder", "folder.d"])
def test_a_file_or_folder_of_another_kind_is_not_looked_for_on_the_hub(
    tmp_path: Path, hub: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("sentence\nfine\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.d").mkdir()
    assert refusal(name).code == 102
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
    checked = check_labels(labelled("good", "bad", " bad "), ["bad", "good"])
    assert checked.labels == [1, 0, 0]
    assert checked.texts == ["x"] * 3


def read_labels(folder: Path, name: str, cells: list[str], names: list[str]) -> list[Any] | str:
    """What a model with these label names makes of a file's cells, or where it refuses them."""
    rows = [f'{{"sentence": "x", "label": {cell}}}' if name.endswith("jsonl") else f"x\t{cell}" for cell in cells]
    path = written(folder, name, "\n".join(rows if name.endswith("jsonl") else ["sentence\tlabel", *rows]) + "\n")
    try:
        return check_labels(read_examples(path), names).labels or []
    except MpcifyError as error:
        return str(error.code) if error.code != 104 else error.where.removeprefix(f"{path} ").partition(" (")[0]


@pytest.mark.filterwarnings("ignore:.*label names, not as numbers")
@pytest.mark.parametrize(
    "cells, names, found",
    [
        (["-1", "0", "1"], ["-1", "0", "1"], [0, 1, 2]),
        (["1", "0"], ["-1", "0", "1"], [2, 1]),
        (["1", "0", "2"], ["-1", "0", "1"], [1, 0, 2]),
        (["5", "1"], ["1", "2", "3", "4", "5"], [4, 0]),
        (["0", "4"], ["1", "2", "3", "4", "5"], [0, 4]),
        (["0", "5"], ["1", "2", "3", "4", "5"], "row 2"),
        (["5", "0"], ["1", "2", "3", "4", "5"], "row 2"),
        (["2019", "2020"], ["2019", "2020"], [0, 1]),
        (["1", "0"], ["LABEL_0", "LABEL_1"], [1, 0]),
        (["1.0", "2.0"], ["1.0", "2.0"], [0, 1]),
    ],
)
def test_a_column_is_read_as_names_if_all_its_cells_are_names_and_else_as_numbers(
    tmp_path: Path, cells: list[str], names: list[str], found: Any
) -> None:
    assert read_labels(tmp_path, "a.tsv", cells, names) == found
    assert read_labels(tmp_path, "a.jsonl", cells, names) == found
    assert read_labels(tmp_path, "b.jsonl", [f'"{cell}"' for cell in cells], names) == found


@pytest.mark.parametrize("names", [["bad", "good"], ["1", "good"]])
@pytest.mark.parametrize("cell", ["1.0", "01", "+1", "1_0", "1e0", "١", "-1", "2", "Good", "true", "9" * 5000])
def test_nothing_but_a_name_or_a_whole_number_is_a_class(tmp_path: Path, cell: str, names: list[str]) -> None:
    assert read_labels(tmp_path, "a.tsv", ["0", cell], names) == "row 2"
    assert read_labels(tmp_path, "a.jsonl", ['"good"', json.dumps(cell)], names) == "row 2"


def test_spellings_that_are_no_numbers_may_be_names(tmp_path: Path) -> None:
    names = ["01", "1", "nan", "true", "1e5"]
    assert read_labels(tmp_path, "a.tsv", names[::-1], names) == [4, 3, 2, 1, 0]


def test_labels_mixed_of_names_and_numbers_are_refused() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-104 .*row 2"):
        check_labels(labelled("good", 0, "bad"), ["bad", "good"])


def test_a_name_that_two_classes_have_is_none() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-104 .*row 2"):
        check_labels(labelled("good", "bad"), ["bad", "good", "bad"])


def test_names_that_could_be_other_numbers_are_a_warning(tmp_path: Path) -> None:
    with pytest.warns(MpcifyWarning, match="as the model's label names"):
        assert read_labels(tmp_path, "a.tsv", ["1", "0"], ["1", "0"]) == [0, 1]


def test_numbers_that_are_not_of_a_file_are_what_the_model_predicts(tmp_path: Path) -> None:
    names = ["1", "0"]
    assert check_labels(labelled(1, 0), names).labels == [1, 0]
    path = written(tmp_path, "a.tsv", "sentence\tlabel\nfine\t1\n")
    with pytest.warns(MpcifyWarning):
        once = check_labels(read_examples(path), names)
    assert once.labels == check_labels(once, names).labels == [0]


@pytest.mark.filterwarnings("ignore:.*label names, not as numbers")
def test_the_classes_of_a_data_set_are_numbers_whatever_their_names(hub: list[Any]) -> None:
    assert check_labels(read_examples("films:train"), ["1", "0"]).labels == [0, 1]
    sys.modules["datasets"].load_dataset = with_classes(sys.modules["datasets"].load_dataset)
    assert check_labels(read_examples("films:train"), ["1", "0"]).labels == [1, 0]


def with_classes(load_dataset: Any) -> Any:
    """The same, but for a label column that is a ClassLabel."""

    def load(*arguments: Any, **options: Any) -> Any:
        data = load_dataset(*arguments, **options)
        data.features = {"sentence": SimpleNamespace(), "label": SimpleNamespace(names=["0", "1"])}
        return data

    return load


def test_regression_labels_are_decimals() -> None:
    assert check_labels(labelled(3, 0.25, "-.5e1", " 7. "), ["score"]).labels == [3.0, 0.25, -5.0, 7.0]


@pytest.mark.parametrize("cell", ["9" * 400, "-" + "9" * 400, "1" * 5000, "1e400", "1e39", "NaN", "Infinity"])
def test_a_number_that_a_float_does_not_hold_is_no_label(tmp_path: Path, cell: str) -> None:
    for name, told in (("a.tsv", cell), ("a.jsonl", cell), ("b.jsonl", f'"{cell}"')):
        assert read_labels(tmp_path, name, ["0.5", told], ["score"]) == "row 2"


@pytest.mark.parametrize(
    "label, names",
    [
        (2, ["bad", "good"]),
        (-1, ["bad", "good"]),
        (1.0, ["bad", "good"]),
        ("fair", ["bad", "good"]),
        ("fair", ["score"]),
        (True, ["bad", "good"]),
        (True, ["score"]),
        (None, ["score"]),
        ("1_000", ["score"]),
        ("٣", ["score"]),
        (10**400, ["score"]),
        (float("nan"), ["score"]),
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
