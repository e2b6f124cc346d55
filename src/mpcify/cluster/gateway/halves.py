"""What delegate and owner answer thin clients: a half of a request comes in, a half of its answer goes out."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mpcify.cluster.client import Connection
from mpcify.cluster.desk import Desk, ending
from mpcify.cluster.gateway.bodies import Bounds, body_of
from mpcify.cluster.gateway.description import halves_description
from mpcify.cluster.gateway.probes import Probes, guarded
from mpcify.cluster.gateway.refusals import BAD_REQUEST, CLOSED, CONFLICT, RefusedError, refused
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.halves import BINARY, COST, ID, LENGTH, PROGRAM, ROUTE, Half, Seen
from mpcify.cluster.handshake import SAME
from mpcify.cluster.logs import Log
from mpcify.cluster.orders import is_id
from mpcify.cluster.programs import Programs
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError

SECONDS = 120.0  # in which a half must be there
PAGE = """\
Here thin clients leave their halves of requests, which say nothing of their texts: POST /v1/halves.
There is nothing to type. Ask with a thin client's folder: mpcify infer --cluster FOLDER TEXT
"""


class Taker(ABC):
    """Who gets one half of every request."""

    @abstractmethod
    async def answer(self, half: Half, request: Request) -> tuple[bytes, Cost]:
        """Its half of the answer, and what it knows of the cost. request: whose caller waits for that."""

    @abstractmethod
    def ready(self) -> None:
        """Returns if a request could begin now; else raises why not."""


class Delegate(Taker):
    """The client's part in the cluster, run by others than those who ask: it orders the answers."""

    def __init__(self, connection: Connection, turns: Turns) -> None:
        self.connection, self.turns = connection, turns

    async def answer(self, half: Half, request: Request) -> tuple[bytes, Cost]:
        return await self.turns.run(partial(self.connection.ask_half, half), request.is_disconnected)

    def ready(self) -> None:
        self.connection.ready()


class Owner(Taker):
    """The owner's desk. hold: seconds that a half may wait there for the delegate's order."""

    def __init__(self, desk: Desk, hold: float) -> None:
        self.desk, self.hold = desk, hold

    async def answer(self, half: Half, request: Request) -> tuple[bytes, Cost]:
        held = self.desk.put(half)
        answer = asyncio.wrap_future(held.answer)
        gone = asyncio.ensure_future(disconnected(request))
        either: set[asyncio.Future[Any]] = {answer, gone}
        try:
            while True:
                await asyncio.wait(either, timeout=self.hold, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
                if gone.done():
                    raise refused(CLOSED, "its caller went away", "wait for the answer")
                if self.desk.expire(held):
                    what = f"its other half was not there within {self.hold:.0f} s"
                    raise MpcifyError(711, "request", what, "post both halves at once, under a new id")
        finally:
            self.desk.withdraw(held)
            answer.cancel()
            gone.cancel()

    def ready(self) -> None:
        if self.desk.closed:
            raise ending()


class Halves:
    """The routes of one party's halves."""

    def __init__(self, taker: Taker, programs: Programs, turns: Turns) -> None:
        self.taker, self.programs, self.turns, self.seen = taker, programs, turns, Seen()
        self.digests = {length: programs.digest(length) for length in programs.by_length}
        self.sizes = {
            length: program.sharing.half_sizes[programs.role]
            for length, program in programs.by_length.items()
            if program.sharing is not None
        }

    def routes(self) -> list[Route]:
        """The routes, of which the last two want the token."""
        return [
            Route("/", self.show_page),
            Route(ROUTE, self.ask, methods=["POST"]),
            Route(ROUTE, self.tell, methods=["GET"]),
        ]

    async def show_page(self, request: Request) -> Response:
        """What this is, for people."""
        return PlainTextResponse(PAGE)

    async def tell(self, request: Request) -> Response:
        """Who this is, and the digest of each length's program: a thin client compares them with its own."""
        programs = {str(length): digest for length, digest in self.digests.items()}
        return JSONResponse({"format": 1, "role": self.programs.role, "programs": programs})

    async def ask(self, request: Request) -> Response:
        """A half of an answer, to whoever brought the half of the request."""
        with self.turns.place():
            half = await self.read(request)
            answer, cost = await self.taker.answer(half, request)
        return Response(answer, media_type=BINARY, headers={COST: json.dumps(cost.to_json())})

    async def read(self, request: Request) -> Half:
        """The half in a request. Raises MPC-705 if its program is another, MPC-709 for what is no half."""
        id, length, program = (request.headers.get(name, "") for name in (ID, LENGTH, PROGRAM))
        if not is_id(id):
            raise refused(BAD_REQUEST, f"its {ID} is no id", "send 32 hexadecimal digits, drawn for this request")
        size = self.sizes.get(int(length) if length.isdecimal() and len(length) < 8 else 0)
        if size is None:
            served = ", ".join(map(str, self.sizes))
            raise refused(BAD_REQUEST, f"its {LENGTH} is not served", f"send one of {served}")
        if program != self.digests[int(length)]:
            what = f"it has another export, other settings or another version than the {self.programs.role}"
            raise RefusedError(CONFLICT, MpcifyError(705, "thin client", what, SAME))
        body = await body_of(request, Bounds(size, seconds=SECONDS), BINARY)
        if len(body) != size:
            what = f"its body has {len(body)} bytes, and the {self.programs.role}'s half {size}"
            raise refused(BAD_REQUEST, what, "send the half whole")
        half = Half(id, int(length), body)
        if not self.seen.is_new(half):
            raise refused(CONFLICT, "its id or its half came before", "share every request anew, under a new id")
        return half


async def disconnected(request: Request) -> None:
    """Returns once a request's caller has gone. Its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def halves_application(
    taker: Taker,
    programs: Programs,
    token: str,
    turns: Turns,
    *,
    metrics: Callable[[], bytes] | None = None,
    log: Log | None = None,
) -> Starlette:
    """The application of one party's halves; its `state.turns`, which are `turns`, are closed when it is to end.

    token: what thin clients must bring. turns: how many halves may be there at once. metrics, log: as `application`.
    """
    halves = Halves(taker, programs, turns)
    probes = Probes(taker.ready, metrics, halves_description(halves.sizes))
    return guarded([*halves.routes(), *probes.routes()], token, turns, log)
