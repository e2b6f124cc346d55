"""Logs: one event a line, public facts alone, whatever goes wrong."""

import ast
import io
import json
import logging
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import mpcify
from mpcify.cluster.logs import Form, Log, libraries
from mpcify.data.tables import read_text
from mpcify.errors import MpcifyError

SECRET = "a gripping film"
SESSION = "0123456789abcdef" * 4


def written(log: Log) -> list[dict[str, Any]]:
    """The events so far, without their times."""
    assert isinstance(log.stream, io.StringIO)
    events = [json.loads(line) for line in log.stream.getvalue().splitlines()]
    return [{name: value for name, value in event.items() if name != "time"} for event in events]


def make(form: Form = "json") -> Log:
    return Log("owner", form, io.StringIO())


def test_an_event_is_a_json_object_a_line() -> None:
    log = make()
    log.event("request-answered", session=SESSION, request=3, length=64, seconds=1.23456, bytes=900)
    log.event("http", route="/v1/classify", status=200)
    log.event("peer-gone", "warning", peer="helper", reason="timed-out", code=706, address="[::1]:7000")
    assert written(log) == [
        {"level": "info", "party": "owner", "event": "request-answered", "session": "01234567", "request": 3}
        | {"length": 64, "seconds": 1.235, "bytes": 900},
        {"level": "info", "party": "owner", "event": "http", "route": "/v1/classify", "status": 200},
        {"level": "warning", "party": "owner", "event": "peer-gone", "code": 706, "peer": "helper"}
        | {"reason": "timed-out", "address": "[::1]:7000"},
    ]


def test_the_time_is_utc() -> None:
    log = make()
    log.event("started")
    assert isinstance(log.stream, io.StringIO)
    time = json.loads(log.stream.getvalue())["time"]
    assert time.endswith("Z")
    assert len(time) == len("2026-01-31T12:00:00.000Z")


def test_text_is_one_line_for_people() -> None:
    log = make("text")
    log.event("session-opened", session=SESSION, days=29.96)
    assert isinstance(log.stream, io.StringIO)
    assert log.stream.getvalue().split(" ", 1)[1] == "info owner session-opened session=01234567 days=30.0\n"


def test_there_is_no_field_for_anything_else() -> None:
    with pytest.raises(TypeError, match="text"):
        make().event("request-answered", text=SECRET)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "facts",
    [
        {"session": SECRET},
        {"session": "0123"},
        {"peer": SECRET},
        {"reason": SECRET},
        {"reason": "x" * 21},
        {"address": f"{SECRET}:80"},
        {"address": "127.0.0.1"},
        {"route": f"/v1/{SECRET}"},
        {"status": "200"},
        {"request": SECRET},
        {"length": "64"},
        {"bytes": b"share"},
        {"position": True},
        {"seconds": float("nan")},
        {"days": "thirty"},
        {"code": 1000},
        {"library": "grpc says"},
        {"error": "ValueError: no"},
        {"place": "/home/user/party.py:1 x"},
    ],
    ids=lambda facts: f"{facts}",
)
def test_a_fact_of_another_form_is_refused_and_not_quoted(facts: dict[str, Any]) -> None:
    log = make()
    with pytest.raises(ValueError) as refused:
        log.event("request-answered", **facts)
    assert str(*facts.values()) not in str(refused.value)
    assert written(log) == []


@pytest.mark.parametrize("event", ["", "Request answered", SECRET, "a\nb"])
def test_an_event_is_words_with_hyphens(event: str) -> None:
    with pytest.raises(ValueError, match="event"):
        make().event(event)


def test_an_error_is_its_number_type_and_place(tmp_path: Path) -> None:
    log = make()
    try:
        read_text(tmp_path / SECRET)
    except MpcifyError as error:
        log.failure("request-failed", error, level="warning", session=SESSION, request=4, peer="owner")
    (event,) = written(log)
    place = event.pop("place").split(":")
    assert event == {"level": "warning", "party": "owner", "event": "request-failed", "session": "01234567"} | {
        "request": 4,
        "code": 101,
        "peer": "owner",
        "error": "MpcifyError",
    }
    line = (Path(mpcify.__file__).parent / place[0]).read_text(encoding="utf-8").splitlines()[int(place[1]) - 1]
    assert "raise MpcifyError(101" in line


def test_what_an_exception_says_is_not_written() -> None:
    log = make()
    log.failure("request-failed", ValueError(SECRET))
    assert written(log) == [
        {"level": "error", "party": "owner", "event": "request-failed", "code": 903, "error": "ValueError"}
    ]


def test_libraries_are_heard_without_their_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    log = make()
    before = logging.getLogger().handlers[:]
    with libraries(log):
        logging.getLogger("grpc._channel").warning("%s", SECRET)
        logging.getLogger("uvicorn.error").error(SECRET)
        logging.getLogger("uvicorn.access").info(SECRET)
        logging.getLogger(SECRET).error(SECRET)
        warnings.warn(SECRET, UserWarning, stacklevel=1)
        assert os.environ["GRPC_VERBOSITY"] == "NONE"
    assert [(event["event"], event["level"], event["library"]) for event in written(log)] == [
        ("library", "warning", "grpc"),
        ("library", "error", "uvicorn"),
        ("library", "error", "unnamed"),
        ("library", "warning", "py"),
    ]
    assert logging.getLogger().handlers == before


def test_a_lost_thread_is_an_event_too() -> None:
    log = make()

    def fail() -> None:
        raise KeyError(SECRET)

    with libraries(log):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert written(log) == [
        {"level": "error", "party": "owner", "event": "thread-failed", "code": 903, "error": "KeyError"}
    ]


def test_nobody_has_to_read() -> None:
    log = make()
    assert log.stream is not None
    log.stream.close()
    log.event("started")


def test_lines_of_many_threads_do_not_mix() -> None:
    log = make()
    threads = [threading.Thread(target=lambda: [log.event("beat", request=n) for n in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written(log)) == 400


def test_events_are_words_of_the_source() -> None:
    """No event's name is computed, so none can carry a value."""
    found = 0
    for path in (Path(mpcify.__file__).parent / "cluster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name("log") | ast.Attribute(attr="log"), "event" | "failure")):
                    first = node.args[0]
                    words = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                    assert all(isinstance(word, ast.Constant) for word in words), f"{path.name}:{node.lineno}"
                    found += 1
    assert found >= 3
