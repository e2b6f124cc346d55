"""Sessions between machines: gRPC over mutual TLS, one stream of frames (`wire`) a pair of parties.

A party is who its certificate says, at both ends of a connection. The dialling party opens a stream to every other; a
party that has addresses dials on under the same session id. Each lets the others in once all streams of the session are
there, so whoever has a session has all of it.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mpcify.errors import MpcifyError
from mpcify.network.dial import METHOD, SESSION, WIRE, Dialler
from mpcify.network.links import Limits
from mpcify.network.network import Network
from mpcify.network.sessions import GrpcLinks, RefusedError, Sessions
from mpcify.network.stream import LINGER, Stream
from mpcify.network.threads import Threads
from mpcify.network.tls import Credentials, options, proven_name, server_credentials
from mpcify.network.wire import LET_IN, STANDS, VERSION, largest_frame

import grpc  # isort: skip  # after tls, which prepares it
from grpc_health.v1 import health, health_pb2  # isort: skip

SESSION_ID = re.compile(r"[0-9a-f]{32}\Z")
GATHERING = 60.0  # seconds that a stream waits for the others of its session
RELAY = 3.0  # seconds for which a party dials on, before it tells the dialling party that it does not get through
CALLS = 64  # at a time, of all peers

log = logging.getLogger(__name__)


class GrpcNetwork(Network):
    """A party's place among machines. It listens from the start.

    name: of this party, as its certificate says. peers: every other party, with the address (host:port) at which this
    one dials it; None for those that dial this one. dialler: the party that opens sessions. listen: host:port; None for
    a party that only dials. limits: for what comes of each peer in sessions that begin from now on. timeout: of the
    links. Raises MPC-701 if it cannot listen there.
    """

    def __init__(
        self,
        name: str,
        credentials: Callable[[], Credentials],
        *,
        peers: Mapping[str, str | None],
        dialler: str,
        listen: str | None,
        limits: Limits,
        timeout: float,
    ) -> None:
        self.name, self.credentials, self.peers, self.dialler = name, credentials, dict(peers), dialler
        self.limits, self.timeout = limits, timeout
        self.port: int | None = None
        self._sessions = Sessions(name, self.peers, dialler, timeout)
        self._links: GrpcLinks | None = None  # of the session that was dialled last
        self._closed = threading.Event()
        self._health = health.HealthServicer()
        self.health(False)
        self._server = None if listen is None else self._listen(listen)

    def _listen(self, address: str) -> Any:
        # Check alone: a call to Watch would stay open as long as a caller likes
        check = grpc.unary_unary_rpc_method_handler(
            self._health.Check,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        _, service, name = METHOD.split("/")
        streams = grpc.stream_stream_rpc_method_handler(self._serve)
        handlers = [
            grpc.method_handlers_generic_handler(service, {name: streams}),
            grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),
        ]
        server = grpc.server(
            Threads(), handlers, options=options(largest_frame(self.limits)), maximum_concurrent_rpcs=CALLS
        )
        try:
            self.port = server.add_secure_port(address, server_credentials(self.credentials))
        except RuntimeError:
            remedy = "end what listens there, or give a free address of this machine ([listen] in cluster.toml)"
            raise MpcifyError(701, "listen", f"cannot listen at {address}", remedy) from None
        server.start()
        return server

    def health(self, serving: bool) -> None:
        """What gRPC's health service answers to the parties, on the same port: at first that it does not serve."""
        states = health_pb2.HealthCheckResponse
        self._health.set("", states.SERVING if serving else states.NOT_SERVING)

    def dial(self, session: str, timeout: float) -> GrpcLinks:
        if self.name != self.dialler or SESSION_ID.match(session) is None:
            raise ValueError(f"{self.dialler} opens sessions, under ids of 32 hexadecimal digits")
        if self._links is not None:
            self._links.close("another session begins")
        dialler = Dialler(self.name, self.credentials, self.limits)
        addresses = {peer: str(address) for peer, address in self.peers.items()}
        streams = dialler.reach_all(addresses, session, timeout, self._closed)
        self._links = GrpcLinks(self.name, session, self.timeout, streams)
        return self._links

    def accept(self, timeout: float | None = None) -> GrpcLinks:
        return self._sessions.accept(timeout)

    def _serve(self, incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """A stream that a peer opens: lets it in once its session stands, then sends what goes to it."""
        try:
            stream = self._admit(context)
            stream.cut = context.cancel
            if not context.add_callback(stream.lose):
                return
            self._sessions.join(stream)
        except RefusedError as refusal:
            log.warning("a caller was refused: %s", refusal.reason)
            context.abort(grpc.StatusCode[refusal.code], refusal.reason)
        threading.Thread(target=stream.pump, args=(incoming,), daemon=True).start()
        if stream.peer == self.dialler:
            for peer, address in self.peers.items():
                if address is not None:
                    threading.Thread(target=self._dial_on, args=(stream, peer, address), daemon=True).start()
        yield LET_IN
        if not stream.wait_until_it_stands(GATHERING):
            stream.end("not all parties joined the session")
            code = grpc.StatusCode.UNAVAILABLE if stream.retry else grpc.StatusCode.FAILED_PRECONDITION
            context.abort(code, stream.reason)
        yield STANDS
        yield from stream.outgoing()
        stream.finished.wait(LINGER)

    def _admit(self, context: Any) -> Stream:
        """A stream for a caller that is a party and asks for a session as it should. Raises RefusedError."""
        peer = proven_name(context.auth_context(), (name for name, address in self.peers.items() if address is None))
        if peer is None:
            raise RefusedError("PERMISSION_DENIED", "the certificate is no party's that may connect here, over TLS 1.3")
        metadata = dict(context.invocation_metadata())
        if metadata.get(WIRE) != VERSION:
            raise RefusedError("UNIMPLEMENTED", f"{self.name} speaks version {VERSION} of the protocol")
        session = metadata.get(SESSION)
        if not isinstance(session, str) or SESSION_ID.match(session) is None:
            raise RefusedError("INVALID_ARGUMENT", "the session id is wrong")
        return Stream(peer, session, self.limits, dialled=False)

    def _dial_on(self, opened: Stream, peer: str, address: str) -> None:
        """Joins a peer that this party dials to the session that is being opened, or ends that with why not."""
        dialler = Dialler(self.name, self.credentials, self.limits)
        try:
            stream = dialler.reach(peer, address, opened.session, RELAY, lambda: opened.reason is None)
        except MpcifyError as error:
            opened.retry = error.code == 703
            opened.end(f"{self.name} does not reach {peer}: {error.what}")
            return
        try:
            self._sessions.join(stream)
        except RefusedError as refusal:
            stream.end(refusal.reason)

    def close(self) -> None:
        self._closed.set()
        reason = f"{self.name} is stopping"
        self._sessions.close(reason)
        if self._links is not None:
            self._links.close(reason)
        if self._server is not None:
            self._server.stop(None).wait(LINGER)
