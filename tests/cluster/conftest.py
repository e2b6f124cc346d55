"""A cluster in this process: an exported folder, kits, an engine of trusting parties, and threads that serve."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mpcify.cluster.authority import create_kits
from mpcify.cluster.client import Connection
from mpcify.cluster.party import Patience, Service
from mpcify.cluster.programs import Programs
from mpcify.engines.engine import Engine
from mpcify.graph.exported import read
from mpcify.graph.index import ROLES
from mpcify.inference import PrivateModel
from mpcify.network.memory import MemoryNetwork, Switchboard
from tests.cluster.trusting import TrustingConfig
from tests.graph.bags import Bag, Calibrated, export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder of all roles, not to be changed."""
    return export(Bag(), tmp_path_factory.mktemp("cluster") / "parties")


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a model that declares its ranges."""
    return export(Calibrated(), tmp_path_factory.mktemp("calibrated") / "parties")


@pytest.fixture(scope="session")
def made_kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of kits, a role one, not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "kits"
    create_kits(folder, ROLES)
    return folder


@pytest.fixture
def kits(made_kits: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made_kits, tmp_path / "kits"))


class Cluster:
    """Parties of one process. engine: of all. engines: by role, if one is to have another than the rest."""

    def __init__(
        self,
        exported: Path,
        engines: dict[str, Engine] | None = None,
        timeout: float = 20.0,
        engine: Engine | None = None,
    ) -> None:
        self.exported, self.engines = exported, engines or {}
        self.engine = engine or TrustingConfig().build()
        self.board = Switchboard(self.engine.parties, "client", timeout)
        self.services: dict[str, Service] = {}
        self.threads: dict[str, threading.Thread] = {}

    def programs(self, role: Any) -> Programs:
        return Programs(role, read(self.exported / role, role), self.engines.get(role, self.engine))

    def start(self, role: str, **options: Any) -> None:
        """Begins to serve a role."""
        service = Service(self.programs(role), MemoryNetwork(role, self.board), **options)
        thread = threading.Thread(target=service.serve, daemon=True)
        self.services[role], self.threads[role] = service, thread
        thread.start()

    def stop(self, role: str) -> None:
        """Ends a role as SIGTERM does, and waits until it has ended."""
        service = self.services.pop(role)
        service.stop()
        self.threads[role].join(10)
        assert not self.threads[role].is_alive()
        service.network.close()

    def crash(self, role: str) -> None:
        """Takes a role off the network, in the middle of whatever it does."""
        service = self.services.pop(role)
        service.stop()
        service.network.close()
        self.threads[role].join(10)
        assert not self.threads[role].is_alive()

    def connect(self, connecting: float = 5.0, **options: Any) -> PrivateModel:
        """The client's model."""
        programs = self.programs("client")
        connection = Connection(programs, MemoryNetwork("client", self.board), connecting, **options)
        return PrivateModel(programs.exported, self.engines.get("client", self.engine), connection)


@pytest.fixture
def cluster(exported: Path) -> Callable[..., Any]:
    """`with cluster() as running`: owner and helper serve in threads; all has ended afterwards."""

    @contextmanager
    def running(
        engines: dict[str, Engine] | None = None, timeout: float = 20.0, patience: Patience | None = None
    ) -> Iterator[Cluster]:
        made = Cluster(exported, engines, timeout)
        for role in ("owner", "helper"):
            made.start(role, patience=patience)
        try:
            yield made
        finally:
            for role in [*made.services]:
                made.stop(role)

    return running
