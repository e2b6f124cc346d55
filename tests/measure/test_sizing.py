"""What a party's machine needs: processor and line from the formulas, memory from what is held at once."""

import numpy as np
import pytest

from mpcify.engines.rules import Work
from mpcify.engines.spu.config import SpuConfig
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.measure.sizing import COPIES, GIB, PROCESSES, SHARING, Sizing, most_at_once, sizing
from mpcify.measure.speed import Machine, Speed


def chain(steps: int, size: int = 1000) -> Graph:
    """Squares, one after the other, and a product with a weight."""
    builder = Builder(1, 1)
    x = builder.input("x", "client", (1, size))
    for step in range(steps):
        x = builder.emit(f"step.{step}", "square", (x,))
    inputs = (x, builder.weight("w", np.zeros((size, 7))), builder.weight("b", np.zeros(7)))
    return builder.finish(None, [builder.emit("y", "linear", inputs)])


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_value_counts_from_when_it_is_made_to_its_last_use(steps: int) -> None:
    assert most_at_once(chain(steps)) == 2000


def test_a_value_that_is_used_again_later_counts_until_then() -> None:
    builder = Builder(1, 1)
    x = builder.input("x", "client", (100,))
    first = builder.emit("first", "square", (x,))
    second = builder.emit("second", "square", (first,))
    third = builder.emit("third", "square", (second,))
    graph = builder.finish(None, [builder.emit("sum", "add", (x, third))])
    assert most_at_once(graph) == 300  # x, and two of the others at a time


def test_each_party_holds_its_shares_and_the_owner_its_weights_and_what_it_sends() -> None:
    graph, rules = chain(1), SpuConfig().rules()
    found = sizing(graph, rules.work(graph), Machine(Speed(0.0, 0.0, 0.0), rules))
    shares = 16 * (7007 + COPIES * 2000) / GIB  # ABY3: two of three shares, of 8 bytes each
    making = SHARING * 3 * 16 * 7000 / GIB  # of the largest weight, all parties' shares
    assert found.memory["helper"] == pytest.approx(PROCESSES + shares, rel=1e-9)
    assert found.memory["client"] == found.memory["helper"]  # it looks nothing up in a table
    assert found.memory["owner"] - found.memory["helper"] == pytest.approx(making + 4 * 7007 / GIB, rel=1e-6)


def test_processor_and_line_are_a_partys_part_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    graph, rules = chain(1), SpuConfig().rules()
    works = {"all": Work(bytes=3e9, messages=10, multiplications=5e6)}
    found = sizing(graph, works, Machine(Speed(1e-6, 1e-9, 1e-2), rules))
    assert found.cpu_seconds == pytest.approx(2 / 3 * (5 + 3 + 0.1))
    assert found.gigabits == pytest.approx(8)
    assert found.to_json()["requests_per_second_per_core"] == pytest.approx(1 / found.cpu_seconds)
    assert "0.19 requests/s a core), 8 Gbit sent\nmemory (GiB): client " in found.lines()


def test_what_takes_no_time_has_no_pace() -> None:
    free = Sizing(0.0, 0.0, {})
    assert free.to_json()["requests_per_second_per_core"] is None
    assert "no work" in free.lines()
