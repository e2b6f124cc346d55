"""What a party writes down: one event a line on stderr, with public facts alone.

The parameters of `Log.event` are all the facts that there are, and each has a narrow form: a sentence, a share or a key
fits in none of them. What libraries log and what exceptions say may hold anything: their kind alone is written.
"""

import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import mpcify
from mpcify.errors import CODES, MpcifyError

Level = Literal["info", "warning", "error"]
Form = Literal["json", "text"]

WORDS = re.compile(r"[a-z]{1,20}(-[a-z]{1,20}){0,5}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
SESSION = re.compile(r"[0-9a-f]{8,}")
ROUTE = re.compile(r"(/[a-z0-9.]{0,20}){1,3}|other")
PLACE = re.compile(r"[a-z_/]{1,80}\.py:[0-9]{1,6}")
UNEXPECTED = 903


class Log:
    """The events of one party. Any thread may write.

    party: its name. form: "json", an object a line, or "text", for people. stream: None is stderr.
    """

    def __init__(self, party: str, form: Form = "json", stream: TextIO | None = None) -> None:
        self.party = fitting("party", party, WORDS)
        self.form, self.stream, self.lock = form, stream, threading.Lock()

    def event(
        self,
        event: str,
        level: Level = "info",
        *,
        session: str | None = None,
        request: int | None = None,
        length: int | None = None,
        seconds: float | None = None,
        bytes: int | None = None,
        code: int | None = None,
        peer: str | None = None,
        reason: str | None = None,
        address: str | None = None,
        days: float | None = None,
        position: int | None = None,
        route: str | None = None,
        status: int | None = None,
        library: str | None = None,
        error: str | None = None,
        place: str | None = None,
    ) -> None:
        """Writes an event with its public facts.

        event, reason, peer: words with hyphens. session: its id, of which the first 8 digits are written. code: of an
        error. position: in the file of known answers. route, status: of an HTTP request. library: that logged something
        itself. error: the type of an exception. place: where in mpcify it was raised. Raises ValueError for a fact that
        has not its form, TypeError for another.
        """
        facts: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "party": self.party,
            "event": fitting("event", event, WORDS),
            "session": session and fitting("session", session, SESSION)[:8],
            "request": counted("request", request),
            "length": counted("length", length),
            "seconds": measured("seconds", seconds, 3),
            "bytes": counted("bytes", bytes),
            "code": code,
            "peer": fitting("peer", peer, WORDS),
            "reason": fitting("reason", reason, WORDS),
            "address": fitting("address", address, ADDRESS),
            "days": measured("days", days, 1),
            "position": counted("position", position),
            "route": fitting("route", route, ROUTE),
            "status": counted("status", status),
            "library": fitting("library", library, NAME),
            "error": fitting("error", error, NAME),
            "place": fitting("place", place, PLACE),
        }
        if code is not None and code not in CODES:
            raise ValueError("a log's code is not in the table")
        self.write({name: value for name, value in facts.items() if value is not None})

    def failure(
        self,
        event: str,
        failed: BaseException,
        *,
        level: Level = "error",
        session: str | None = None,
        request: int | None = None,
        peer: str | None = None,
        position: int | None = None,
    ) -> None:
        """Writes an event that an exception caused: its number (903 if it has none), its type and its place alone."""
        code = failed.code if isinstance(failed, MpcifyError) else UNEXPECTED
        self.event(
            event,
            level,
            code=code,
            error=type(failed).__name__,
            place=place_of(failed.__traceback__),
            session=session,
            request=request,
            peer=peer,
            position=position,
        )

    def write(self, facts: dict[str, Any]) -> None:
        """One line, in one piece; lost if nobody reads it."""
        stream = sys.stderr if self.stream is None else self.stream
        line = json.dumps(facts) if self.form == "json" else readable(facts)
        with self.lock, suppress(OSError, ValueError):  # ValueError: the stream is closed
            stream.write(f"{line}\n")
            stream.flush()


def fitting(name: str, value: Any, form: re.Pattern[str]) -> Any:
    """A word that has its form, or None. Raises ValueError, without the value, for anything else."""
    if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
        raise ValueError(f"a log's {name} has not its form")
    return value


def counted(name: str, value: Any) -> Any:
    """A whole number, or None. Raises ValueError, without the value, for anything else."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"a log's {name} is no whole number")
    return value


def measured(name: str, value: Any, digits: int) -> float | None:
    """A finite number, rounded, or None. Raises ValueError, without the value, for anything else."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"a log's {name} is no finite number")
    return round(float(value), digits)


def readable(facts: dict[str, Any]) -> str:
    """An event as people read it: the same facts in the same order."""
    first = ("time", "level", "party", "event")
    return " ".join([*(facts[name] for name in first), *(f"{k}={v}" for k, v in facts.items() if k not in first)])


def place_of(trace: TracebackType | None) -> str | None:
    """The innermost line of mpcify that an exception passed, as `cluster/party.py:12`; None if it passed none."""
    found = None
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            found = f"{file.relative_to(PACKAGE).as_posix()}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


PACKAGE = Path(mpcify.__file__).parent


class Libraries(logging.Handler):
    """Writes that a library logged a warning or an error, not what it said."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        name = record.name.partition(".")[0]
        level: Level = "warning" if record.levelno < logging.ERROR else "error"
        self.log.event("library", level, library=name if NAME.fullmatch(name) else "unnamed")


@contextmanager
def libraries(log: Log) -> Iterator[None]:
    """While it lasts, what libraries and lost threads write to stderr becomes events without their texts.

    Enter it before gRPC is imported: its C core logs by itself, unless it is told not to.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    root, hook = logging.getLogger(), threading.excepthook
    before = root.handlers[:]

    def lost(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.failure("thread-failed", args.exc_value)

    root.handlers[:] = [Libraries(log)]
    threading.excepthook = lost
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        threading.excepthook = hook
        root.handlers[:] = before
