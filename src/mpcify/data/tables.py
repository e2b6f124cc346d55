"""Tables from files: TSV (read without quoting), CSV, JSONL, or a data set by its name for `datasets`.

Nothing is guessed and no row is skipped: a file that is not exactly this is refused with the line's number.
"""

import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpcify.errors import MpcifyError
from mpcify.files import at_once

OTHER_FILES = {  # what stands at the start of a file that is not UTF-8 text
    b"PK\x03\x04": "a ZIP archive (xlsx is one)",
    b"PAR1": "Parquet",
    b"\x1f\x8b": "compressed by gzip",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
WORD = re.compile(r"[\w-]{1,30}")  # a column's name; anything else in a header may be a private text
WORDS = re.compile(r"[\w .-]{0,30}")  # what could be one
LONGEST_FIELD = 2**31 - 1  # of CSV, in characters
LONGEST_NUMBER = 400  # digits: a float holds 308


@dataclass(frozen=True)
class Table:
    """Rows by column, each with its line (None in a data set).

    numbered: the columns of a data set whose whole numbers are classes, counted from 0.
    """

    columns: Sequence[str]
    rows: Iterator[tuple[int | None, Mapping[str, Any]]]
    folder: Path = Path()
    numbered: frozenset[str] = frozenset()


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
    """The text of a file or a pipe, without the empty lines at its end. Raises MPC-101 and 102."""
    try:
        with open(path, "rb", opener=at_once) as file:
            kind = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
                raise MpcifyError(102, str(path), "it is no ordinary file", "name a file")
            os.set_blocking(file.fileno(), True)  # for a pipe that somebody writes into
            content = file.read()
    except FileNotFoundError:
        raise MpcifyError(101, str(path), "there is no such file", "check the path") from None
    except OSError as error:
        raise MpcifyError(
            102, str(path), f"the file cannot be read ({error.strerror})", "check its permissions"
        ) from None
    try:
        text = content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise no_text(path, content, error.start, "the text is not UTF-8") from None
    if "\0" in text:
        raise no_text(path, content, content.index(b"\0"), "the text holds a NUL character")
    return text


def no_text(path: Path, content: bytes, position: int, what: str) -> MpcifyError:
    """The error for a file that is not text: its first bytes show what it is, or else the line is named."""
    kind = next((kind for start, kind in OTHER_FILES.items() if content.startswith(start)), None)
    if kind is not None:
        return MpcifyError(102, str(path), f"the file is {kind}", "save it as TSV, CSV or JSONL in UTF-8")
    line = content.count(b"\n", 0, position) + 1
    return MpcifyError(102, f"{path} line {line}", what, "save the file as text in UTF-8")


def lines_of(content: str, source: str) -> list[str]:
    """The lines, ended by \\n or \\r\\n: `splitlines` would split texts too. Raises MPC-102 for \\r alone."""
    refuse_returns(content, source)
    return [line.removesuffix("\r") for line in content.split("\n")] if content else []


def refuse_returns(content: str, source: str) -> None:
    """Raises MPC-102 if lines end with \\r alone."""
    if "\r" in content and "\n" not in content:
        raise MpcifyError(102, source, "its lines end with a carriage return alone", "end them with a line feed")


def refuse_separator(content: str, source: str, own: str) -> None:
    """Raises MPC-103 if another character than `own` separates the words of the header."""
    header = content.partition("\n")[0]
    for mark, name in SEPARATORS.items():
        words = [word.strip(' "\r') for word in header.split(mark)]
        if own not in header and len(words) > 1 and all(map(WORDS.fullmatch, words)):
            what = f"the columns seem to be separated by {name}, not by {SEPARATORS[own]}"
            raise MpcifyError(103, source, what, "separate columns by commas in .csv, by tabs in .tsv")


def table_of(source: str, records: Iterator[tuple[int, list[str]]]) -> Table:
    """A table from lines split into fields, the first of them the header, whose names may stand between spaces.

    Raises MPC-102 at a row of another width, MPC-108 without a header.
    """
    header = [name.strip() for name in next(records, (1, []))[1]]
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
    """Tab-separated, quotes are text."""
    refuse_separator(content, source, "\t")
    lines = enumerate(lines_of(content, source), 1)
    return table_of(source, ((place, line.split("\t")) for place, line in lines))


def read_csv(content: str, source: str) -> Table:
    """Comma-separated with the quoting of RFC 4180. A carriage return alone ends no line."""
    refuse_returns(content, source)
    refuse_separator(content, source, ",")

    def records() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(content, newline="\n"), strict=True)
        while True:
            line = reader.line_num + 1
            before = csv.field_size_limit(LONGEST_FIELD)  # one for the whole process: it is put back
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                remedy = "check its quotes; a carriage return may stand in quotes alone"
                raise MpcifyError(102, f"{source} line {line}", "the line is not CSV", remedy) from None
            finally:
                csv.field_size_limit(before)
            yield line, fields or [""]  # the csv module gives [] for an empty line

    return table_of(source, records())


def read_jsonl(content: str, source: str) -> Table:
    """One JSON object a line; the first one's fields are the columns."""

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for place, line in enumerate(lines_of(content, source), 1):
            try:
                yield place, json_object(line)
            except UnicodeEncodeError:
                what, remedy = "the line holds half a surrogate pair", "write each character as UTF-8"
                raise MpcifyError(102, f"{source} line {place}", what, remedy) from None
            except (ValueError, RecursionError):
                what = "the line is not a JSON object with each field once"
                remedy = "write one JSON object a line"
                raise MpcifyError(102, f"{source} line {place}", what, remedy) from None

    first = next(rows(), (1, {}))[1]
    if not first:
        raise MpcifyError(108, source, "the file is empty", "give a file with at least one example")
    return Table(list(first), rows())


def json_object(line: str) -> dict[str, Any]:
    """The object that a line holds. Raises ValueError for anything else, UnicodeEncodeError for what is not Unicode."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("a field stands twice")
        return values

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)

    values = json.loads(line, object_pairs_hook=once, parse_int=whole)
    if not isinstance(values, dict):
        raise ValueError("not an object")
    json.dumps(values, ensure_ascii=False).encode()
    return values


READERS: dict[str, Callable[[str, str], Table]] = {".tsv": read_tsv, ".csv": read_csv, ".jsonl": read_jsonl}


def load_dataset(source: str, name: str, configuration: str | None, split: str | None) -> Table:
    """A data set from `datasets`. Raises MPC-101 if there is none, whatever the reason."""
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

    features = getattr(loaded, "features", None) or {}
    numbered = frozenset(name for name, feature in features.items() if hasattr(feature, "names"))  # ClassLabel
    return Table(list(loaded.column_names), rows(), numbered=numbered)
