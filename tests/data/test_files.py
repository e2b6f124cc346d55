"""Files of examples: what is read, and that anything else is refused with the row."""

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mpcify.data.files import Examples, read_examples
from mpcify.data.tables import read_text
from mpcify.errors import MpcifyError
from tests.makers import write_bytes


def refusal(file: Any, **options: Any) -> MpcifyError:
    with pytest.raises(MpcifyError) as caught:
        read_examples(file, **options)
    return caught.value


def test_tsv_is_read_without_quoting(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.tsv", 'sentence\tlabel\n"so-called" fun\t0\nan "unclosed quote\t1\n')
    examples = read_examples(path)
    assert examples.kind == "single"
    assert examples.texts == ['"so-called" fun', 'an "unclosed quote']
    assert examples.labels == [0, 1]
    assert examples.source == str(path)


def test_only_line_feeds_end_a_tsv_line(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.tsv", "\ufeffsentence\tlabel\r\none\x0btwo\u2028three\x85four\t0\r\nfive\t1")
    examples = read_examples(path)
    assert examples.texts == ["one\x0btwo\u2028three\x85four", "five"]
    assert examples.labels == [0, 1]


def test_csv_keeps_quoted_commas_and_line_ends(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.csv", 'label,sentence1,sentence2\n1,"a, ""b""","c\nd"\n0,e,f\n')
    examples = read_examples(path)
    assert examples.kind == "pair"
    assert examples.texts == [('a, "b"', "c\nd"), ("e", "f")]
    assert examples.where(1) == f"{path} row 2 (line 4)"


def test_jsonl_is_one_object_a_line(tmp_path: Path) -> None:
    rows = [{"sentence": "a\tb", "label": 2, "note": None}, {"sentence": "c", "label": 0.5, "note": 1}]
    path = write_bytes(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    examples = read_examples(path)
    assert examples.texts == ["a\tb", "c"]
    assert examples.labels == [2, 0.5]


def test_images_are_paths_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "pictures" / "one.png")
    path = write_bytes(tmp_path, "a.tsv", "image\tlabel\npictures/one.png\t3\n")
    examples = read_examples(path)
    assert examples.kind == "image"
    assert examples.texts == [tmp_path / "pictures" / "one.png"]


def test_labels_may_be_absent(tmp_path: Path) -> None:
    assert read_examples(write_bytes(tmp_path, "a.tsv", "sentence\nfine\n")).labels is None


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.tsv", "sentence\tlabel\na\t0\nb\t1\nragged\n")
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
    error = refusal(write_bytes(tmp_path, name, content))
    assert error.code == code
    assert error.where == str(tmp_path / where)
    assert "fine" not in str(error)


@pytest.mark.parametrize(
    "header", ["text\tlabel", "sentence1\tlabel", "sentence\timage", "sentence\tsentence", "Sentence"]
)
def test_wrong_columns_are_named_beside_the_expected(tmp_path: Path, header: str) -> None:
    error = refusal(write_bytes(tmp_path, "a.tsv", f"{header}\n"))
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
    error = refusal(write_bytes(tmp_path, name, f"{header}\nfine;1\n"))
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
def test_a_file_of_another_kind_under_a_known_name_is_named_by_what_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    error = refusal(write_bytes(tmp_path, "a.csv", content))
    assert error.code == 102
    assert kind in error.what


def test_names_of_columns_may_stand_between_spaces_and_have_none(tmp_path: Path) -> None:
    examples = read_examples(write_bytes(tmp_path, "a.csv", ", label, sentence\n0, good, fine\n1,1, poor \n"))
    assert examples.texts == [" fine", " poor "]
    assert examples.labels == [" good", 1]


def test_a_long_field_of_csv_is_read_and_leaves_the_csv_module_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    text = "fine " * 40_000
    assert read_examples(write_bytes(tmp_path, "a.csv", f"sentence,label\n{text},1\n")).texts == [text]
    assert csv.field_size_limit() == before


def test_columns_of_other_names_are_read_if_they_are_named(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.csv", '\ufeff,review,sentence,summary,sentiment\n0,"a, b",x,c,pos\n1,d,x,e,neg\n')
    examples = read_examples(path, text_column="review", label_column="sentiment")
    assert (examples.kind, examples.texts, examples.labels) == ("single", ["a, b", "d"], ["pos", "neg"])
    examples = read_examples(path, text_column="review", pair_column="summary")
    assert (examples.kind, examples.texts, examples.labels) == ("pair", [("a, b", "c"), ("d", "e")], None)
    path = write_bytes(tmp_path, "b.tsv", "sentence1\tother\na\tb\n")
    assert read_examples(path, pair_column="other").texts == [("a", "b")]


@pytest.mark.parametrize("named", ["text_column", "pair_column", "label_column"])
def test_a_column_that_is_named_and_not_there_is_refused(tmp_path: Path, named: str) -> None:
    error = refusal(write_bytes(tmp_path, "a.csv", "sentence,sentence1,label\na,b,0\n"), **{named: "review"})
    assert error.code == 103
    assert "the columns are sentence, sentence1, label; expected review" in error.what


def test_a_column_that_stands_twice_is_refused_though_it_is_named(tmp_path: Path) -> None:
    assert refusal(write_bytes(tmp_path, "a.csv", "text,text\na,b\n"), text_column="text").code == 103


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.tsv", "sentence\tlabel\nfine\t\npoor\t-1\n"),
        ("a.jsonl", '{"sentence": "fine", "label": true}\n{"sentence": "poor"}\n'),
        ("a.jsonl", '{"sentence": "fine", "label": NaN}\n{"sentence": "poor", "label": [1]}\n'),
    ],
)
def test_labels_that_are_not_needed_may_be_anything(tmp_path: Path, name: str, content: str) -> None:
    path = write_bytes(tmp_path, name, content)
    assert read_examples(path, labels=False, label_column="label").texts == ["fine", "poor"]
    assert refusal(path).code == 104


def test_a_label_column_that_is_not_needed_may_be_absent(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.tsv", "sentence\nfine\n")
    assert read_examples(path, labels=False, label_column="sentiment").labels is None


def test_a_file_without_a_header_is_refused_without_quoting_its_first_row(tmp_path: Path) -> None:
    error = refusal(write_bytes(tmp_path, "a.tsv", "a private matter\t1\n"))
    assert error.code == 103
    assert "the columns are 1 and 1 longer;" in error.what
    error = refusal(write_bytes(tmp_path, "a.tsv", "a private matter, and another one that is far longer\n"))
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


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(tmp_path: Path, device: str) -> None:
    (tmp_path / "data.tsv").symlink_to(device)
    assert refusal(tmp_path / "data.tsv").what == "it is no ordinary file"


def test_a_pipe_is_read_and_one_that_nobody_writes_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.tsv")
    assert refusal(tmp_path / "data.tsv").code == 108
    written = "sentence\tlabel\na film\tgood\n"
    reading, writing = os.pipe()  # as a shell's <(…) is
    os.write(writing, written.encode())
    os.close(writing)
    assert read_text(Path(f"/dev/fd/{reading}")) == written.strip()
    os.close(reading)


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


def test_a_digest_tells_inputs_apart() -> None:
    pictures = [Image.new("L", (2, 2), shade) for shade in (0, 0, 1)] + [Image.new("L", (4, 1)), Image.new("P", (2, 2))]
    same, again, *others = (Examples("image", [picture], None, "").digest() for picture in pictures)
    assert same == again
    sets: list[list[Any]] = [["a"], ["a", "b"], ["b", "a"], [("a", "b")]]
    digests = [same, *others, *(Examples("single", items, None, "").digest() for items in sets)]
    assert len(set(digests)) == len(digests)


def test_a_digest_is_of_what_images_files_hold(tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, second):
        Image.new("L", (2, 2), 0).save(path)
    same, again = (Examples("image", [path], None, "").digest() for path in (first, second))
    assert same == again
    Image.new("L", (2, 2), 1).save(first)
    assert Examples("image", [first], None, "").digest() != same
    first.unlink()
    with pytest.raises(MpcifyError, match=r"MPC-107 .*row 1"):
        Examples("image", [first], None, "data.tsv").digest()


@pytest.mark.parametrize("text", ["sentence\nfirst half\rsecond half\nother\n", "sentence\rone\rtwo\r"])
def test_a_carriage_return_alone_ends_no_line_of_csv(tmp_path: Path, text: str) -> None:
    with pytest.raises(MpcifyError, match="MPC-102"):
        read_examples(write_bytes(tmp_path, "a.csv", text), labels=False)


def test_a_quoted_carriage_return_of_csv_is_text(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.csv", 'sentence,label\r\n"first\rsecond",1\r\nother,0\r\n')
    assert read_examples(path).texts == ["first\rsecond", "other"]


def test_a_label_that_the_first_row_lacks_is_named(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.jsonl", '{"sentence": "a"}\n{"sentence": "b", "label": 1}\n')
    with pytest.raises(MpcifyError, match=r"MPC-102 .*row 2 \(line 2\): it has the field label"):
        read_examples(path)
    assert read_examples(path, labels=False).labels is None
