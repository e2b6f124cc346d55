"""Mutual TLS between parties: who a peer is, and how gRPC has to be told.

gRPC has no option for the least version of TLS. A list of suites without any that TLS 1.2 could use leaves TLS 1.3,
whose suites stand in no list; gRPC reads it once, when it loads, for the whole process.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SUITES = ("GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-AES128-CBC-SHA")
if "grpc" in sys.modules and os.environ.get(SUITES[0]) != SUITES[1]:
    raise ImportError(f"gRPC was loaded before mpcify could forbid TLS 1.2: set {'='.join(SUITES)} for the process")
os.environ[SUITES[0]] = SUITES[1]
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes about every refused handshake

import grpc  # noqa: E402

from mpcify.errors import MpcifyError  # noqa: E402

KEEPALIVE = 2.0  # seconds of silence until a peer is asked for a sign of life …
ANSWER = 3.0  # … and seconds in which it has to give one
CONNECTING = 5.0  # seconds for one try to connect
TAKING = (
    0.2  # seconds in which a handshake that was let go takes up its credentials: microseconds, if it is not held up
)


@dataclass(frozen=True)
class Credentials:
    """What proves who this party is, in PEM: its certificate and key, and the authority of all parties."""

    certificate: bytes
    key: bytes
    authority: bytes


def options(largest_frame: int) -> list[tuple[str, Any]]:
    """Of a channel or a server. Frames come uncompressed: a small one could unpack to any size."""
    return [
        ("grpc.max_receive_message_length", largest_frame),
        ("grpc.max_send_message_length", -1),
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.keepalive_time_ms", int(KEEPALIVE * 1000)),
        ("grpc.keepalive_timeout_ms", int(ANSWER * 1000)),
        ("grpc.http2.ping_timeout_ms", int(ANSWER * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE * 500)),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.lookahead_bytes", 4 << 20),
        ("grpc.max_concurrent_streams", 8),
        ("grpc.server_handshake_timeout_ms", int(CONNECTING * 1000)),
        ("grpc.min_reconnect_backoff_ms", int(CONNECTING * 1000)),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.so_reuseport", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def secure_channel(address: str, peer: str, credentials: Credentials, largest_frame: int) -> Any:
    """A channel to an address, which has to prove that it is this peer."""
    secrets = grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)
    return grpc.secure_channel(address, secrets, [*options(largest_frame), ("grpc.ssl_target_name_override", peer)])


def server_credentials(read: Callable[[], Credentials]) -> Any:
    """A server's credentials, read anew for each handshake; what cannot be read leaves those from before.

    gRPC is told of a change alone, and once no other handshake is about to use what it then frees: one that does ends
    the process (grpc/grpc#36693). It asks one handshake after the other.
    """
    used = read()

    def configuration() -> Any:
        return grpc.ssl_server_certificate_configuration([(used.key, used.certificate)], used.authority)

    def renewed() -> Any:
        nonlocal used
        with suppress(MpcifyError):
            if (now := read()) != used:
                used = now
                time.sleep(TAKING)
                return configuration()
        return None

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, require_client_authentication=True)


def proven_name(context: Mapping[str, Iterable[bytes]], parties: Iterable[str]) -> str | None:
    """Which of some parties a caller's certificate proves it to be, by its one DNS name; None for anybody else."""
    names = [bytes(name).decode(errors="replace") for name in context.get("peer_dns", ())]
    if [*context.get("ssl_tls_version", ())] != [b"TLSv1.3"] or len(names) != 1:
        return None
    return names[0] if names[0] in {*parties} else None
