"""Health: a probe is answered by what the service says of itself, and nobody can hold it up."""

import http.client
import socket
from collections.abc import Iterator

import pytest

from mpcify.cluster import health as module
from mpcify.cluster.health import PLACES, Health
from mpcify.cluster.metrics import Metrics
from mpcify.errors import MpcifyError


class Clock:
    """Time that passes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Iterator[Health]:
    with Health("127.0.0.1", 0, Metrics("owner"), clock) as health:
        yield health


def ask(health: Health, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", health.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def sent(health: Health, content: bytes) -> bytes:
    """What comes back for some bytes, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", health.port), timeout=10) as connection:
        try:
            connection.sendall(content)
            return b"".join(iter(lambda: connection.recv(4096), b""))
        except ConnectionError:
            return b""


def test_a_party_lives_as_long_as_its_service_beats(health: Health, clock: Clock) -> None:
    assert ask(health, "/live") == (200, "ok\n")
    clock.now += module.PATIENCE
    assert ask(health, "/live") == (503, "stuck\n")
    health.beat()
    assert ask(health, "/live") == (200, "ok\n")


def test_a_long_step_is_announced(health: Health, clock: Clock) -> None:
    health.beat(within=600)
    clock.now += 599
    assert ask(health, "/live")[0] == 200
    clock.now += 1
    assert ask(health, "/live")[0] == 503


def test_a_party_is_ready_when_the_service_says_so(health: Health, clock: Clock) -> None:
    assert ask(health, "/ready") == (503, "starting\n")
    health.ready(True)
    assert ask(health, "/ready?full=1") == (200, "ok\n")
    health.ready(False, "draining")
    assert ask(health, "/ready") == (503, "draining\n")
    assert ask(health, "/live")[0] == 200


def test_who_is_stuck_is_not_ready(health: Health, clock: Clock) -> None:
    health.ready(True)
    clock.now += module.PATIENCE
    assert ask(health, "/ready") == (503, "stuck\n")


@pytest.mark.parametrize("ok, why", [(True, "draining"), (False, ""), (False, "key 1234")])
def test_only_known_reasons_are_shown(health: Health, ok: bool, why: str) -> None:
    with pytest.raises(ValueError, match="readiness"):
        health.ready(ok, why)  # type: ignore[arg-type]


def test_metrics_are_there_with_the_readiness(health: Health) -> None:
    assert "mpcify_ready 0.0" in ask(health, "/metrics")[1]
    health.ready(True)
    status, text = ask(health, "/metrics")
    assert status == 200
    assert "mpcify_ready 1.0" in text


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_get(health: Health, method: str) -> None:
    assert ask(health, "/live", method)[0] == 405


@pytest.mark.parametrize("path", ["/", "/live/", "/../etc/passwd", "/secret-of-mine"])
def test_no_other_path_and_no_echo_of_it(health: Health, path: str) -> None:
    assert ask(health, path) == (404, "/live, /ready, /metrics\n")


@pytest.mark.parametrize("line", [b"GET /live", b"\x00\xff", b"GET", b"", b"GET /live HTTP/9"])
def test_what_is_no_http_is_refused(health: Health, line: bytes) -> None:
    assert sent(health, line + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_long_request_is_cut_off(health: Health) -> None:
    assert sent(health, b"GET /live HTTP/1.1\r\nX: " + b"x" * 1_000_000) == b""
    assert ask(health, "/live")[0] == 200


def test_who_is_slow_is_cut_off(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE", 0.2)
    assert sent(health, b"GET /live HT") == b""


def test_idlers_cannot_take_more_than_their_places(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE", 1.0)
    idlers = [socket.create_connection(("127.0.0.1", health.port), timeout=10) for _ in range(PLACES)]
    assert sent(health, b"") == b""  # one too many, cut off at once
    assert [idler.recv(1) for idler in idlers] == [b""] * PLACES  # and these after the deadline
    for idler in idlers:
        idler.close()
    assert ask(health, "/live")[0] == 200


def test_a_host_that_there_is_not_is_named_as_such() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-701 health: .*nowhere.invalid, port 7000 \([A-Z][a-z ]+\)"):
        Health("nowhere.invalid", 7000, Metrics("client"))


def test_a_taken_port_is_a_numbered_error(health: Health) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-701 health: nothing can listen at 127.0.0.1, port {health.port}"):
        Health("127.0.0.1", health.port, Metrics("owner"))


def test_closing_ends_the_thread_and_what_is_under_way(health: Health) -> None:
    with socket.create_connection(("127.0.0.1", health.port), timeout=10) as idler:
        ask(health, "/live")  # by now the idler is let in
        health.close()
        health.close()
        assert not health.thread.is_alive()
        assert idler.recv(1) == b""
