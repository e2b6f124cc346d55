"""Where a party is reached: HOST:PORT."""

import errno
import ipaddress
import itertools
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from typing import Self

# a label of a host's name; containers are named with underscores, too
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
PORT = re.compile(r"[1-9][0-9]{0,4}")
LONGEST = 253  # characters of a host's name
OWN_PORTS = range(20000, 32000)  # systems give outgoing connections ports above these
SHARE = 60  # of them that a process takes, in turn: processes beside each other have other ones


@dataclass(frozen=True)
class Address:
    """A host (a DNS name in small letters, an IPv4 or an IPv6 address) and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address in `HOST:PORT`, an IPv6 address in brackets: `[::1]:7000`. Raises ValueError, which says why."""
        if not isinstance(text, str) or ":" not in text:
            raise ValueError("it is no HOST:PORT")
        host, _, port = text.rpartition(":")
        if not PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError("its port is no number from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            return cls(ipv6(host[1:-1]), int(port))
        if ":" in host:
            raise ValueError("an IPv6 address stands in brackets: [::1]:7000")
        return cls(host_name(host.lower()), int(port))

    @property
    def everywhere(self) -> bool:
        """Whether it stands for all addresses of a machine: a party can listen there, and nobody can dial it."""
        return self.host in ("0.0.0.0", "::")

    @property
    def own(self) -> bool:
        """Whether only this machine reaches it: it is on the loopback, given as a number or as localhost."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def meets(self, other: "Address") -> bool:
        """Whether one program that listens here keeps another from listening there, as far as their names tell."""
        hosts = {"127.0.0.1" if address.host == "localhost" else address.host for address in (self, other)}
        return self.port == other.port and (len(hosts) == 1 or self.everywhere or other.everywhere)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def ipv6(text: str) -> str:
    """An IPv6 address as it is written shortest. Raises ValueError."""
    try:
        if "%" in text:  # the name of a network card, which other machines do not have
            raise ValueError
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("what stands in its brackets is no IPv6 address") from None


def host_name(text: str) -> str:
    """An IPv4 address, or a host's name. Raises ValueError."""
    labels = text.split(".")
    if labels[-1].isdecimal():  # no name ends so
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("its host is no IPv4 address") from None
    if len(text) > LONGEST or not all(map(LABEL.fullmatch, labels)):
        raise ValueError("its host is neither a DNS name nor an IP address")
    return text


def free_addresses(count: int) -> list[str]:
    """Different addresses of the loopback at which nobody listens, and which no outgoing connection will be given.

    Another process may still take one before its party listens there.
    """
    with ExitStack() as held:  # all at once: no two are the same
        return [f"127.0.0.1:{held.enter_context(free_listener()).getsockname()[1]}" for _ in range(count)]


@cache
def turns() -> Iterator[int]:
    """Counts what a process has taken, so that it takes the same one late."""
    return itertools.count()


def free_listener() -> socket.socket:
    """A socket that listens at the next free port of OWN_PORTS, from this process's share on. OSError if none is."""
    first = os.getpid() * SHARE + next(turns()) % SHARE
    for step in range(len(OWN_PORTS)):
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", OWN_PORTS[(first + step) % len(OWN_PORTS)]))
    raise OSError(errno.EADDRINUSE, "every port that parties of one machine take is in use")
