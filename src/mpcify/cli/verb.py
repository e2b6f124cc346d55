"""What every verb shares: its answer as JSON or text, a clean stdout, and one numbered line for every error."""

import ctypes
import errno
import inspect
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from mpcify.errors import MpcifyError, MpcifyWarning, interrupted
from mpcify.extras import explained
from mpcify.launch import first_to_fail, rank
from mpcify.progress import say

FAILURES = (503, 703, 706, 707, 710, 903)  # what no change of the command mends: exit 1
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


def verb(work: Callable[..., Answer]) -> "Verb":
    """The typer command for a function that returns an Answer."""
    return Verb(work)


class Verb:
    """A typer command: while its function works, stdout leads to stderr; then its answer is printed.

    A parameter that is a group of options (see `options_of`) becomes one option each, and every verb gets `--format`.
    Typer asks for them whenever a command line is read, so that an engine that was registered meanwhile has its own.
    """

    def __init__(self, work: Callable[..., Answer]) -> None:
        self.work = work
        self.__name__, self.__doc__ = work.__name__, work.__doc__

    @property
    def __signature__(self) -> inspect.Signature:
        found: dict[str, inspect.Parameter] = {}
        for name, parameter in inspect.signature(self.work).parameters.items():
            options = options_of(parameter.annotation)
            if options is None:
                found[name] = option(name, parameter.annotation, parameter.default)
            else:
                found |= {each: option(each, *described) for each, described in options.items()}
        return inspect.Signature([*found.values(), option("format", FormatOption, Format.text)])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: item.annotation for name, item in self.__signature__.parameters.items()}

    def __call__(self, *, format: Format, **values: Any) -> int:
        """Works, prints the answer, and returns the exit code."""
        for name, parameter in inspect.signature(self.work).parameters.items():
            options = options_of(parameter.annotation)
            if options is not None:
                values[name] = parameter.annotation(**{each: values.pop(each) for each in options})
        if sys.stdout is None:
            raise MpcifyError(109, "stdout", "it is closed", "leave it open, or lead it to a file or to /dev/null")
        try:
            with clean_stdout(), warnings_as_lines():
                answer = self.work(**values)
            if rank() == 0:
                present(answer, format)
        except (KeyboardInterrupt, OSError, ImportError) as error:  # typer would make something else of them
            raise numbered(error, f"mpcify {self.__name__.replace('_', ' ')}") from error
        return 0 if answer.error is None else complain(answer.error)


def options_of(group: Any) -> dict[str, tuple[Any, Any]] | None:
    """The options of a group, each with its default: what its `options` says, or a dataclass's fields. Else None."""
    if isinstance(group, type) and hasattr(group, "options"):
        return dict(group.options())
    if is_dataclass(group):
        return {field.name: (field.type, field.default) for field in fields(group)}
    return None


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword of a command. Words for paths go through `path_named`."""
    kind, *told = get_args(annotation) or (annotation,)
    if Path in (kind, *get_args(kind)):
        info = copy(told[0])
        info.parser = path_named
        annotation = Annotated[kind, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def path_named(word: str) -> Path:
    """A path. Raises a usage error for an empty word, which would name the present folder."""
    if not word:
        raise typer.BadParameter("it is empty")
    return Path(word)


def present(answer: Answer, format: Format) -> None:
    """Prints an answer on stdout."""
    sys.stdout.write(json_line(answer) if format is Format.json else rendered(answer.text))
    sys.stdout.flush()  # a disk that is full refuses here, not at exit


def json_line(answer: Answer) -> str:
    """An answer as JSON; what stdout's encoding lacks is escaped."""
    values = {"format": 1, **answer.values}
    line = json.dumps(values, ensure_ascii=False) + "\n"
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values) + "\n"
    return line


def rendered(text: Any) -> str:
    """An answer for people. No name or text is read as markup, whatever it holds."""
    from rich.console import Console

    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = Console(**plain)
    if not console.is_terminal:
        console = Console(**plain, width=160)  # a pipe has no width: rows stay whole
    with console.capture() as found:
        console.print(text)
    return found.get()


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


def together(*parts: Any) -> Any:
    """Tables one below another."""
    from rich.console import Group

    return Group(*parts)


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
        warnings.simplefilter("once" if rank() == 0 else "ignore", MpcifyWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {message}")
        yield


def complain(error: BaseException) -> int:
    """Prints an error as one numbered line on stderr; the exit code: 2 if the user can mend it, else 1.

    Of processes that train together, the first to fail says why.
    """
    if debugging():
        traceback.print_exception(error)
    known = numbered(error)
    if first_to_fail():
        say(str(known))
    return 1 if known.code in FAILURES else 2


def numbered(error: BaseException, place: str = "mpcify") -> MpcifyError:
    """Any error with a number: those of the disk, of imports and of the command line say what they are."""
    if isinstance(error, MpcifyError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return interrupted(place)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        place = context.command_path if context else "mpcify"
        return MpcifyError(901, place, error.format_message().rstrip("."), f"see {place} --help")
    if isinstance(error, BrokenPipeError):
        return MpcifyError(109, "output", "its reader went away", "read all of it, or lead it to a file")
    if isinstance(error, ImportError) and (known := explained(error)):
        return known
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # it may be a text: it is not shown
        what = "what should name a file or a folder is too long for a name"
        return MpcifyError(901, place, what, "check the order of the arguments")
    if reason := disk_refusal(error):
        place = str(getattr(error, "filename", None) or "output")
        forbidden = isinstance(error, PermissionError)
        remedy = "run as a user who may" if forbidden else "free some space"
        return MpcifyError(109, place, reason, f"{remedy}, or name a place you may write")
    what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return MpcifyError(
        903, "mpcify", what.rstrip(": "), "set MPCIFY_DEBUG=1 to see where, and report it with the command"
    )


def disk_refusal(error: BaseException) -> str:
    """Why the disk refused to be written, or "": libraries written in Rust or C++ say it in their text alone."""
    if isinstance(error, OSError) and error.errno in DISK:
        return os.strerror(error.errno)
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return "there is no temporary folder that may be written (TMPDIR)"
    found = (os.strerror(code) for code in DISK[:3] if os.strerror(code) in str(error))
    return next(found, "")


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("MPCIFY_DEBUG", "") not in ("", "0")
