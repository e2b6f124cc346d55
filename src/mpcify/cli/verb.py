"""What every verb shares: its answer as JSON or text, a clean stdout, and one numbered line for every error."""

import ctypes
import errno
import functools
import inspect
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from mpcify.errors import MpcifyError, MpcifyWarning

FAILURES = (503, 903)  # what no change of the command mends: exit 1
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


class Format(StrEnum):
    """How a verb answers on stdout."""

    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="json: one JSON object on stdout, and nothing else.")]


@dataclass(frozen=True)
class Answer:
    """What a verb answers: a JSON object, the same for people (rich renders it), and the error that goes with it."""

    values: dict[str, Any]
    text: Any
    error: MpcifyError | None = None


def verb(work: Callable[..., Answer]) -> Callable[..., int]:
    """The typer command for a function that returns an Answer.

    A parameter that is a dataclass of options becomes one option a field, and every verb gets `--format`. While the
    function works, stdout leads to stderr; then its answer is printed. Returns the exit code.
    """
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(work).parameters.items():
        if not is_dataclass(parameter.annotation):
            parameters[name] = option(name, parameter.annotation, parameter.default)
            continue
        groups[name] = parameter.annotation
        for field in fields(parameter.annotation):
            parameters[field.name] = option(field.name, field.type, field.default)
    parameters["format"] = option("format", FormatOption, Format.text)

    @functools.wraps(work)
    def command(*, format: Format, **values: Any) -> int:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        try:
            with clean_stdout(), warnings_as_lines():
                answer = work(**values)
        except KeyboardInterrupt:
            remedy = "run the same command again; `distill --resume` and `evaluate --answers` go on where they stopped"
            raise MpcifyError(902, f"mpcify {work.__name__}", "interrupted before the end", remedy) from None
        present(answer, format)
        return 0 if answer.error is None else complain(answer.error)

    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {name: item.annotation for name, item in parameters.items()}
    return command


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def present(answer: Answer, format: Format) -> None:
    """Prints an answer on stdout."""
    if format is Format.json:
        print(json.dumps({"format": 1, **answer.values}, ensure_ascii=False), flush=True)
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe has no width: rows stay whole
    console.print(answer.text)
    sys.stdout.flush()  # a disk that is full refuses here, not at exit


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """A table for people."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def cost_line(cost: Mapping[str, Any]) -> str:
    """A cost as people read it; without rounds nothing was sent."""
    seconds = f"{cost['seconds']:.2f} s"
    return f"{seconds}, {cost['bytes'] / 1e6:.1f} MB, {cost['rounds']} rounds" if cost["rounds"] else seconds


@contextmanager
def clean_stdout() -> Iterator[None]:
    """While open, what Python, a C library or a child process writes to stdout goes to stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C still buffers belongs to stderr too
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """While open, each of our warnings is one line on stderr, said once, and other libraries' are silent."""
    with warnings.catch_warnings():
        if not debugging():
            warnings.simplefilter("ignore")
        warnings.simplefilter("once", MpcifyWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {message}")
        yield


def complain(error: BaseException) -> int:
    """Prints an error as one numbered line on stderr; the exit code: 2 where the user can mend it, else 1."""
    if debugging():
        traceback.print_exception(error)
    known = numbered(error)
    say(str(known))
    return 1 if known.code in FAILURES else 2


def numbered(error: BaseException) -> MpcifyError:
    """Any error with a number: those of the disk and of the command line are told by what they are."""
    if isinstance(error, MpcifyError):
        return error
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        place = context.command_path if context else "mpcify"
        return MpcifyError(901, place, error.format_message().rstrip("."), f"see {place} --help")
    if reason := disk_refusal(error):
        place = str(getattr(error, "filename", None) or "output")
        return MpcifyError(109, place, reason, "free some space, or name a place you may write")
    what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return MpcifyError(
        903, "mpcify", what.rstrip(": "), "set MPCIFY_DEBUG=1 to see where, and report it with the command"
    )


def disk_refusal(error: BaseException) -> str:
    """Why the disk refused to be written, or "": libraries written in Rust or C++ say it in their text alone."""
    if isinstance(error, OSError) and error.errno in DISK:
        return os.strerror(error.errno)
    found = (os.strerror(number) for number in DISK[:3] if os.strerror(number) in str(error))
    return next(found, "")


def say(line: str) -> None:
    """One line on stderr, whatever the text holds."""
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("MPCIFY_DEBUG", "") not in ("", "0")
