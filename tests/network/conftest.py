"""A client and an owner over gRPC, and somebody hostile beside them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mpcify.network import dial
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.links import Limits
from mpcify.network.tls import Credentials
from tests.network.hostile import Hostile
from tests.network.network_contract import opened, talk
from tests.network.parties import Cluster

SMALL = Limits(message=4 << 20, waiting=2 << 20, key=64, keys=20)
Intrude = Callable[..., Hostile]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A client and an owner with small limits, who soon believe that they are refused."""
    monkeypatch.setattr(dial, "BUSY", 0.5)
    with Cluster("client", "owner", limits=SMALL, timeout=20) as cluster:
        yield cluster


@pytest.fixture
def owner(cluster: Cluster) -> Iterator[GrpcNetwork]:
    """The service. After whatever a test did to it, it serves an honest client."""
    network = cluster.network("owner")
    yield network
    talk(opened(cluster.network("client"), network))


@pytest.fixture
def intrude(cluster: Cluster, owner: GrpcNetwork) -> Iterator[Intrude]:
    """intrude(credentials): somebody hostile who calls the owner; with the client's certificate, or another."""
    with ExitStack() as stack:

        def call(credentials: Credentials | None = None) -> Hostile:
            known = credentials or cluster.credentials["client"]
            return stack.enter_context(Hostile(cluster.addresses["owner"], "owner", known))

        yield call
