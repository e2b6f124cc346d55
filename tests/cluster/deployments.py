"""Deployed folders of all parties on this machine, and their services in threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mpcify.cluster import deployed, party
from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployment import read_deployment
from mpcify.engines.config import ENGINES, EngineConfig
from mpcify.engines.rules import Rules
from mpcify.engines.spu.config import SpuConfig
from tests.cluster.trusting import TrustingConfig


@dataclass(frozen=True)
class CountedConfig(TrustingConfig):
    """Parties that trust each other, with formulas of what a request costs."""

    def rules(self) -> Rules:
        return SpuConfig().rules()


@dataclass(frozen=True)
class DealtConfig(CountedConfig):
    """The same with a dealer, and no helper."""

    name = "dealt"
    third: ClassVar[str] = "dealer"


@contextmanager
def quick(config: type[EngineConfig] | None = None) -> Iterator[pytest.MonkeyPatch]:
    """While open, parties look up from waiting often, and an engine of the tests is one that there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(party, "PULSE", 0.05)
        if config is not None:
            patch.setitem(ENGINES, config.name, config)
        yield patch


def deploy(parties: Path, kits: Path, out: Path, engine: EngineConfig | None = None) -> Path:
    """A folder of all parties' folders, with addresses that are free."""
    engine = engine or CountedConfig()
    listening = engine.parties[1:]
    first, second, gateway, desk = free_addresses(4)
    urls = {"delegate": f"http://{gateway}", "owner": f"http://{desk}"} if engine.delegated else None
    write_deployment(parties, kits, out, engine, dict(zip(listening, (first, second), strict=True)), urls=urls)
    for role in engine.parties:
        edit(out / role, health=free_addresses(1)[0])
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
def serving(folder: Path) -> Iterator[None]:
    """A party at work in a thread, as `party serve` runs it."""
    started, stops = threading.Event(), list[Callable[[], None]]()

    @contextmanager
    def stoppable(stop: Callable[[], None]) -> Iterator[None]:
        stops.append(stop)
        started.set()
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployed, "on_signal", stoppable)
        patch.setattr(deployed, "libraries", lambda log: nullcontext())
        thread = threading.Thread(target=deployed.serve, args=(folder,), daemon=True)
        thread.start()
        assert started.wait(10)
    try:
        yield
    finally:
        stops[0]()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def all_serving(out: Path) -> Iterator[None]:
    """All parties but the client at work."""
    with ExitStack() as stack:
        for role in read_deployment(out / "client").engine.parties[1:]:
            stack.enter_context(serving(out / role))
        yield
