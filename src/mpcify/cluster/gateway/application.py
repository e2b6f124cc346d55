"""The gateway as an ASGI application: its routes around a private model."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mpcify.cluster.gateway.bodies import IMAGES, TEXTS, body_of, items_of
from mpcify.cluster.gateway.description import CLASSIFY, REGRESS, description
from mpcify.cluster.gateway.guard import Guard
from mpcify.cluster.gateway.page import page
from mpcify.cluster.gateway.refusals import (
    AGAIN,
    NOT_FOUND,
    UNAVAILABLE,
    RefusedError,
    refusal_of,
    refused,
    response_of,
)
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.logs import Log

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

WAITING = 64
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus


def application(
    private: "PrivateModel",
    token: str,
    *,
    simulated: bool = False,
    waiting: int = WAITING,
    metrics: Callable[[], bytes] | None = None,
    log: Log | None = None,
) -> Starlette:
    """The application. Its `state.turns` is closed when the gateway is to end.

    token: what every request to the model must bring. simulated: whether all parties are on this machine, which the
    page says. waiting: how many requests may wait. metrics: the text that Prometheus reads. log: gets an event a
    request.
    """
    gateway = Gateway(private, simulated, Turns(waiting), metrics)
    routes = gateway.routes()
    handlers: Mapping[Any, Any] = {HTTPException: refuse_route}
    guard = Middleware(Guard, token=token, routes=[route.path for route in routes], log=log)
    made = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    made.state.turns = gateway.turns
    return made


class Gateway:
    """The routes of one model."""

    def __init__(
        self,
        private: "PrivateModel",
        simulated: bool,
        turns: Turns,
        metrics: Callable[[], bytes] | None,
    ) -> None:
        self.private, self.turns, self.metrics = private, turns, metrics
        self.task = private.about.task
        self.bounds = IMAGES if self.task.images else TEXTS
        self.page, self.policy = page(private, simulated)
        self.opening: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """Every route; of the two that ask the model, one answers, and the other says which."""
        asked, other = (REGRESS, CLASSIFY) if self.task.numeric else (CLASSIFY, REGRESS)
        found = [
            Route("/", self.show_page),
            Route("/health", self.health),
            Route("/ready", self.readiness),
            Route("/openapi.json", self.describe),
            Route(asked, self.ask, methods=["POST"]),
            Route(other, partial(self.redirect, asked), methods=["POST"]),
        ]
        return [*found, Route("/metrics", self.measured)] if self.metrics else found

    async def ask(self, request: Request) -> Response:
        """Answers of the model, and what they cost. Inputs that it refuses take no turn."""
        with self.turns.place():
            body = await body_of(request, self.bounds)
            items, lengths = await anyio.to_thread.run_sync(self.read, body)
            logits, cost = await self.turns.run(partial(self.private, items), request.is_disconnected)
        results = [
            {name: value for name, value in answer.items() if name != "score"} for answer in self.task.answers(logits)
        ]
        return JSONResponse({"format": 1, "results": results, "lengths": lengths, "cost": cost.to_json()})

    def read(self, body: bytes) -> tuple[list[Any], list[int]]:
        """The inputs in a body, and the padded length of each text. Raises MPC-709, and MPC-1xx for an input."""
        items = items_of(body, self.private, self.bounds)
        groups = self.private.requests.groups(items, self.private.truncate, self.private.length)
        lengths = {place: group.length for group in groups for place in group.places}
        return items, [] if self.task.images else [lengths[place] for place in range(len(items))]

    async def redirect(self, asked: str, request: Request) -> Response:
        """Says which route asks this model."""
        does = "predicts numbers" if self.task.numeric else "chooses labels"
        raise refused(NOT_FOUND, f"this model {does}", f"ask {asked}")

    async def health(self, request: Request) -> Response:
        """That the process lives."""
        return JSONResponse({"format": 1, "alive": True})

    async def readiness(self, request: Request) -> Response:
        """That a session is open; callers that ask at the same time wait for the same attempt."""
        if self.opening is None or self.opening.done():
            self.opening = asyncio.create_task(anyio.to_thread.run_sync(self.private.ready))
        try:
            await asyncio.shield(self.opening)
        except Exception as error:
            raise RefusedError(UNAVAILABLE, refusal_of(error).error, {"Retry-After": AGAIN}) from error
        return JSONResponse({"format": 1, "ready": True})

    async def measured(self, request: Request) -> Response:
        """What Prometheus reads."""
        assert self.metrics is not None
        return Response(await anyio.to_thread.run_sync(self.metrics), media_type=EXPOSITION)

    async def describe(self, request: Request) -> Response:
        """The OpenAPI description."""
        return JSONResponse(description(self.task, self.bounds))

    async def show_page(self, request: Request) -> Response:
        """The page for people."""
        return HTMLResponse(self.page, headers={"Content-Security-Policy": self.policy})


async def refuse_route(request: Request, error: HTTPException) -> Response:
    """The answer to a request for a route, or with a method, that there is not."""
    remedy = "see /openapi.json for what there is"
    refusal = refused(error.status_code, f"HTTP says: {error.detail.lower()}", remedy)
    refusal.headers |= dict(error.headers or {})
    return response_of(refusal)
