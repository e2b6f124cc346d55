"""Who may not ask, and what is not answered."""

import io
import json
import socket
from contextlib import suppress
from typing import Any

import pytest

from mpcify.cluster.gateway.application import application
from mpcify.cluster.logs import Log
from mpcify.errors import MpcifyError
from tests.cluster.gateway.service import TOKEN, FakeModel, Service, serving

FOREIGN = ("evil.example", "evil.example:PORT", "localhost", "localhost:1", "10.0.0.1:PORT", "", "[::1]x:PORT")
SECRET = "the very good film"


@pytest.fixture(scope="module")
def service() -> Any:
    with serving(application(FakeModel(), TOKEN)) as found:
        yield found


def raw(service: Service, request: bytes) -> bytes:
    """What the gateway sends back to these bytes, until it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", service.port), 5) as line, suppress(ConnectionError):
        with suppress(ConnectionError):
            line.sendall(request)
        while piece := line.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize("given", [None, "Bearer", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
@pytest.mark.parametrize("route", ["/v1/classify", "/v1/regress", "/v1/other"])
def test_no_route_of_the_model_answers_without_the_token(service: Service, route: str, given: str | None) -> None:
    body = json.dumps({"inputs": [SECRET]}).encode()
    authorised = {} if given is None else {"Authorization": given}
    status, headers, answer = service.send("POST", route, body, Content_Type="application/json", **authorised)
    error = json.loads(answer)["error"]
    assert (status, headers["www-authenticate"], error["code"]) == (401, "Bearer", "MPC-709")
    assert {*error} == {"code", "where", "what", "remedy"}
    assert TOKEN not in answer.decode()


def test_the_token_is_asked_for_once_and_in_any_case(service: Service) -> None:
    assert service.post(b'{"inputs": ["a"]}', Authorization=f"bearer {TOKEN}")[0] == 200
    twice = f"Authorization: Bearer {TOKEN}\r\n" * 2
    request = f"POST /v1/classify HTTP/1.1\r\nHost: localhost:{service.port}\r\n{twice}Connection: close\r\n\r\n"
    assert b" 401 " in raw(service, request.encode()).partition(b"\r\n")[0]


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json"])
def test_a_page_whose_name_was_made_to_point_here_gets_nothing(service: Service, host: str, path: str) -> None:
    status, _, body = service.send("GET", path, Host=host.replace("PORT", str(service.port)))
    assert (status, json.loads(body)["error"]["code"]) == (421, "MPC-709")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "[::1]"])
def test_every_name_of_this_machine_itself_will_do(service: Service, host: str) -> None:
    assert service.send("GET", "/health", Host=f"{host}:{service.port}")[0] == 200


def test_no_other_site_may_read_an_answer(service: Service) -> None:
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/v1/classify"), ("OPTIONS", "/v1/classify")):
        _, headers, _ = service.send(method, path, Origin="https://evil.example")
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'"inputs"', 400),
        (b'{"inputs": "a text"}', 400),
        (b'{"inputs": [1]}', 400),
        (b'{"inputs": [null]}', 400),
        (b'{"inputs": [["a"]]}', 400),
        (b'{"inputs": [["a", "b", "c"]]}', 400),
        (b'{"inputs": [["a", 1]]}', 400),
        (b'{"inputs": [[["a"], "b"]]}', 400),
        (b'{"inputs": ["a"], "more": 1}', 400),
        (b'{"inputs": ["a"], "inputs": ["b"]}', 400),
        (b'{"inputs": [NaN]}', 400),
        (b'{"inputs": ["\xff"]}', 400),
        (b"[" * 500_000, 400),
        (b'{"inputs":' * 50_000, 400),
        (b'{"inputs": [1' + b"0" * 10_000 + b"]}", 400),
        (json.dumps({"inputs": ["a"] * 65}).encode(), 413),
        (json.dumps({"inputs": ["a" * (1 << 20)]}).encode(), 413),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else str(value),
)
def test_a_body_of_another_form_is_refused(service: Service, body: bytes, status: int) -> None:
    found, answer = service.post(body)
    assert (found, answer["error"]["code"]) == (status, "MPC-709")


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([], 108),
        ([""], 105),
        (["a", " "], 105),
        (["\ud800"], 102),
        (["a\0"], 102),
        (["film " * 60], 106),
        ([["a film", ""]], 105),
    ],
)
def test_what_the_model_does_not_take_is_refused_with_its_own_number(service: Service, inputs: Any, code: int) -> None:
    status, answer = service.ask(inputs)
    assert (status, answer["error"]["code"]) == (422, f"MPC-{code}")


def test_a_body_says_that_it_is_json(service: Service) -> None:
    status, answer = service.post(b'{"inputs": ["a"]}', Content_Type="text/plain")
    assert (status, answer["error"]["code"]) == (415, "MPC-709")
    assert service.post(b'{"inputs": ["a"]}', Content_Type="application/json; charset=utf-8")[0] == 200


def head(service: Service, *more: str) -> bytes:
    """A request's first lines."""
    lines = ("POST /v1/classify HTTP/1.1", f"Host: 127.0.0.1:{service.port}", f"Authorization: Bearer {TOKEN}")
    return "\r\n".join((*lines, "Content-Type: application/json", *more, "", "")).encode()


