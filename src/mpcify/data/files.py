"""Examples from files: texts, pairs of texts or images, with their labels.

The columns are `sentence`, or `sentence1` and `sentence2`, or `image` (a path, relative to the file), and `label`;
texts and labels may stand in columns of other names. Nothing is guessed and no row is skipped. Error texts never quote
a row, as it may be private.
"""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mpcify.data.tables import WORD, Table, lines_of, open_table, read_text
from mpcify.errors import MpcifyError, MpcifyWarning

Kind = Literal["single", "pair", "image"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "single": ("sentence",),
    "pair": ("sentence1", "sentence2"),
    "image": ("image",),
}
LABEL = "label"
REMEDY = "rename the columns, or name those to read: --text-column, --pair-column, --label-column"
INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
UNREADABLE = re.compile("[\0\ud800-\udfff]")
LARGEST = 3.4e38  # of float32, in which models answer


@dataclass(frozen=True)
class Examples:
    """Inputs in the order of the file, with their labels.

    kind: "single" texts, "pair"s of texts, or "image"s. texts: the inputs: str, (str, str), or the image's path (a PIL
    image if it comes from `datasets`). labels: whole numbers, decimals, or names; None if there is no such column;
    `check_labels` turns them into what a model predicts. lines: of the file, one an example. written: the labels come
    from a file, in which the number 1 may be a name of the model's, "1"; else a number is what the model predicts.
    """

    kind: Kind
    texts: list[Any]
    labels: list[Any] | None
    source: str
    lines: tuple[int, ...] | None = None
    written: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, places: Sequence[int]) -> "Examples":
        """The examples at some places."""
        return replace(
            self,
            texts=[self.texts[place] for place in places],
            labels=None if self.labels is None else [self.labels[place] for place in places],
            lines=None if self.lines is None else tuple(self.lines[place] for place in places),
        )

    def digest(self) -> str:
        """SHA-256 of the inputs: texts, images' files, and the pixels of images that are open already.

        Raises MPC-107 for a file that cannot be read.
        """
        inputs = [described(item, self.where(index)) for index, item in enumerate(self.texts)]
        return hashlib.sha256(json.dumps([self.kind, inputs]).encode()).hexdigest()

    def where(self, index: int) -> str:
        """The source, the row (from 1, the header not counted) and the line of an example, as error texts say them."""
        return place(self.source, index, self.lines[index] if self.lines else None)


def described(item: Any, where: str) -> str:
    """An input as one text. Raises MPC-107 for an image's file that cannot be read."""
    if isinstance(item, str | tuple):
        return str(item)
    if not isinstance(item, Path):
        return f"{item.mode} {item.size} {hashlib.sha256(item.tobytes()).hexdigest()}"
    try:
        return hashlib.sha256(item.read_bytes()).hexdigest()
    except OSError as problem:
        what = f"the image's file cannot be read ({problem.strerror})"
        raise MpcifyError(107, where, what, "check the path and its permissions") from None


def read_examples(
    file: str | Path,
    split: str | None = None,
    limit: int | None = None,
    *,
    labels: bool = True,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    lines: bool = False,
) -> Examples:
    """The examples in a file, or in a data set.

    file: a path that ends in .tsv, .csv or .jsonl; else "name", "name:split" or "name:configuration:split" for
    `datasets.load_dataset`. split: the same, apart. limit: how many rows are read; None: all. labels: False if they
    are not needed: each is then kept, whatever it is. text_column, pair_column (of the second texts),
    label_column: columns that have other names than `sentence` | `sentence1`, `sentence2`, and `label`.
    lines: whether a .txt file is read, too: a text a line, without labels; blank lines are none.
    Raises MPC-101 (not there), 102 (unreadable), 103 (columns), 104 (not a label), 105 (empty text),
    107 (no such image), 108 (no rows).
    """
    source = str(file)
    if lines and Path(source).suffix.lower() == ".txt":
        if (text_column, pair_column, label_column) != (None, None, None):
            raise MpcifyError(103, source, "a .txt file has no columns", "name none, or give a table that has them")
        return read_lines(source, limit)
    table = open_table(source, split)
    kind, columns = columns_of(table, source, text_column, pair_column)
    label = LABEL if label_column is None else label_column
    if labels and label_column is not None and label_column not in table.columns:
        raise no_column(label_column, table.columns, source)
    texts, found, numbers = [], [], []
    for index, (line, row) in enumerate(islice(table.rows, limit)):
        where = place(source, index, line)
        values = [field(row, name, where) for name in columns]
        texts.append(image(values[0], table.folder, where) if kind == "image" else text(values, where))
        if labels and label in row and label not in table.columns:
            what = f"it has the field {label}, and the first row has none"
            raise MpcifyError(102, where, what, "give every row the same fields")
        found.append(cell(row.get(label), where, needed=labels and label in table.columns))
        if line is not None:
            numbers.append(line)
    if not texts:
        raise MpcifyError(108, source, "there are no rows below the header", "give a file with at least one example")
    labelled = found if label in table.columns else None
    return Examples(kind, texts, labelled, source, tuple(numbers) or None, written=label not in table.numbered)


