"""What stands before every route: who may ask, what every answer says to browsers, and one line of log a request."""

import ipaddress
import secrets
import time
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpcify.cluster.gateway.refusals import (
    MISDIRECTED,
    UNAUTHORIZED,
    refusal_of,
    refused,
    response_of,
)
from mpcify.cluster.logs import Log

PROTECTED = "/v1/"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
UNEXPECTED = 903
POLICY = "default-src 'none'; frame-ancestors 'none'"  # of answers that are no page


class Guard:
    """Lets through what may ask. token: of every route under /v1. routes: the paths that the log may name."""

    def __init__(self, app: ASGIApp, token: str, routes: Iterable[str], log: Log | None) -> None:
        self.app, self.token, self.routes, self.log = app, token.encode(), frozenset(routes), log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the gateway speaks no {scope['type']}")
        start, status, code = time.monotonic(), 0, None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                harden(MutableHeaders(scope=message))
            await send(message)

        try:
            self.check(scope)
            await self.app(scope, receive, answer)
        except Exception as error:
            refusal = refusal_of(error)
            code = refusal.error.code
            if code == UNEXPECTED and self.log:
                self.log.failure("request-failed", error)
            if not status:
                await response_of(refusal)(scope, receive, answer)
        finally:
            if self.log:
                route = scope["path"] if scope["path"] in self.routes else "other"  # a path may hold anything
                seconds = time.monotonic() - start
                self.log.event("request", route=route, status=status, code=code, seconds=seconds)

    def check(self, scope: Scope) -> None:
        """Raises MPC-709 for a request to another host, and one without the token if its route needs that."""
        hosts = values(scope, b"host")
        if len(hosts) != 1 or not is_own(hosts[0], scope):
            what = "it is not for this machine's own address"
            raise refused(MISDIRECTED, what, "ask for localhost or 127.0.0.1, and the gateway's port")
        if not scope["path"].startswith(PROTECTED):
            return
        given = values(scope, b"authorization")
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not secrets.compare_digest(token.strip(), self.token):
            what = "it has no token" if not given else "its token is not the gateway's"
            remedy = "send Authorization: Bearer and the token in the gateway's token file"
            raise refused(UNAUTHORIZED, what, remedy, WWW_Authenticate="Bearer")
        scope["state"]["trusted"] = True  # its connection is not closed for another


def harden(headers: MutableHeaders) -> None:
    """Adds what every answer says to browsers."""
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", POLICY)


def values(scope: Scope, name: bytes) -> list[bytes]:
    """A request's values of a header."""
    return [value for key, value in scope["headers"] if key == name]


def is_own(host: bytes, scope: Scope) -> bool:
    """Whether a Host header names this machine itself, by number or as localhost, and the port that was asked.

    A page of another site whose name was made to point here (DNS rebinding) sends its own name.
    """
    name, colon, port = host.decode("latin-1").rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host.decode("latin-1"), "80"
    if port != str(scope["server"][1]):
        return False
    if name.lower() == "localhost":
        return True
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ipaddress.ip_address(name[1:-1] if bracketed else name)
    except ValueError:
        return False
    return address.is_loopback and bracketed == (address.version == 6)
