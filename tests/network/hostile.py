"""Peers that speak the wire raw: they hold any certificate or none, and say any bytes in any state.

`Hostile` dials and `HostileServer` is dialled. Both hear frames as they come, and learn how the other side ended it.
"""

import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Self

from mpcify.network.dial import METHOD, SESSION, WIRE
from mpcify.network.tls import Credentials
from mpcify.network.wire import GOODBYE, LET_IN, MESSAGE, STANDS, VERSION

import grpc  # isort: skip  # after tls, which prepares it

PATIENCE = 10.0  # seconds for what must come


def head(key: bytes, size: int, *, key_length: int | None = None) -> bytes:
    """The beginning of a message's first frame: what it claims, and its key."""
    return struct.pack("<BIQ", MESSAGE[0], len(key) if key_length is None else key_length, size) + key


class Talk:
    """One stream, seen from the hostile side."""

    def __init__(self) -> None:
        self._saying: SimpleQueue[bytes | None] = SimpleQueue()
        self._heard: SimpleQueue[bytes | None] = SimpleQueue()
        self.error: Any = None

    def say(self, *frames: bytes) -> Self:
        """Sends frames as they are."""
        for frame in frames:
            self._saying.put(frame)
        return self

    def hang_up(self) -> None:
        """Sends no more."""
        self._saying.put(None)

    def outgoing(self) -> Iterator[bytes]:
        yield from iter(self._saying.get, None)

    def listen(self, incoming: Iterable[bytes]) -> None:
        """Hears what comes, until it ends."""
        try:
            for frame in incoming:
                self._heard.put(frame)
        except Exception as error:
            self.error = error
        self._heard.put(None)

    def hear(self, patience: float = PATIENCE) -> bytes | None:
        """The next frame; None at the end of the stream."""
        return self._heard.get(timeout=patience)

    def last_words(self) -> str:
        """The reason that the other side gives, by a goodbye or by gRPC's status; whatever came before is dropped."""
        goodbye = ""
        while (frame := self.hear()) is not None:
            if frame[:1] == GOODBYE:
                goodbye = frame[1:].decode()
                self.hang_up()
        return goodbye or (f"{self.error.code().name}: {self.error.details()}" if self.error is not None else "")


class Hostile:
    """Dials a party. credentials: None for a caller without a certificate, who trusts anybody of `trust`."""

    def __init__(self, address: str, party: str, credentials: Credentials | None, trust: bytes | None = None) -> None:
        if credentials is None:
            secrets = grpc.ssl_channel_credentials(trust)
        else:
            secrets = grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)
        options = [("grpc.ssl_target_name_override", party), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.secure_channel(address, secrets, options)
        self.pool = ThreadPoolExecutor(8)

    def open(
        self,
        session: str,
        *,
        version: str = VERSION,
        extra: Iterable[tuple[str, str]] = (),
        method: str = METHOD,
        compression: Any = None,
    ) -> Talk:
        """Asks for a stream, with any metadata."""
        talk = Talk()
        call = self.channel.stream_stream(method)(
            talk.outgoing(), metadata=((SESSION, session), (WIRE, version), *extra), compression=compression
        )
        self.pool.submit(talk.listen, call)
        return talk

    def enter(self, session: str) -> Talk:
        """A stream of a session that stands, as an honest party would have it."""
        talk = self.open(session)
        assert (talk.hear(), talk.hear()) == (LET_IN, STANDS)
        return talk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.pool.shutdown(wait=False)


class HostileServer:
    """Is dialled, and lets everybody in. calls: a session id and the stream, for each that came."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.calls: SimpleQueue[tuple[str, Talk]] = SimpleQueue()
        self.pool = ThreadPoolExecutor(8)
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        service, name = METHOD.split("/")[1:]
        self.server = grpc.server(self.pool, [grpc.method_handlers_generic_handler(service, {name: handler})])
        secrets = grpc.ssl_server_credentials(
            [(credentials.key, credentials.certificate)], credentials.authority, require_client_auth=True
        )
        self.server.add_secure_port(address, secrets)
        self.server.start()

    def _serve(self, incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        talk = Talk()
        self.calls.put((dict(context.invocation_metadata())[SESSION], talk))
        self.pool.submit(talk.listen, incoming)
        context.add_callback(talk.hang_up)
        yield from talk.outgoing()

    def answer(self) -> tuple[str, Talk]:
        """The next call: its session id, and the stream."""
        return self.calls.get(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None)
        self.pool.shutdown(wait=False)
