"""Deployed folders of all parties on this machine, and their services in threads."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployed import network_of, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.party import Service
from mpcify.engines.rules import Rules
from mpcify.engines.spu.config import SpuConfig
from tests.cluster.trusting import TrustingConfig

LISTENING = ("owner", "helper")


@dataclass(frozen=True)
class CountedConfig(TrustingConfig):
    """Parties that trust each other, with formulas of what a request costs."""

    def rules(self) -> Rules:
        return SpuConfig().rules()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def deployed(parties: Path, kits: Path, out: Path) -> Path:
    """A folder of all parties' folders, with addresses that are free."""
    write_deployment(parties, kits, out, CountedConfig(), {name: free_address() for name in LISTENING})
    for role in ("client", *LISTENING):
        edit(out / role, health=free_address())
    return out


def edit(folder: Path, **words: Any) -> None:
    """Writes cluster.toml with other values: health's address, listen's, or a party's, or of a line by its name."""
    path = folder / "cluster.toml"
    lines, section = [], ""
    for line in path.read_text().splitlines():
        section = line.split("]")[0].lstrip("[") if line.startswith("[") else section
        name = line.split(" =")[0]
        key = section if name == "address" else name
        lines.append(f"{name} = {literal(words[key])}" if key in words and " = " in line else line)
    path.write_text("\n".join(lines) + "\n")


def literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def serving(folder: Path, health: bool = True) -> Iterator[Service]:
    """A party at work in a thread."""
    deployment = read_deployment(folder)
    programs = programs_of(deployment)
    with network_of(deployment, programs) as network:
        network.health(health)  # type: ignore[attr-defined]
        service = Service(programs, network)
        thread = threading.Thread(target=service.serve, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.stop()
            thread.join(10)


@contextmanager
def all_serving(out: Path) -> Iterator[None]:
    """Owner and helper at work."""
    with ExitStack() as stack:
        for role in LISTENING:
            stack.enter_context(serving(out / role))
        yield


def copied(out: Path, place: Path) -> Path:
    """A copy of a deployment, to be broken."""
    return Path(shutil.copytree(out, place))