def test_a_body_that_is_announced_too_large_is_not_waited_for(service: Service) -> None:
    answer = raw(service, head(service, f"Content-Length: {1 << 40}"))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large_is_not_read_to_its_end(service: Service) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"  # 64 KiB
    answer = raw(service, head(service, "Transfer-Encoding: chunked") + piece * 17)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_unknown_routes_and_methods_say_so_in_json(service: Service) -> None:
    assert service.get("/nowhere")[0] == 404
    status, headers, body = service.send("POST", "/health")
    assert (status, json.loads(body)["error"]["code"], "GET" in headers["allow"]) == (405, "MPC-709", True)
    authorised = {"Authorization": f"Bearer {TOKEN}"}
    assert service.send("GET", "/v1/classify", **authorised)[0] == 405
    assert service.send("POST", "/v1/other", **authorised)[0] == 404


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (MpcifyError(402, "logits", "not finite", "look"), 500, 402),
        (MpcifyError(503, "engine", "it failed", "see"), 500, 503),
        (MpcifyError(703, "owner", "nobody answers", "start it"), 503, 703),
        (MpcifyError(704, "owner", "it refuses", "see"), 502, 704),
        (MpcifyError(705, "owner", "another graph", "export again"), 502, 705),
        (MpcifyError(706, "owner", "it is gone", "ask again"), 503, 706),
        (MpcifyError(707, "owner", "a wrong word", "see"), 502, 707),
        (MpcifyError(708, "client", "many wait", "ask again"), 503, 708),
        (ValueError(SECRET), 500, 903),
        (KeyError(SECRET), 500, 903),
    ],
)
def test_a_failure_has_its_status_and_says_nothing_of_the_input(failure: Exception, status: int, code: int) -> None:
    def fail(items: list[Any]) -> Any:
        raise failure

    log = Log("client", stream=io.StringIO())
    with serving(application(FakeModel(fail), TOKEN, log=log)) as service:
        found, answer = service.ask([SECRET])
        assert service.get("/health")[0] == 200
    assert (found, answer["error"]["code"]) == (status, f"MPC-{code}")
    assert SECRET not in json.dumps(answer) + written(log)
    *failures, event, _ = events(log)
    assert (event["event"], event["status"], event["code"]) == ("request", status, code)
    assert [(event["event"], event["error"]) for event in failures] == (
        [("request-failed", type(failure).__name__)] if code == 903 else []
    )


def test_an_event_holds_what_is_public_alone() -> None:
    log = Log("client", stream=io.StringIO())
    with serving(application(FakeModel(), TOKEN, log=log)) as service:
        service.ask([SECRET])
        service.get(f"/{SECRET.replace(' ', '-')}?{SECRET.replace(' ', '-')}")
        service.post(json.dumps({"inputs": SECRET}).encode())
    assert [(event["event"], event["route"], event["status"]) for event in events(log)] == [
        ("request", "/v1/classify", 200),
        ("request", "other", 404),
        ("request", "/v1/classify", 400),
    ]
    assert all(event["seconds"] >= 0 for event in events(log))
    assert not [word for word in (SECRET, SECRET.replace(" ", "-"), TOKEN) if word in written(log)]


def written(log: Log) -> str:
    """What a log wrote."""
    assert isinstance(log.stream, io.StringIO)
    return log.stream.getvalue()


def events(log: Log) -> list[dict[str, Any]]:
    """The events of a log."""
    return [json.loads(line) for line in written(log).splitlines()]
