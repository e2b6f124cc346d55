"""Networks in one process and over gRPC keep the contract."""

from collections.abc import Iterator

import pytest

from mpcify.cluster.addresses import free_addresses
from mpcify.errors import MpcifyError
from mpcify.network import dial, grpc
from mpcify.network.memory import MemoryNetwork, Switchboard
from mpcify.network.network import Network
from tests.network.network_contract import NAMES, NetworkContract, new_session
from tests.network.parties import Cluster


class TestMemory(NetworkContract):
    @pytest.fixture(autouse=True)
    def place(self) -> Iterator[None]:
        self.board = Switchboard(NAMES, "client", timeout=20)
        self.made: list[Network] = []
        yield
        for network in self.made:
            network.close()

    def network(self, name: str) -> Network:
        self.made.append(MemoryNetwork(name, self.board))
        return self.made[-1]


class TestGrpc(NetworkContract):
    @pytest.fixture(autouse=True)
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(dial, "BUSY", 0.5)
        with Cluster(*NAMES) as self.cluster:
            yield

    def network(self, name: str) -> Network:
        return self.cluster.network(name)

    def test_a_pair_of_peers_that_do_not_reach_each_other_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grpc, "RELAY", 0.3)
        client, _ = self.network("client"), self.network("owner")
        with monkeypatch.context() as patch:
            patch.setitem(self.cluster.addresses, "owner", free_addresses(1)[0])
            self.network("helper")
        with pytest.raises(MpcifyError, match=r"MPC-703 helper: .*helper does not reach owner: .*Connection refused"):
            client.dial(new_session(), 2)

    def test_an_address_that_is_taken_is_refused(self) -> None:
        self.network("owner")
        with pytest.raises(MpcifyError, match="MPC-701 listen: cannot listen at 127"):
            self.network("owner")