def read_lines(source: str, limit: int | None) -> Examples:
    """The lines of a .txt file as texts. Raises MPC-101, 102, and 108 if all are blank."""
    content = lines_of(read_text(Path(source)), source)
    lines = list(islice(((number, line) for number, line in enumerate(content, 1) if line.strip()), limit))
    if not lines:
        raise MpcifyError(108, source, "there are no lines", "give a file with at least one text")
    texts = [text([line], place(source, index, number)) for index, (number, line) in enumerate(lines)]
    return Examples("single", texts, None, source, tuple(number for number, _ in lines))


def read_texts(file: str | Path) -> Examples:
    """Texts without labels: the lines of a .txt file, or what `read_examples` reads; pairs give both of their texts.

    Raises what `read_examples` raises, MPC-103 for images.
    """
    source = str(file)
    try:
        found = read_examples(source, labels=False, lines=True)
    except MpcifyError as error:
        if error.code != 103:
            raise
        remedy = "name the column sentence, or give a .txt file with a text a line"
        raise MpcifyError(103, source, error.what, remedy) from None
    if found.kind == "image":
        raise MpcifyError(103, source, "its examples are images", "give texts")
    if found.kind == "single":
        return replace(found, labels=None, written=False)
    return Examples("single", [text for pair in found.texts for text in pair], None, source)


def check_labels(examples: Examples, labels: Sequence[str]) -> Examples:
    """The same examples with labels as a model predicts them.

    labels: the model's label names, in its order. With two or more, either every label is, as it is written, one of the
    names, or every label is a whole number below their count; names go first, and a warning says so if the numbers
    would mean other classes. With one (regression), a label is a decimal that float32 holds.
    Raises MPC-103 if the examples have no labels, MPC-104 with the row for any other label.
    """
    if examples.labels is None:
        remedy = f"add a column {LABEL} with the right answers, or name it: --label-column"
        raise MpcifyError(103, examples.source, f"there is no column {LABEL}", remedy)
    readings: list[list[Any]]
    if len(labels) == 1:
        wanted = "a number"
        readings = [[decimal(value) for value in examples.labels]]
    else:
        wanted = f"a whole number below {len(labels)}, or a label name of the model (a column holds one or the other)"
        names = {str(name): index for index, name in enumerate(labels) if list(labels).count(name) == 1}
        named = [class_named(value, names, examples.written) for value in examples.labels]
        readings = [named, [class_numbered(value, len(labels)) for value in examples.labels]]
    whole = [reading for reading in readings if None not in reading]
    if not whole:
        index = max(reading.index(None) for reading in readings)
        raise MpcifyError(104, examples.where(index), f"the label is not {wanted}", "correct the label in the file")
    if whole[0] != whole[-1]:
        what = "labels are read as the model's label names, not as numbers from 0"
        warnings.warn(MpcifyWarning(f"{examples.source}: {what}"), stacklevel=2)
    return replace(examples, labels=whole[0], written=False)


