"""What probes and Prometheus ask a party over plain HTTP: /live, /ready and /metrics. It answers nothing secret.

An answer takes one short request, a deadline and one of a few places; nothing that a caller sends is kept or repeated.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Literal, Self, get_args

from mpcify.cluster.metrics import Metrics
from mpcify.errors import MpcifyError

Why = Literal["", "starting", "draining", "certificate", "engine"]

PATIENCE = 30.0  # seconds between two beats, unless a beat says otherwise
DEADLINE = 5.0  # seconds for a whole exchange
LONGEST = 4096  # bytes of a request's head
PLACES = 32  # exchanges at a time
PLAIN, PROMETHEUS = "text/plain; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """A small HTTP server in a thread of its own, until `close`.

    host, port: to listen at; 0 takes a free port, and the attribute says which. clock: monotonic seconds.
    A party lives as long as its service beats, and is ready if the service said so and lives.
    Raises MPC-701 if it cannot listen there.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics, self.clock = metrics, clock
        self.beat()
        self.ready(False, "starting")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=PLACES)
        except (OSError, OverflowError) as error:
            said = (error.strerror or "") if isinstance(error, OSError) else ""  # of a host, errno has no name
            reason = said.partition(" (while")[0] or "no such port"
            what = f"nothing can listen at {host}, port {port} ({reason})"
            remedy = "name an address of this machine and a free port under [health] in cluster.toml"
            raise MpcifyError(701, "health", what, remedy) from None
        self.port = int(listener.getsockname()[1])
        self.writers: set[asyncio.StreamWriter] = set()
        self.ended = asyncio.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.serve, args=(listener,), name="health", daemon=True)
        self.thread.start()

    def serve(self, listener: socket.socket) -> None:
        """Answers until `close`; what is under way then is cut off."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.serving(listener))

    async def serving(self, listener: socket.socket) -> None:
        """The server's life."""
        server = await asyncio.start_server(self.exchange, sock=listener, limit=LONGEST)
        await self.ended.wait()
        server.close()
        while self.writers:
            for writer in self.writers:
                writer.transport.abort()
            await asyncio.sleep(0)

    def beat(self, within: float = PATIENCE) -> None:
        """The service works. within: seconds until it will say so again, more before a long step."""
        self.due = self.clock() + within

    def ready(self, ok: bool, why: Why = "") -> None:
        """The service can take a session, or cannot: why not. Raises ValueError for a reason that there is not."""
        if why not in get_args(Why) or ok == bool(why):
            raise ValueError("readiness has no reason, what is not ready has one of a few")
        self.why = None if ok else why
        self.metrics.ready(ok)

    def answer(self, method: str, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, type and body for a request."""
        if method != "GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b"GET only\n"
        alive = self.clock() < self.due
        match path:
            case "/live":
                return said("" if alive else "stuck")
            case "/ready":
                return said((self.why or "") if alive else "stuck")
            case "/metrics":
                return HTTPStatus.OK, PROMETHEUS, self.metrics.text()
        return HTTPStatus.NOT_FOUND, PLAIN, b"/live, /ready, /metrics\n"

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer; who is slow, long or one too many is cut off."""
        self.writers.add(writer)
        try:
            with suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                async with asyncio.timeout(DEADLINE):
                    if len(self.writers) <= PLACES:
                        writer.write(self.reply(await reader.readuntil(b"\r\n\r\n")))
                        writer.close()
                        await writer.wait_closed()
        finally:
            writer.transport.abort()
            self.writers.remove(writer)

    def reply(self, head: bytes) -> bytes:
        """The whole answer to a request's head."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            status, kind, body = HTTPStatus.BAD_REQUEST, PLAIN, b"HTTP/1.1 only\n"
        else:
            status, kind, body = self.answer(method, target.partition("?")[0])
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + body

    def close(self) -> None:
        """Ends the server. A second call does nothing."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.ended.set)
            self.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def said(trouble: str) -> tuple[HTTPStatus, str, bytes]:
    """The answer of a probe: 200, or 503 with the trouble in one word."""
    if trouble:
        return HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, f"{trouble}\n".encode()
    return HTTPStatus.OK, PLAIN, b"ok\n"
