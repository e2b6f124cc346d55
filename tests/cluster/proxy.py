"""A proxy that ends TLS and sets Host: what stands before a gateway or a desk that others reach."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpcify.cluster.certificates import new_key, private_pem
from mpcify.cluster.keys import as_pem
from tests.cluster.signing import DNS, authority, certificate


def certified(place: Path, name: str = "localhost") -> ssl.SSLContext:
    """A server's context with a certificate of this name; its authority's stands in `place/authority.pem`."""
    issuer, key = authority(), new_key()
    (place / "authority.pem").write_bytes(as_pem([issuer.certificate]))
    (place / "certificate.pem").write_bytes(as_pem([certificate(issuer, key, [DNS(name)])]))
    (place / "key.pem").write_bytes(private_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "certificate.pem", place / "key.pem")
    return context


@contextmanager
def proxy(context: ssl.SSLContext, port: int) -> Iterator[int]:
    """Leads connections to a port of this machine's; its own port."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                threading.Thread(target=carry, args=(line,), daemon=True).start()

    def carry(line: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(line, server_side=True) as caller:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := caller.recv(1 << 16)):
                    return
                head += piece
            with socket.create_connection(("127.0.0.1", port)) as called:
                called.sendall(re.sub(rb"(?i)\r\nhost: [^\r]*", b"\r\nHost: 127.0.0.1:%d" % port, head, count=1))
                threading.Thread(target=copy, args=(called, caller), daemon=True).start()
                copy(caller, called)

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
