"""Examples from files: TSV (read without quoting), CSV, JSONL, or a data set by its name for `datasets`.

The columns are `sentence`, or `sentence1` and `sentence2`, or `image` (a path, relative to the file), and `label`.
Nothing is guessed and no row is skipped: a file that is not exactly this is refused with the row's number. Error texts
never quote a row, as it may be private.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mpcify.errors import MpcifyError

Kind = Literal["single", "pair", "image"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "single": ("sentence",),
    "pair": ("sentence1", "sentence2"),
    "image": ("image",),
}
LABEL = "label"
REMEDY = "name the columns sentence | sentence1, sentence2 | image, and label"


@dataclass(frozen=True)
class Examples:
    """Inputs in the order of the file, with their labels.

    kind: "single" texts, "pair"s of texts, or "image"s. texts: the inputs: str, (str, str), or the image's path (a PIL
    image where it comes from `datasets`). labels: whole numbers, decimals, or names, as they are written; None where
    there is no such column; `check_labels` turns them into what a model predicts. lines: of the file, one an example.
    """

    kind: Kind
    texts: list[Any]
    labels: list[int | float | str] | None
    source: str
    lines: tuple[int, ...] | None = None

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

    def where(self, index: int) -> str:
        """The source, the row (from 1, the header not counted) and the line of an example, as error texts say them."""
        return place(self.source, index, self.lines[index] if self.lines else None)


@dataclass(frozen=True)
class Table:
    """Rows by column, each with its line (None in a data set)."""

    columns: Sequence[str]
    rows: Iterator[tuple[int | None, Mapping[str, Any]]]
    folder: Path = Path()


def read_examples(file: str | Path, split: str | None = None, limit: int | None = None) -> Examples:
    """The examples in a file, or in a data set.

    file: a path that ends in .tsv, .csv or .jsonl; else "name", "name:split" or "name:configuration:split" for
    `datasets.load_dataset`. split: the same, apart. limit: how many rows are read, all where None.
    Raises MPC-101 (not there), 102 (unreadable), 103 (columns), 104 (a label that is none), 105 (empty text),
    107 (no such image), 108 (no rows).
    """
    source = str(file)
    table = open_table(source, split)
    kind = kind_of(table.columns, source)
    texts, labels, lines = [], [], []
    for index, (line, row) in enumerate(islice(table.rows, limit)):
        where = place(source, index, line)
        values = [field(row, name, where) for name in COLUMNS[kind]]
        texts.append(image(values[0], table.folder, where) if kind == "image" else text(values, where))
        if LABEL in table.columns:
            labels.append(label(field(row, LABEL, where), where))
        if line is not None:
            lines.append(line)
    if not texts:
        raise MpcifyError(108, source, "there are no rows below the header", "give a file with at least one example")
    return Examples(kind, texts, labels if LABEL in table.columns else None, source, tuple(lines) or None)


def check_labels(examples: Examples, labels: Sequence[str]) -> Examples:
    """The same examples with labels as a model predicts them.

    labels: the model's label names, in its order. With two or more, a label is a whole number below their count or one
    of the names, and becomes the number (a number wins over a name). With one (regression), it is a finite decimal.
    Raises MPC-103 where the examples have no labels, MPC-104 with the row for any other label.
    """
    if examples.labels is None:
        remedy = f"add a column {LABEL} with the right answers"
        raise MpcifyError(103, examples.source, f"there is no column {LABEL}", remedy)
    wanted = "a number" if len(labels) == 1 else f"a whole number below {len(labels)}, or a label name of the model"
    checked: list[int | float | str] = []
    for index, value in enumerate(examples.labels):
        number = target(value, labels)
        if number is None:
            raise MpcifyError(104, examples.where(index), f"the label is not {wanted}", "correct the label in the file")
        checked.append(number)
    return replace(examples, labels=checked)


def target(value: int | float | str, labels: Sequence[str]) -> int | float | None:
    """A label as `check_labels` defines it; None where the model has no such label."""
    if len(labels) == 1:
        return None if isinstance(value, str) else float(value)
    if isinstance(value, str):
        return labels.index(value) if value in labels else None
    return value if isinstance(value, int) and 0 <= value < len(labels) else None


def place(source: str, index: int, line: int | None) -> str:
    """Where a row stands, as error texts say it."""
    return f"{source} row {index + 1}" + ("" if line is None else f" (line {line})")


def kind_of(columns: Sequence[str], source: str) -> Kind:
    """What the columns hold. Raises MPC-103 unless it is exactly one kind, and no column stands twice."""
    kinds = [kind for kind, names in COLUMNS.items() if set(names) <= set(columns)]
    if len(kinds) != 1 or len(set(columns)) < len(columns):
        # without a header line, the first row stands in its place: it may be private
        words = [name for name in columns if re.fullmatch(r"[\w-]{1,30}", name)]
        found = ", ".join(words) + (f" and {len(columns) - len(words)} longer" if len(words) < len(columns) else "")
        expected = "exactly one of sentence | sentence1, sentence2 | image, each column once"
        raise MpcifyError(103, source, f"the columns are {found}; expected {expected}", REMEDY)
    return kinds[0]


def field(row: Mapping[str, Any], name: str, where: str) -> Any:
    """A row's value in a column. Raises MPC-102 where it has none (JSONL)."""
    if name not in row:
        raise MpcifyError(102, where, f"the row has no {name}", "give every row the same fields")
    return row[name]


def text(values: Sequence[Any], where: str) -> str | tuple[str, str]:
    """The text, or pair of texts, in a row. Raises MPC-102 for another type, MPC-105 where one is empty."""
    if not all(isinstance(value, str) for value in values):
        raise MpcifyError(102, where, "the text is not a string", "write texts as strings")
    if not all(value.strip() for value in values):
        raise MpcifyError(105, where, "the text is empty", "remove the row, or give it a text")
    return values[0] if len(values) == 1 else (values[0], values[1])


def image(value: Any, folder: Path, where: str) -> Any:
    """The image's path, or the image that `datasets` has opened. Raises MPC-107 where there is no such file."""
    if not isinstance(value, str):
        return value
    path = folder / value
    if not path.is_file():
        raise MpcifyError(107, where, "the image's file is not there", "give its path relative to the data's file")
    return path


def label(value: Any, where: str) -> int | float | str:
    """A label as a whole number, a finite decimal, or else a name. Raises MPC-104 where it is none of them."""
    if isinstance(value, str):
        value = value.strip()
        for number in (int, float):
            try:
                parsed = number(value)
            except ValueError:
                continue
            if math.isfinite(parsed):
                return parsed
    known = isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""
    if not known or (isinstance(value, float) and not math.isfinite(value)):
        raise MpcifyError(104, where, "the label is missing, or neither a number nor a name", "correct the label")
    return value


def open_table(source: str, split: str | None) -> Table:
    """The rows of a file or of a data set. Raises MPC-101, 102 and 108."""
    path = Path(source)
    reader = READERS.get(path.suffix.lower())
    if reader is not None:
        return replace(reader(read_text(path), source), folder=path.parent)
    name, *rest = source.split(":")
    # a name like dev.txt is a file's: without a network, asking the hub for it in vain takes half a minute
    named_as_file = Path(name).suffix[1:].isalpha() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)
    if path.is_file() or (named_as_file and path.exists()):
        raise MpcifyError(
            102, source, "files of this kind are not read", "give a file that ends in .tsv, .csv or .jsonl"
        )
    if named_as_file or len(rest) > 2:
        raise MpcifyError(101, source, "there is no such file", "check the path")
    return load_dataset(source, name, rest[0] if len(rest) == 2 else None, split or (rest[-1] if rest else None))


def read_text(path: Path) -> str:
    """A file's text, without the empty lines at its end. Raises MPC-101 and 102."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MpcifyError(101, str(path), "there is no such file", "check the path") from None
    except OSError as error:
        raise MpcifyError(
            102, str(path), f"the file cannot be read ({error.strerror})", "check its permissions"
        ) from None
    try:
        return content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MpcifyError(102, f"{path} line {line}", "the text is not UTF-8", "save the file as UTF-8") from None


def rows_of(source: str, records: Iterator[tuple[int, list[str]]]) -> Table:
    """A table from lines split into fields, the first of them the header. Raises MPC-102 at a row of another width."""
    _, header = next(records, (1, []))
    if not any(header):
        raise MpcifyError(108, source, "the file is empty", "give a file with a header line and at least one example")

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        for line, fields in records:
            if len(fields) != len(header):
                raise MpcifyError(
                    102,
                    f"{source} line {line}",
                    f"the line has {len(fields)} fields, the header {len(header)}",
                    "give every line as many fields as the header",
                )
            yield line, dict(zip(header, fields, strict=True))

    return Table(header, rows())


def read_tsv(content: str, source: str) -> Table:
    """Tab-separated, quotes are text. Only \\n and \\r\\n end a line: `splitlines` would cut inside a text."""
    lines = enumerate(content.split("\n"), 1)
    return rows_of(source, ((number, line.removesuffix("\r").split("\t")) for number, line in lines))


def read_csv(content: str, source: str) -> Table:
    """Comma-separated with the quoting of RFC 4180."""

    def records() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(content, newline=""), strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                raise MpcifyError(102, f"{source} line {line}", "the line is not CSV", "check its quotes") from None
            yield line, fields or [""]  # the csv module gives [] for an empty line

    return rows_of(source, records())


def read_jsonl(content: str, source: str) -> Table:
    """One JSON object a line; the first one's fields are the columns."""

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(content.split("\n") if content else [], 1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if not isinstance(values, dict):
                raise MpcifyError(
                    102, f"{source} line {number}", "the line is not a JSON object", "write one JSON object a line"
                )
            yield number, values

    first = next(rows(), (1, {}))[1]
    if not first:
        raise MpcifyError(108, source, "the file is empty", "give a file with at least one example")
    return Table(list(first), rows())


READERS: dict[str, Callable[[str, str], Table]] = {".tsv": read_tsv, ".csv": read_csv, ".jsonl": read_jsonl}


def load_dataset(source: str, name: str, configuration: str | None, split: str | None) -> Table:
    """A data set from `datasets`. Raises MPC-101 whatever the reason is for which there is none."""
    remedy = "give a path that ends in .tsv, .csv or .jsonl, or name:split of a data set on the hub (mpcify[train])"
    try:
        import datasets
    except ImportError:
        raise MpcifyError(101, source, "there is no such file, and `datasets` is not installed", remedy) from None
    try:
        loaded = datasets.load_dataset(name, configuration, split=split)
    except Exception as error:
        reason = f"no such file, and `datasets` cannot load it ({type(error).__name__})"
        raise MpcifyError(101, source, reason, remedy) from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise MpcifyError(101, source, f"the data set has the splits {', '.join(loaded)}", "name one: name:split")
        (loaded,) = loaded.values()

    def rows() -> Iterator[tuple[None, Mapping[str, Any]]]:
        records = iter(loaded)
        while True:
            try:
                row = next(records)
            except StopIteration:
                return
            except Exception as error:
                raise MpcifyError(
                    102, source, f"a row cannot be read ({type(error).__name__})", "load it anew"
                ) from error
            yield None, row

    return Table(list(loaded.column_names), rows())
