"""A gateway in a thread, around a model that is not there, and a client that asks it."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
from starlette.applications import Starlette

from mpcify.cluster.gateway.serving import listen, server_of
from mpcify.engines.cost import Cost
from mpcify.graph.about import About, TextFacts, task_named
from mpcify.requests.text import TextRequests
from tests.makers import WORDS, make_tokenizer

TOKEN = "a-token-of-more-than-thirty-two-letters"
PARTIES = ("client", "owner", "helper")
COST = Cost(1.25, 6_000_000, 700, {"client": 3_000_000, "owner": 2_000_000, "helper": 1_000_000})
LABELS = ("negative", "positive")


class FakeModel:
    """What the gateway uses of a private model: real requests, and logits that a function makes."""

    truncate, length = False, None

    def __init__(
        self,
        answer: Callable[[list[Any]], Sequence[Sequence[float]]] | None = None,
        task: str = "classification",
        labels: tuple[str, ...] = LABELS,
    ) -> None:
        facts = TextFacts(len(WORDS), 40, True, "right", 40, 2, None)
        self.about = About("", "reviews", "bert", task_named(task, labels), "2quad-freediv", "client", facts)
        self.requests = TextRequests(make_tokenizer(), facts)
        self.engine = SimpleNamespace(parties=PARTIES)
        self.answer = answer or (lambda items: [[0.0, 1.0]] * len(items))

    def __call__(self, items: list[Any]) -> tuple[np.ndarray, Cost]:
        return np.array(self.answer(items), np.float32), COST

    def ready(self) -> None:
        """A session can be opened."""

    def open(self, length: int) -> None:
        """A length can be asked for."""


class Service:
    """A gateway that runs; `ask` and `get` are its caller."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (in lower case) and body. headers: with _ for -."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all of a body
                line.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = line.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            line.close()

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON."""
        status, _, body = self.send("GET", path)
        return status, json.loads(body)

    def ask(self, inputs: Any, route: str = "/v1/classify") -> tuple[int, Any]:
        """Status and JSON of a request as it should be."""
        return self.post(json.dumps({"inputs": inputs}).encode(), route)

    def post(self, body: bytes, route: str = "/v1/classify", **headers: str) -> tuple[int, Any]:
        """Status and JSON of any body."""
        usual = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
        status, _, answer = self.send("POST", route, body, **{**usual, **headers})
        return status, json.loads(answer)


@contextmanager
def serving(app: Starlette) -> Iterator[Service]:
    """Serves an application for the time of a block."""
    with serving_at(app, 0) as service:
        yield service


@contextmanager
def serving_at(app: Starlette, port: int) -> Iterator[Service]:
    """Serves an application at a port; 0: at any."""
    with listen("127.0.0.1", port) as listening:
        server = server_of(app, app.state.turns.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Service(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def until(happened: Callable[[], object]) -> None:
    """Returns once something has happened. Raises TimeoutError after 20 s."""
    end = time.monotonic() + 20
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)
