"""Where the gateway listens."""

import socket

import pytest

from mpcify.cluster.gateway.serving import listen, name_of


def test_no_answer_waits_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_is_one_that_stands_in_a_url() -> None:
    with listen("localhost", 0) as listening:
        assert name_of(listening) == f"127.0.0.1:{listening.getsockname()[1]}"


def has_version_6() -> bool:
    """Whether this machine's loopback has an address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_version_6(), reason="the loopback has no IPv6 here")
def test_the_loopback_has_an_name_of_version_6_too() -> None:
    with listen("::1", 0) as listening:
        assert name_of(listening) == f"[::1]:{listening.getsockname()[1]}"
