"""A delegate, an owner's desk and thin clients around a cluster in this process, each behind its own HTTP."""

import http.client
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.cluster.addresses import Address
from mpcify.cluster.client import Connection
from mpcify.cluster.desk import Desk
from mpcify.cluster.gateway.halves import Delegate, Owner, halves_application
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.halves import BINARY, ID, LENGTH, PROGRAM, ROUTE
from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.cluster.thin.client import ThinConnection
from mpcify.cluster.thin.config import Url
from mpcify.cluster.thin.line import Place
from mpcify.cluster.witness import Witness
from mpcify.graph.exported import read_all
from mpcify.inference import PrivateModel
from mpcify.network.memory import MemoryNetwork
from tests.cluster.conftest import Cluster
from tests.cluster.gateway.service import Service, serving
from tests.cluster.trusting import DelegatedConfig
from tests.graph.bags import answers

TOKENS = {"delegate": "the-delegates-token-of-32-letters", "owner": "the-owners-token-of-32-letters-or-more"}
TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
INPUTS = {"embeddings": np.zeros((2, 4, 6), np.float32)}

BOTH = pytest.mark.parametrize("name", TOKENS)


class Delegated:
    """Owner and dealer serve, a gateway asks as the delegate, and the owner's desk is open. hold: seconds at it."""

    def __init__(self, exported: Path, hold: float = 20.0, waiting: int = 16, timeout: float = 20.0) -> None:
        self.cluster = Cluster(exported, timeout=timeout, engine=DelegatedConfig().build())
        self.metrics = {role: Metrics(role) for role in ("client", "owner")}
        self.logs = {role: StringIO() for role in ("client", "owner")}
        self.desk, self.hold, self.waiting = Desk(self.metrics["owner"]), hold, waiting
        self.programs = self.cluster.programs("client")
        self.connection: Connection
        self.delegate: Service
        self.owner: Service

    @contextmanager
    def running(self) -> Iterator["Delegated"]:
        with ExitStack() as stack:
            self.cluster.start("owner", desk=self.desk, witness=self.witness("owner"))
            self.cluster.start("dealer")
            stack.callback(lambda: [self.cluster.stop(role) for role in [*self.cluster.services]])
            network = MemoryNetwork("client", self.cluster.board)
            self.connection = Connection(self.programs, network, 2.0, self.witness("client"))
            stack.callback(self.connection.close)
            turns = Turns(self.waiting), Turns(self.waiting)
            takers = {"client": Delegate(self.connection, turns[0]), "owner": Owner(self.desk, self.hold)}
            services = []
            for (role, taker), token, mine in zip(takers.items(), TOKENS.values(), turns, strict=True):
                app = halves_application(taker, self.cluster.programs(role), token, mine, log=self.log(role))
                services.append(stack.enter_context(serving(app)))
            self.delegate, self.owner = services
            stack.callback(self.desk.close)
            yield self

    def log(self, role: str) -> Log:
        return Log(role, stream=self.logs[role])

    def witness(self, role: str) -> Witness:
        return Witness(self.log(role), self.metrics[role])

    def thin(self, answer: float = 20.0, **tokens: str) -> ThinConnection:
        """A thin client's end, which asks for nothing yet. tokens: other ones than it should have."""
        ports = {"delegate": self.delegate.port, "owner": self.owner.port}
        places = [
            Place(name, Url(False, Address("127.0.0.1", port)), {**TOKENS, **tokens}[name], 2.0, answer)
            for name, port in ports.items()
        ]
        return ThinConnection(self.programs, *places)

    def model(self, **options: Any) -> PrivateModel:
        """A thin client's model."""
        return PrivateModel(self.programs.exported, self.cluster.engine, self.thin(**options))

    def sessions(self) -> int:
        """How many were opened so far."""
        return int(self.metrics["client"].registry.get_sample_value("mpcify_sessions_total") or 0)

    def service(self, name: str) -> Service:
        return self.delegate if name == "delegate" else self.owner

    def headers(self, name: str, id: str, length: int = 4, **other: str) -> dict[str, str]:
        """Headers of a half as they should be, but for others."""
        usual = {
            "Authorization": f"Bearer {TOKENS[name]}",
            "Content-Type": BINARY,
            ID: id,
            LENGTH: str(length),
            PROGRAM: self.programs.digest(length),
        }
        return {**usual, **other}

    def post(self, name: str, half: bytes, id: str = "", **other: str) -> tuple[int, dict[str, str], bytes]:
        """What delegate or owner answers to a half."""
        headers = self.headers(name, id or secrets.token_hex(16))
        renamed = {key.replace("_", "-"): value for key, value in other.items()}
        return self.service(name).send("POST", ROUTE, half, **{**headers, **renamed})

    def halves(self, text: int = 0) -> dict[str, bytes]:
        """Both halves of made-up inputs of length 4, which differ by `text`."""
        sharing = self.programs.by_length[4].sharing
        assert sharing is not None
        shape = self.programs.by_length[4].graph.held_by("client")[0].shape
        return dict(zip(TOKENS, sharing.split({"embeddings": np.full(shape, text, np.float32)}), strict=True))


def in_thread(work: Any, *given: Any, **named: Any) -> tuple[threading.Thread, list[Any]]:
    """Does something in a thread of its own; its result stands in the list when it is done."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work(*given, **named)), daemon=True)
    thread.start()
    return thread, found


def code_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Status and number of a refusal."""
    status, _, body = answer
    return status, json.loads(body)["error"]["code"]


def serves(cluster: Delegated, exported: Path) -> None:
    """A thin client is answered rightly."""
    with cluster.model() as private:
        np.testing.assert_allclose(private(TEXTS)[0], answers(read_all(exported)), rtol=1e-6)


def leave(cluster: Delegated, name: str, id: str) -> http.client.HTTPConnection:
    """Posts a half, and does not wait for its answer."""
    line = http.client.HTTPConnection("127.0.0.1", cluster.service(name).port, timeout=10)
    line.request("POST", ROUTE, cluster.halves()[name], cluster.headers(name, id))
    return line
