"""A stand-in for the hub."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for `datasets` that knows the set `films`; the calls it got."""
    calls: list[tuple[Any, ...]] = []
    rows = [{"idx": 0, "sentence": "fine", "label": 1}, {"idx": 1, "sentence": "poor", "label": 0}]

    class Data(list[dict[str, Any]]):
        column_names = ("idx", "sentence", "label")

    def load_dataset(name: str, configuration: str | None, split: str | None) -> Any:
        calls.append((name, configuration, split))
        if name != "films":
            raise ConnectionError("no network")
        return Data(rows) if split else {"train": Data(rows), "validation": Data(rows)}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls
