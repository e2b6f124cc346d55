"""Connections of callers: those without the token keep nobody out who has it."""

import asyncio

import h11
from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.h11_impl import H11Protocol

from mpcify.cluster.gateway.guard import harden
from mpcify.cluster.gateway.refusals import BAD_REQUEST, TIMED_OUT, RefusedError, refused, response_of
from mpcify.cluster.logs import Log

SPARE = 512  # connections beside those on which a request with the token runs
HEAD = 5.0  # seconds in which a request's head must be there


class Caller(H11Protocol):
    """A connection. A head that does not come ends it; if there are more spare ones than SPARE, so does a newer one.

    What is no HTTP is answered and logged as other requests are that are refused.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.used = self.loop.time()
        self.clock: asyncio.TimerHandle | None = None
        self.await_head()
        spare = [each for each in self.connections if isinstance(each, Caller) and each.is_spare]
        if len(spare) > SPARE:
            min(spare, key=lambda each: (each.is_trusted, each.used)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.used = self.loop.time()
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self.await_head()

    @property
    def is_trusted(self) -> bool:
        """Whether its last request had the token."""
        return self.scope is not None and "trusted" in self.scope["state"]

    @property
    def is_running(self) -> bool:
        """Whether a request waits for its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_spare(self) -> bool:
        """Whether it may be closed for another."""
        return not self.transport.is_closing() and not (self.is_trusted and self.is_running)

    def await_head(self) -> None:
        """Lets the clock run while a head is incomplete: from the beginning for the first, else from its first byte."""
        if self.conn.their_state is not h11.IDLE or not (self.cycle is None or self.conn.trailing_data[0]):
            self.stop_clock()
        elif self.clock is None:
            self.clock = self.loop.call_later(HEAD, self.give_up)

    def stop_clock(self) -> None:
        """Waits for no head."""
        if self.clock is not None:
            self.clock.cancel()
            self.clock = None

    def give_up(self) -> None:
        """Ends a connection whose head did not come; whoever sent nothing of it hears nothing."""
        if self.conn.trailing_data[0]:
            self.refuse(refused(TIMED_OUT, f"its head was not there within {HEAD:.0f} s", "send it at once"))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for what is no HTTP."""
        self.refuse(refused(BAD_REQUEST, "it is no HTTP/1.1, or its head is too long", "send a request of HTTP/1.1"))
        self.transport.close()

    def refuse(self, refusal: RefusedError) -> None:
        """Answers what never became a request, or the rest of one, which the guard logs."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        answer = response_of(refusal)
        harden(MutableHeaders(raw=answer.raw_headers))
        head = h11.Response(status_code=refusal.status, headers=[*answer.raw_headers, (b"connection", b"close")])
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.is_running:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            return
        log: Log | None = self.config.app.state.log  # type: ignore[union-attr]
        if log:
            seconds = self.loop.time() - self.used
            log.event("request", route="other", status=refusal.status, code=refusal.error.code, seconds=seconds)