def class_named(value: Any, names: Mapping[str, int], written: bool) -> int | None:
    """The class that a label names, as it is written, or without the spaces around it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not (written or isinstance(value, str)):
        return None
    name = str(value)
    return names.get(name, names.get(name.strip()))


def class_numbered(value: Any, count: int) -> int | None:
    """The class that a label numbers, from 0, in decimal digits without leading zeros."""
    if isinstance(value, str) and INDEX.fullmatch(value.strip()):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count else None


def decimal(value: Any) -> float | None:
    """A label of regression; None for another, or one that float32 does not hold."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known and not (isinstance(value, str) and DECIMAL.fullmatch(value.strip())):
        return None
    return float(value) if abs(value if known else float(value)) <= LARGEST else None


def place(source: str, index: int, line: int | None) -> str:
    """Where a row stands, as error texts say it."""
    return f"{source} row {index + 1}" + ("" if line is None else f" (line {line})")


def columns_of(
    table: Table, source: str, text_column: str | None, pair_column: str | None
) -> tuple[Kind, tuple[str, ...]]:
    """What the inputs are, and their columns. Raises MPC-103 unless these are there, each once, and of one kind."""
    repeated = {name for name in table.columns if name and table.columns.count(name) > 1}
    if text_column is None and pair_column is None:
        kinds = [kind for kind, names in COLUMNS.items() if set(names) <= set(table.columns)]
        if len(kinds) != 1 or repeated:
            expected = "exactly one of sentence | sentence1, sentence2 | image, each column once"
            raise MpcifyError(103, source, f"the columns are {listed(table.columns)}; expected {expected}", REMEDY)
        return kinds[0], COLUMNS[kinds[0]]
    first = COLUMNS["pair"][0] if text_column is None else text_column
    names = (first,) if pair_column is None else (first, pair_column)
    for name in names:
        if name not in table.columns or repeated:
            raise no_column(name, table.columns, source)
    return ("single" if pair_column is None else "pair"), names


def no_column(name: str, columns: Sequence[str], source: str) -> MpcifyError:
    """The error for a column that is asked for and is not there once."""
    what = f"the columns are {listed(columns)}; expected {name}, each column once"
    return MpcifyError(103, source, what, "name a column that the header has")


def listed(columns: Sequence[str]) -> str:
    """The columns, for an error text: without a header line, the first row stands in its place, and may be private."""
    words = [name or "(unnamed)" for name in columns if not name or WORD.fullmatch(name)]
    others = [f"{len(columns) - len(words)} longer"] if len(words) < len(columns) else []
    return " and ".join(([", ".join(words)] if words else []) + others)


def field(row: Mapping[str, Any], name: str, where: str) -> Any:
    """A row's value in a column. Raises MPC-102 if it has none (JSONL)."""
    if name not in row:
        raise MpcifyError(102, where, f"the row has no {name}", "give every row the same fields")
    return row[name]


def text(values: Sequence[Any], where: str) -> str | tuple[str, str]:
    """The text, or pair of texts, in a row. Raises MPC-102 for what is not text, MPC-105 if one is empty."""
    if not all(isinstance(value, str) for value in values):
        raise MpcifyError(102, where, "the text is not a string", "write texts as strings")
    if not all(value.strip() for value in values):
        raise MpcifyError(105, where, "the text is empty", "remove the row, or give it a text")
    if any(UNREADABLE.search(value) for value in values):
        raise MpcifyError(102, where, "the text holds a NUL or half a surrogate pair", "remove that character")
    return values[0] if len(values) == 1 else (values[0], values[1])


def image(value: Any, folder: Path, where: str) -> Any:
    """The image's path, or the image that `datasets` has opened. Raises MPC-107 if there is no such file."""
    if not isinstance(value, str):
        return value
    path = folder / value
    if not path.is_file():
        raise MpcifyError(107, where, "the image's file is not there", "give its path relative to the data's file")
    return path


def cell(value: Any, where: str, needed: bool) -> Any:
    """A label as it is written; a whole number as a number, if that loses nothing.

    Raises MPC-104 if a label is needed and this is not one.
    """
    known = isinstance(value, int | float | str) and not isinstance(value, bool)
    empty = isinstance(value, str) and not value.strip()
    if needed and (not known or empty or (isinstance(value, float) and not math.isfinite(value))):
        raise MpcifyError(104, where, "the label is missing, or neither a number nor a name", "correct the label")
    return int(value) if isinstance(value, str) and INDEX.fullmatch(value) else value
