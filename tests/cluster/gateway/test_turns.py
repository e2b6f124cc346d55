"""Requests take turns, a bounded number waits, and the end comes after the one that runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mpcify.cluster.gateway.application import application
from mpcify.cluster.gateway.bodies import Bounds
from tests.cluster.gateway.service import TOKEN, FakeModel, Service, serving, until


class Slow:
    """Answers that begin at once and end when `go` is set. running: how many are between; most: at any time."""

    def __init__(self) -> None:
        self.go, self.running, self.most, self.asked = threading.Event(), 0, 0, []

    def __call__(self, items: list[Any]) -> list[list[float]]:
        self.running += 1
        self.most, self.asked = max(self.most, self.running), [*self.asked, *items]
        assert self.go.wait(30)
        self.running -= 1
        return [[0.0, 1.0]] * len(items)


@pytest.fixture
def slow() -> Iterator[Slow]:
    found = Slow()
    yield found
    found.go.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


def test_one_runs_a_few_wait_and_the_rest_come_again(slow: Slow, pool: ThreadPoolExecutor) -> None:
    app = application(FakeModel(slow), TOKEN, waiting=2)
    with serving(app) as service:
        running = [pool.submit(service.ask, ["a"])]
        until(lambda: slow.running)
        for count in (2, 3):
            running.append(pool.submit(service.ask, ["b"]))
            until(lambda count=count: app.state.turns.inside == count)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
        status, answer_headers, body = service.send("POST", "/v1/classify", b'{"inputs": ["c"]}', **headers)
        assert (status, json.loads(body)["error"]["code"]) == (503, "MPC-708")
        assert int(answer_headers["retry-after"]) >= 1
        assert service.get("/health")[0] == 200
        slow.go.set()
        assert [future.result(30)[0] for future in running] == [200] * 3
        assert service.ask(["d"])[0] == 200
    assert (slow.most, slow.asked) == (1, ["a", "b", "b", "d"])


def test_what_the_model_refuses_takes_no_turn(slow: Slow, pool: ThreadPoolExecutor) -> None:
    with serving(application(FakeModel(slow), TOKEN)) as service:
        first = pool.submit(service.ask, ["a"])
        until(lambda: slow.running)
        assert service.ask([""])[0] == 422
        slow.go.set()
        assert first.result(30)[0] == 200


def send_and_leave(service: Service, text: str) -> None:
    """Asks, and goes away."""
    body = json.dumps({"inputs": [text]})
    lines = ("POST /v1/classify HTTP/1.1", f"Host: localhost:{service.port}", f"Authorization: Bearer {TOKEN}")
    request = "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {len(body)}", "", body))
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(request.encode())
        time.sleep(0.1)


def test_whoever_goes_away_breaks_nothing_and_is_not_answered(slow: Slow, pool: ThreadPoolExecutor) -> None:
    app = application(FakeModel(slow), TOKEN)
    with serving(app) as service:
        send_and_leave(service, "left while it ran")
        until(lambda: slow.running)
        send_and_leave(service, "left while it waited")
        last = pool.submit(service.ask, ["stayed"])
        until(lambda: app.state.turns.inside == 3)
        slow.go.set()
        assert last.result(30)[0] == 200
        until(lambda: app.state.turns.inside == 0)
    assert slow.asked == ["left while it ran", "stayed"]


def test_a_body_that_does_not_come_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.cluster.gateway.application.TEXTS", Bounds(1 << 20, seconds=0.2))
    app = application(FakeModel(), TOKEN)
    with serving(app) as service:
        lines = ("POST /v1/classify HTTP/1.1", f"Host: localhost:{service.port}", f"Authorization: Bearer {TOKEN}")
        request = "\r\n".join((*lines, "Content-Type: application/json", "Content-Length: 99", "", '{"inputs"'))
        with socket.create_connection(("127.0.0.1", service.port), 5) as line:
            line.sendall(request.encode())
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")
        assert app.state.turns.inside == 0


SERVED = """
import threading, time
from mpcify.cli.main import interrupt_once
from mpcify.cluster.gateway.application import application
from mpcify.cluster.gateway.serving import listen, serve
from tests.cluster.gateway.service import TOKEN, FakeModel

def answer(items):
    print("running", flush=True)
    time.sleep(1.0)
    return [[0.0, 1.0]]

interrupt_once()
with listen("127.0.0.1", 0) as listening:
    print(listening.getsockname()[1], flush=True)
    app = application(FakeModel(answer), TOKEN)
    serve(app, listening, app.state.turns.close)
print("answered", app.state.turns.answered, flush=True)
"""


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_when_it_is_told_to_end_the_request_that_runs_is_answered(told: int, pool: ThreadPoolExecutor) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", SERVED], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    with program:
        assert program.stdout is not None
        service = Service(int(program.stdout.readline()))
        first = pool.submit(service.ask, ["a"])
        assert program.stdout.readline() == "running\n"
        second = pool.submit(service.ask, ["b"])
        time.sleep(0.2)
        program.send_signal(told)
        status, answer = second.result(30)
        assert (status, answer["error"]["code"]) == (503, "MPC-708")
        assert first.result(30)[0] == 200
        assert program.wait(30) == 0
        assert program.stdout.read() == "answered 1\n"
