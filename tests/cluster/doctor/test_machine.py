"""A machine: its memory, its processors, and what listens at a party's addresses."""

from pathlib import Path

import pytest

from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import machine
from mpcify.cluster.doctor.doctor import examine
from tests.cluster.deployments import edit
from tests.cluster.doctor.examined import address_of, listener, of, wrong


def test_too_little_memory_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (1 << 20, 1 << 10))
    found = wrong(examine(out / "owner"))
    assert [*found] == ["memory"]
    assert "GiB at least" in found["memory"].problem


def test_a_containers_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CONTROL", tmp_path)
    whole, _ = machine.memory()
    for name, content in {"memory.max": "1048576", "memory.current": "48576"}.items():
        (tmp_path / name).write_text(content)
    assert machine.memory() == (1 << 20, 1_000_000)
    (tmp_path / "memory.max").write_text("max")
    assert machine.memory()[0] == whole


def test_few_processors_and_many_threads_are_warned_of(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    assert "9 threads" in of(examine(out / "owner"), "processors").problem
    monkeypatch.setattr(machine, "processors", lambda: 1.0)
    assert "two processors" in of(examine(out / "owner"), "processors").remedy


def test_another_program_at_the_partys_addresses_is_found(out: Path) -> None:
    health = str(read_deployment(out / "owner").health)
    with listener(address_of(out, "owner")), listener(health):
        found = wrong(examine(out / "owner"))
    assert [*found] == ["listen", "health"]
    assert "another program listens" in found["listen"].problem
    assert "[parties]" in found["listen"].remedy
    assert "[health]" in found["health"].remedy


def test_an_address_of_another_machine_is_none_to_listen_at(out: Path) -> None:
    edit(out / "owner", owner="192.0.2.1:7000")
    found = wrong(examine(out / "owner"))
    assert [*found] == ["listen"]
    assert 'address = "0.0.0.0:7000"' in found["listen"].remedy
    edit(out / "owner", listen="0.0.0.0:" + free_addresses(1)[0].rpartition(":")[2])
    assert examine(out / "owner").ok
