"""What every gateway answers beside its requests: that it lives, whether it is ready, and its counts."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpcify.cluster.gateway.guard import Guard
from mpcify.cluster.gateway.refusals import AGAIN, UNAVAILABLE, RefusedError, refusal_of, refused, response_of
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.logs import Log

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus


class Probes:
    """ready: returns if a request could begin now, else raises. metrics: the text that Prometheus reads; None: none.

    described: the OpenAPI description.
    """

    def __init__(
        self, ready: Callable[[], None], metrics: Callable[[], bytes] | None, described: Mapping[str, Any]
    ) -> None:
        self.ready, self.metrics, self.described = ready, metrics, described
        self.opening: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """The routes, none of which wants the token."""
        found = [
            Route("/health", self.health),
            Route("/ready", self.readiness),
            Route("/openapi.json", self.describe),
        ]
        return [*found, Route("/metrics", self.measured)] if self.metrics else found

    async def health(self, request: Request) -> Response:
        """That the process lives."""
        return JSONResponse({"format": 1, "alive": True})

    async def readiness(self, request: Request) -> Response:
        """That a session is open; callers that ask at the same time wait for the same attempt."""
        if self.opening is None or self.opening.done():
            self.opening = asyncio.create_task(anyio.to_thread.run_sync(self.ready))
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
        return JSONResponse(self.described)


def guarded(routes: Sequence[Route], token: str, turns: Turns, log: Log | None) -> Starlette:
    """An application of these routes, behind the guard. Its `state.turns` is closed when it is to end.

    log: gets an event a request, and is its `state.log`.
    """
    handlers: Mapping[Any, Any] = {HTTPException: refuse_route}
    guard = Middleware(Guard, token=token, routes=[route.path for route in routes], log=log)
    made = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    made.state.turns, made.state.log = turns, log
    return made


async def refuse_route(request: Request, error: HTTPException) -> Response:
    """The answer to a request for a route, or with a method, that there is not."""
    remedy = "see /openapi.json for what there is"
    refusal = refused(error.status_code, f"HTTP says: {error.detail.lower()}", remedy)
    refusal.headers |= dict(error.headers or {})
    return response_of(refusal)
