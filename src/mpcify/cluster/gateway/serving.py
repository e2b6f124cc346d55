"""The gateway on the loopback until it is told to end."""

import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from mpcify.cluster.gateway.connections import Caller
from mpcify.errors import MpcifyError

BACKLOG = 512  # connections that wait to be taken
IDLE = 30  # seconds that a connection may wait for its next request
TICK = 5  # seconds


def nothing() -> None:
    """Does nothing."""


class Server(uvicorn.Server):
    """Tells when it is asked to end, before it waits for the requests that are there. leave: what to call then."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self.leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.leave()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket on the loopback. port: 0 for any that is free. Raises MPC-901 for another address or a port in use."""
    address = "127.0.0.1" if host == "localhost" else host
    remedy = "use 127.0.0.1 or ::1; a program elsewhere asks through a proxy of yours that speaks TLS"
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise MpcifyError(901, f"--host {host}", "it is no address", remedy) from None
    if not found.is_loopback:
        raise MpcifyError(901, f"--host {host}", "others than this machine would reach it", remedy)
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    try:
        listening = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as problem:
        what = os.strerror(problem.errno) if problem.errno else "it cannot be used"
        raise MpcifyError(901, f"--port {port}", what, "choose another port") from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it; else answers wait 40 ms
    return listening


def name_of(listening: socket.socket) -> str:
    """A socket's address as it stands in a URL."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_of(app: Starlette, leave: Callable[[], None], tick: Callable[[], None] = nothing) -> Server:
    """What serves an application. tick: is called every few seconds, as long as requests are taken."""

    async def notify() -> None:
        tick()

    config = uvicorn.Config(
        app,
        http=Caller,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        callback_notify=notify,
        timeout_notify=TICK,
    )
    return Server(config, leave)


def serve(
    app: Starlette, listening: socket.socket, leave: Callable[[], None], tick: Callable[[], None] = nothing
) -> None:
    """Serves until SIGINT or SIGTERM, then calls `leave`; returns when no request is left."""
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has ended
        server_of(app, leave, tick).run(sockets=[listening])
