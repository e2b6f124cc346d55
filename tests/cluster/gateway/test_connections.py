"""Who opens connections and asks nothing, and what is no HTTP."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any

import pytest

from mpcify.cluster.gateway import connections
from mpcify.cluster.gateway.application import application
from mpcify.cluster.logs import Log
from tests.cluster.gateway.service import TOKEN, FakeModel, Service, serving, until
from tests.cluster.gateway.test_refusals import raw

HEAD = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
BODY = b'{"inputs": ["a"]}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD", 0.3)
    monkeypatch.setattr(connections, "SPARE", 4)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def service(log: io.StringIO) -> Iterator[Service]:
    with serving(application(FakeModel(), TOKEN, log=Log("client", stream=log))) as found:
        yield found


def line(service: Service, *pieces: bytes) -> socket.socket:
    """A connection on which these bytes were sent."""
    opened = socket.create_connection(("127.0.0.1", service.port), 5)
    for piece in pieces:
        opened.sendall(piece)
    return opened


def request(service: Service, *lines: str) -> bytes:
    """The head of a request with the token, and its body."""
    head = HEAD.replace("localhost", f"localhost:{service.port}")
    rest = ("Content-Type: application/json", f"Content-Length: {len(BODY)}", *lines, "", "")
    return head.encode() + "\r\n".join(rest).encode() + BODY


def status(asked: socket.socket) -> int:
    """The status of the next answer on a connection, which is read whole."""
    with HTTPResponse(asked) as answer:
        answer.begin()
        answer.read()
        return answer.status


def check(answer: bytes, status: int) -> None:
    """It is a refusal in the project's words, with what each answer says to browsers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    for header in (b"content-type: application/json", b"connection: close", b"x-content-type-options: nosniff"):
        assert header in head.lower()
    assert json.loads(body)["error"]["code"] == "MPC-709"


def test_a_connection_without_a_request_is_closed(service: Service) -> None:
    assert raw(service, b"") == b""


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_a_head_that_does_not_come_to_its_end_is_refused(service: Service, log: io.StringIO, before: int) -> None:
    answer = raw(service, before * request(service) + b"GET /health HTTP/1.1\r\nHost: ")
    check(answer[answer.rindex(b"HTTP/1.1 ") :], 408)
    assert json.loads(log.getvalue().splitlines()[-1])["status"] == 408


def test_a_head_that_comes_in_drops_does_not_stop_the_clock(service: Service) -> None:
    ended = threading.Event()
    with line(service, b"GET / HTTP/1.1\r\n") as dropping:
        dropping.settimeout(0.05)
        for _ in range(100):
            try:
                dropping.sendall(b"X: y\r\n")
                if b"408" in dropping.recv(100):
                    ended.set()
                    break
            except TimeoutError:
                continue
    assert ended.is_set()


def test_a_connection_that_waits_for_its_next_request_is_not_hurried(service: Service) -> None:
    with line(service, request(service)) as waiting:
        assert status(waiting) == 200
        threading.Event().wait(0.5)
        waiting.sendall(request(service))
        assert status(waiting) == 200


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000]
)
def test_what_is_no_http_is_refused_in_json_and_logged(service: Service, log: io.StringIO, sent: bytes) -> None:
    check(raw(service, sent + b"\r\n\r\n"), 400)
    event = json.loads(log.getvalue())
    assert {key: event[key] for key in ("event", "route", "status", "code")} == {
        "event": "request",
        "route": "other",
        "status": 400,
        "code": 709,
    }


def test_a_body_that_breaks_off_the_rules_of_http_is_refused_once(service: Service, log: io.StringIO) -> None:
    head = request(service).partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    check(raw(service, head + b"no number\r\n"), 400)
    until(log.getvalue)
    assert [json.loads(each)["code"] for each in log.getvalue().splitlines()] == [709]


def test_connections_without_a_token_shut_nobody_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD", 20.0)
    with ExitStack() as held:
        crowd = [held.enter_context(line(service, *[b"GET / HTTP/1.1\r\n"] * (place % 2))) for place in range(20)]
        assert service.ask(["a"])[0] == 200
        crowd[0].settimeout(5)
        assert crowd[0].recv(1) == b""


def test_a_request_with_the_token_is_closed_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD", 20.0)
    asked, answer = threading.Event(), threading.Event()

    def slow(items: list[Any]) -> list[list[float]]:
        asked.set()
        answer.wait(10)
        return [[0.0, 1.0]] * len(items)

    with serving(application(FakeModel(slow), TOKEN)) as service, ExitStack() as held:
        mine = held.enter_context(line(service, request(service)))
        assert asked.wait(5)
        for _ in range(20):
            held.enter_context(line(service))
        answer.set()
        assert status(mine) == 200


def test_an_idle_connection_that_had_the_token_outlives_those_that_had_none(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD", 20.0)
    with ExitStack() as held:
        mine = held.enter_context(line(service, request(service)))
        assert status(mine) == 200
        for _ in range(20):
            held.enter_context(line(service))
        assert service.get("/health")[0] == 200
        mine.sendall(request(service))
        assert status(mine) == 200
