"""A client that follows the protocol but for what it sends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpcify.cluster.client import Connection
from mpcify.cluster.deployed import network_of, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.inference import PrivateModel

Post = Callable[[str, str, bytes], None]


@contextmanager
def tampering(folder: Path, tamper: Callable[[Post, str, str, bytes], None]) -> Iterator[PrivateModel]:
    """The client of a deployment: tamper(post, peer, key, message) posts what it likes in place of a message."""
    deployment = read_deployment(folder / "client", "client")
    programs = programs_of(deployment)
    network = network_of(deployment, programs)
    dial = network.dial

    def dialled(session: str, timeout: float) -> Any:
        links = dial(session, timeout)
        post = links.post
        links.post = lambda peer, key, message: tamper(post, peer, key, message)  # type: ignore[method-assign]
        return links

    network.dial = dialled  # type: ignore[method-assign]
    with PrivateModel(programs.exported, deployment.engine.build(), Connection(programs, network)) as private:
        yield private
