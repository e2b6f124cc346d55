"""The gateway as an ASGI application: its routes around a private model."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mpcify.cluster.gateway.bodies import IMAGES, TEXTS, body_of, items_of
from mpcify.cluster.gateway.description import CLASSIFY, REGRESS, description
from mpcify.cluster.gateway.page import page
from mpcify.cluster.gateway.probes import Probes, guarded
from mpcify.cluster.gateway.refusals import NOT_FOUND, refused
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.logs import Log

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

WAITING = 64


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
    gateway = Gateway(private, simulated, Turns(waiting))
    probes = Probes(private.ready, metrics, description(gateway.task, gateway.bounds))
    return guarded([*gateway.routes(), *probes.routes()], token, gateway.turns, log)


class Gateway:
    """The routes of one model."""

    def __init__(self, private: "PrivateModel", simulated: bool, turns: Turns) -> None:
        self.private, self.turns = private, turns
        self.task = private.about.task
        self.bounds = IMAGES if self.task.images else TEXTS
        self.page, self.policy = page(private, simulated)

    def routes(self) -> list[Route]:
        """The page, and two that ask the model: one answers, and the other says which."""
        asked, other = (REGRESS, CLASSIFY) if self.task.numeric else (CLASSIFY, REGRESS)
        return [
            Route("/", self.show_page),
            Route(asked, self.ask, methods=["POST"]),
            Route(other, partial(self.redirect, asked), methods=["POST"]),
        ]

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

    async def show_page(self, request: Request) -> Response:
        """The page for people."""
        return HTMLResponse(self.page, headers={"Content-Security-Policy": self.policy})
