"""Parties over gRPC on this machine: a network for each, with certificates of one authority."""

import hashlib

from mpcify.cluster.addresses import free_addresses
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.links import Limits
from mpcify.network.tls import Credentials
from tests.network.certificates import Authority

LIMITS = Limits(message=32 << 20, waiting=32 << 20, key=512)
AUTHORITY = Authority()


def session_id(text: str) -> str:
    """A session id that stands for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Cluster:
    """Makes each party's network; the first party dials all others, the second only listens, the rest dial it too.

    Networks that are made are closed when the `with` block ends.
    """

    def __init__(self, *names: str, limits: Limits = LIMITS, timeout: float = 20) -> None:
        self.names, self.limits, self.timeout = names, limits, timeout
        self.addresses = dict(zip(names[1:], free_addresses(len(names) - 1), strict=True))
        self.credentials = {name: AUTHORITY.issue(name) for name in names}
        self.made: list[GrpcNetwork] = []

    def network(self, name: str, credentials: Credentials | None = None) -> GrpcNetwork:
        """A party's network; with other credentials than its own, if they are given."""
        place = self.names.index(name)
        dialled = self.names[1:] if place == 0 else self.names[1:2] if place > 1 else ()
        peers = {peer: self.addresses[peer] if peer in dialled else None for peer in self.names if peer != name}
        network = GrpcNetwork(
            name,
            lambda: credentials or self.credentials[name],
            peers=peers,
            dialler=self.names[0],
            listen=self.addresses.get(name),
            limits=self.limits,
            timeout=self.timeout,
        )
        self.made.append(network)
        return network

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for network in self.made:
            network.close()
