"""Networks in one process and over gRPC keep the contract."""

from collections.abc import Iterator

import pytest

from mpcify.network import dial
from mpcify.network.memory import MemoryNetwork, Switchboard
from mpcify.network.network import Network
from tests.network.network_contract import NAMES, NetworkContract
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
