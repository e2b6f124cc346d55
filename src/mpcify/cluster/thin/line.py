"""HTTP to one of the two that take halves: what is sent, and what may come back."""

import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from mpcify.cluster.thin.config import Url
from mpcify.errors import CODES, MpcifyError

MOST = 1 << 16  # bytes of what is no half of an answer
LONGEST = 300  # characters of what another says of an error


@dataclass(frozen=True)
class Place:
    """One of the two. name: delegate or owner. connect, answer: seconds until it takes a call, and until it answers."""

    name: str
    url: Url
    token: str = field(repr=False)
    connect: float
    answer: float

    @cached_property
    def context(self) -> ssl.SSLContext:
        """TLS as this system's authorities vouch for it."""
        return ssl.create_default_context()

    def ask(self, path: str) -> Any:
        """What it answers to a GET, as JSON. Raises as a line does."""
        line = Line(self)
        try:
            line.send("GET", path, None, {})
            content, _ = line.receive(MOST)
        finally:
            line.close()
        return parsed(self, content)

    def gone(self, problem: Exception) -> MpcifyError:
        """The error for one that breaks off."""
        what = "it did not answer in time" if isinstance(problem, TimeoutError) else "the connection to it broke"
        return MpcifyError(706, self.name, what, f"ask again; if it happens again, ask who runs the {self.name}")

    def against_protocol(self, what: str) -> MpcifyError:
        """The error for one that sends what it should not."""
        return MpcifyError(707, self.name, what, f"see that {self.url} is the {self.name}, and no other program's")


class Line:
    """One request to a place, and its answer. Any thread may close it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        host, port = place.url.address.host, place.url.address.port
        if place.url.secure:
            self.http: HTTPConnection = HTTPSConnection(host, port, timeout=place.connect, context=place.context)
        else:
            self.http = HTTPConnection(host, port, timeout=place.connect)
        self.http.auto_open = 0  # once it is closed, it stays so

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        """Sends a request. Raises MPC-703 if the place is not reached, MPC-704 if it is another by its certificate."""
        place = self.place
        try:
            self.http.connect()
        except ssl.SSLCertVerificationError as error:
            remedy = "see that the URL is right, and its authority among this system's (SSL_CERT_FILE names others)"
            raise MpcifyError(704, place.name, f"its certificate is refused ({error.verify_message})", remedy) from None
        except OSError as error:
            remedy = f"see that {place.url} is right, and ask who runs the {place.name}"
            raise MpcifyError(703, place.name, f"it is not reached ({error.strerror or error})", remedy) from None
        self.wait(place.answer)
        authorised = {"Authorization": f"Bearer {place.token}", "Connection": "close", **headers}
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
                self.http.request(method, place.url.path + path, body, authorised)
        except (OSError, HTTPException) as error:
            raise place.gone(error) from None

    def wait(self, seconds: float) -> None:
        """Gives the place so long for whatever comes next."""
        if (connected := self.http.sock) is not None:
            connected.settimeout(seconds)

    def receive(self, most: int) -> tuple[bytes, Message]:
        """The body of an answer that is well, and its headers.

        Raises the error that the place answers, MPC-706 if it breaks off, MPC-707 for what is neither.
        """
        try:
            answer = self.http.getresponse()
            content = answer.read((most if answer.status == 200 else MOST) + 1)
        except (OSError, HTTPException) as error:
            raise self.place.gone(error) from None
        if answer.status != 200:
            raise told(self.place, answer.status, content)
        if len(content) > most:
            raise self.place.against_protocol("it sent more than is asked for")
        if answer.length:  # of what was announced, it did not come
            raise self.place.gone(ConnectionError())
        return content, answer.headers

    def close(self) -> None:
        """Ends it, whoever waits in it."""
        if (connected := self.http.sock) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self.http.close()


def told(place: Place, status: int, content: bytes) -> MpcifyError:
    """The error that a place answers, in its words."""
    try:
        error = parsed(place, content)["error"]
        (code,) = (number for number in CODES if error["code"] == f"MPC-{number}")
        where, what, remedy = (plain(error[name]) for name in ("where", "what", "remedy"))
    except (MpcifyError, KeyError, TypeError, ValueError):
        return place.against_protocol(f"it answers with HTTP status {status}, and no error of ours")
    return MpcifyError(code, f"{place.name}: {where}", what, remedy)


def plain(text: Any) -> str:
    """Another's words as they may stand in an error."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:LONGEST])


def parsed(place: Place, content: bytes) -> dict[str, Any]:
    """The JSON object in an answer. Raises MPC-707."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise place.against_protocol("it answers what is no JSON object")
    return found
