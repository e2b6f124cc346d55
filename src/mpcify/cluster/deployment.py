"""A deployed folder: `cluster.toml`, the party's kit, and its part of the exported model."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import EXPORTED, FILE, KIT, THIN_FILE, ClusterConfig, Timeouts, read_config, refuse
from mpcify.cluster.session import CLIENT
from mpcify.engines.config import EngineConfig
from mpcify.errors import MpcifyError
from mpcify.graph.about import AGAIN
from mpcify.graph.exported import MOST, Folder, read, read_text
from mpcify.graph.index import INDEX, Index, Role

COPY = "give each party its own folder of one mpcify party init"
ONCE_MORE = (
    "copy to it once more what party init wrote for this party; if that is refused too, export the model again with "
    "this version, and write new folders"
)


@dataclass(frozen=True)
class Deployment:
    """What one party of a cluster runs from. kit, exported: folders, read by `read_kit` and `read_exported`."""

    folder: Path
    config: ClusterConfig

    @property
    def role(self) -> Role:
        return self.config.role

    @property
    def kit(self) -> Path:
        return self.folder / KIT

    @property
    def exported(self) -> Path:
        return self.folder / EXPORTED

    @property
    def engine(self) -> EngineConfig:
        return self.config.engine

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.config.lengths

    @property
    def batch(self) -> int:
        return self.config.batch

    @property
    def addresses(self) -> Mapping[str, Address]:
        """Where peers dial each party that listens."""
        return self.config.parties

    @property
    def peers(self) -> dict[str, str | None]:
        """Every other party: the address that this one dials, or None if it is dialled from there.

        The client dials everybody; of two others, the one that comes later among the engine's parties dials.
        """
        order = [CLIENT, *(name for name in reversed(self.engine.parties) if name != CLIENT)]
        dialled = order[order.index(self.role) + 1 :]
        return {name: str(self.addresses[name]) if name in dialled else None for name in order if name != self.role}

    @property
    def listen(self) -> str | None:
        """Where this party listens; None if nobody dials it."""
        if self.role == CLIENT:
            return None
        return str(self.config.listen.address or self.addresses[self.role])

    @property
    def health(self) -> Address | None:
        """Where it is asked for its health and metrics; None for nowhere."""
        return self.config.health.address

    @property
    def timeouts(self) -> Timeouts:
        return self.config.timeouts

    @property
    def queue(self) -> int:
        """Requests that may wait while another runs."""
        return self.config.limits.queue


def read_deployment(folder: str | Path, role: Role | None = None) -> Deployment:
    """What a folder that `party init` wrote says, checked against the index of its exported model.

    role: whose it must be; None: anybody's. Graphs, weights and kit are not read. Raises MPC-701, and MPC-404 for an
    index that cannot be read.
    """
    folder = Path(folder)
    if os.path.isfile(folder / THIN_FILE):
        refuse(folder, "it is a thin client's, which is no party", "ask with it: mpcify infer --cluster FOLDER TEXT")
    config = read_config(folder / FILE)
    if role not in (None, config.role):
        refuse(folder / FILE, f"it is the folder of the {config.role}, not of the {role}", COPY)
    check_index(folder, FILE, config.role, config.batch, config.lengths)
    return Deployment(folder, config)


def check_index(folder: Path, file: str, role: Role, batch: int, lengths: Sequence[int]) -> None:
    """Raises MPC-701 unless the exported model in a folder is what a config there says, MPC-404 if it cannot be read.

    file: the config's. role, batch, lengths: what it says.
    """
    where = folder / EXPORTED / INDEX
    index = read_index(where)
    if index.role != role:
        refuse(where, f"it is of the {index.role}, and {file} of the {role}", COPY)
    if index.batch != batch:
        refuse(folder / file, f"batch: the model was exported for {index.batch}")
    for length in lengths:
        if length not in index.lengths:
            there = ", ".join(map(str, index.lengths))
            refuse(folder / file, f"lengths: the exported model has {there}, and not {length}")


@contextmanager
def copied() -> Iterator[None]:
    """While open, an error that a new export would mend says that a new copy may: parties have copies of one."""
    try:
        yield
    except MpcifyError as error:
        if error.remedy != AGAIN:
            raise
        raise MpcifyError(error.code, error.where, error.what, ONCE_MORE) from None


@copied()
def read_index(path: Path) -> Index:
    """The index of a deployed folder. Raises MPC-404."""
    return Index.from_text(read_text(path, MOST["index"]), path)


@copied()
def read_exported(folder: Path, role: Role | None) -> Folder:
    """A role's part of the model; None: of the role that its index names. Raises MPC-404."""
    return read(folder, role or read_index(folder / INDEX).role)
