"""Labels of examples: what a model makes of them, and that anything else is refused with the row."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpcify.data.files import Examples, check_labels, read_examples
from mpcify.errors import MpcifyError, MpcifyWarning
from tests.makers import write_bytes


def labelled(*labels: Any) -> Examples:
    return Examples("single", ["x"] * len(labels), list(labels), "a.tsv", tuple(range(2, len(labels) + 2)))


def test_label_names_become_the_models_numbers() -> None:
    checked = check_labels(labelled("good", "bad", " bad "), ["bad", "good"])
    assert checked.labels == [1, 0, 0]
    assert checked.texts == ["x"] * 3


def read_labels(folder: Path, name: str, cells: list[str], names: list[str]) -> list[Any] | str:
    """What a model with these label names makes of a file's cells, or where it refuses them."""
    rows = [f'{{"sentence": "x", "label": {cell}}}' if name.endswith("jsonl") else f"x\t{cell}" for cell in cells]
    path = write_bytes(folder, name, "\n".join(rows if name.endswith("jsonl") else ["sentence\tlabel", *rows]) + "\n")
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


def test_a_name_that_two_classes_have_is_no_label() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-104 .*row 2"):
        check_labels(labelled("good", "bad"), ["bad", "good", "bad"])


def test_names_that_could_be_other_numbers_are_a_warning(tmp_path: Path) -> None:
    with pytest.warns(MpcifyWarning, match="as the model's label names"):
        assert read_labels(tmp_path, "a.tsv", ["1", "0"], ["1", "0"]) == [0, 1]


def test_numbers_that_are_not_of_a_file_are_what_the_model_predicts(tmp_path: Path) -> None:
    names = ["1", "0"]
    assert check_labels(labelled(1, 0), names).labels == [1, 0]
    path = write_bytes(tmp_path, "a.tsv", "sentence\tlabel\nfine\t1\n")
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
    for name, written in (("a.tsv", cell), ("a.jsonl", cell), ("b.jsonl", f'"{cell}"')):
        assert read_labels(tmp_path, name, ["0.5", written], ["score"]) == "row 2"


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
