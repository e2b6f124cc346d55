"""Texts without labels: the lines of a .txt file, or any file of texts or pairs; anything else is refused."""

import json
from pathlib import Path

import pytest

from mpcify.data.files import read_examples, read_texts
from mpcify.errors import MpcifyError
from tests.makers import write_bytes


def test_a_txt_file_has_a_text_a_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.txt", '\ufeffone, "two"\n\n  \t\r\nthree\tfour \r\nfive\n\n')
    texts = read_texts(path)
    assert (texts.kind, texts.labels, texts.source) == ("single", None, str(path))
    assert texts.texts == ['one, "two"', "three\tfour ", "five"]
    assert texts.where(1) == f"{path} row 2 (line 4)"


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.txt", "one\x0btwo\u2028three\x85four\nfive")
    assert read_texts(path).texts == ["one\x0btwo\u2028three\x85four", "five"]


def test_examples_may_be_the_same_lines_if_they_are_asked_for(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "a.TXT", "\ufeffone\n\n \ntwo\nthree\n")
    assert read_examples(path, lines=True) == read_texts(path)
    assert read_examples(path, limit=2, lines=True).texts == ["one", "two"]
    for column in ("text_column", "pair_column", "label_column"):
        with pytest.raises(MpcifyError, match=r"MPC-103 .* a \.txt file has no columns"):
            read_examples(path, lines=True, **{column: "one"})  # type: ignore[arg-type]
    with pytest.raises(MpcifyError, match="MPC-102"):
        read_examples(path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.tsv", "label\tsentence\n\tone\nno label\ttwo\n"),
        ("a.csv", 'sentence,label\n"one",\ntwo,no label\n'),
        ("a.jsonl", json.dumps({"sentence": "one", "label": None}) + "\n" + json.dumps({"sentence": "two"})),
    ],
)
def test_other_files_give_their_texts_whatever_their_labels(name: str, content: str, tmp_path: Path) -> None:
    texts = read_texts(write_bytes(tmp_path, name, content))
    assert (texts.kind, texts.texts, texts.labels) == ("single", ["one", "two"], None)
    assert texts.where(1) == f"{texts.source} row 2 (line {2 + (not name.endswith('jsonl'))})"


def test_pairs_give_both_of_their_texts(tmp_path: Path) -> None:
    texts = read_texts(write_bytes(tmp_path, "a.csv", "sentence1,sentence2,label\none,two,0\nthree,four,1\n"))
    assert (texts.kind, texts.texts) == ("single", ["one", "two", "three", "four"])


@pytest.mark.parametrize(
    "name, content, code, where",
    [
        ("a.txt", "", 108, "a.txt"),
        ("a.txt", "\n \n\t\n", 108, "a.txt"),
        ("a.txt", b"fine\nna\xefve\n", 102, "a.txt line 2"),
        ("a.txt", "fine\nfine\nno\0thing\n", 102, "a.txt line 3"),
        ("a.txt", "one\rtwo\r", 102, "a.txt"),
        ("a.txt", b"PK\x03\x04\xff", 102, "a.txt"),
        ("a.tsv", "text\nfine\n", 103, "a.tsv"),
        ("a.tsv", "image\na.tsv\n", 103, "a.tsv"),
        ("a.md", "fine\n", 102, "a.md"),
    ],
    ids=str,
)
def test_what_is_no_file_of_texts_is_refused(
    name: str, content: str | bytes, code: int, where: str, tmp_path: Path
) -> None:
    path = write_bytes(tmp_path, name, content)
    with pytest.raises(MpcifyError) as caught:
        read_texts(path)
    assert (caught.value.code, caught.value.where) == (code, str(tmp_path / where))
    assert "--text-column" not in caught.value.remedy, "it names the columns of the training file"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match="MPC-101"):
        read_texts(tmp_path / "a.txt")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(MpcifyError, match="MPC-102"):
        read_texts(tmp_path / "b.txt")
