"""A product's parts: together all of it, each once, and over when the call returns, whatever happens."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.kernels import threads


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads._others.cache_clear()
    monkeypatch.setattr(threads, "threads", lambda: 4)
    yield
    threads._others().shutdown()
    threads._others.cache_clear()


@settings(max_examples=200, deadline=None)
@given(count=st.integers(0, 500), unit=st.integers(1, 60), least=st.integers(0, 200))
def test_parts_are_a_whole_in_pieces_of_a_unit_and_not_too_small(count: int, unit: int, least: int) -> None:
    found: list[tuple[int, int]] = []
    threads.shared(count, unit, least, lambda start, end: found.append((start, end)))
    found.sort()
    assert found[0][0] == 0
    assert found[-1][1] == count
    assert all(one[1] == following[0] for one, following in pairwise(found))
    assert all(start % unit == 0 for start, _ in found)
    assert 1 <= len(found) <= 4
    if len(found) > 1:
        assert all(end - start > least - unit for start, end in found)


def test_parts_run_beside_each_other() -> None:
    together = threading.Barrier(4, timeout=30)
    threads.shared(4, 1, 1, lambda start, end: together.wait() and None)


def test_the_caller_does_what_busy_threads_have_not_begun() -> None:
    busy, free = threading.Barrier(4, timeout=30), threading.Event()
    for _ in range(3):
        threads._others().submit(lambda: (busy.wait(), free.wait(30)))
    busy.wait()
    done: dict[int, int] = {}
    threads.shared(4, 1, 1, lambda start, end: done.update({start: threading.get_ident()}))
    free.set()
    assert done == dict.fromkeys(range(4), threading.get_ident())


@pytest.mark.parametrize("failing", [0, 3])
def test_a_failure_is_raised_when_no_part_runs_any_more(failing: int) -> None:
    running: set[int] = set()

    def act(start: int, end: int) -> None:
        if start == failing:
            raise IndexError("no")
        running.add(start)
        time.sleep(0.05)
        running.remove(start)

    with pytest.raises(IndexError, match="no"):
        threads.shared(4, 1, 1, act)
    assert not running


def test_without_other_threads_the_caller_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system gives none, after some of the parts were given away, or the interpreter ends."""
    pool, given = threads._others(), []

    def submit(act: Callable[[], None]) -> Any:
        given.append(act)
        if len(given) > 1:
            raise RuntimeError("can't start new thread")
        return ThreadPoolExecutor.submit(pool, act)

    monkeypatch.setattr(pool, "submit", submit)
    found: list[int] = []
    threads.shared(4, 1, 1, lambda start, end: found.append(start))
    assert sorted(found) == [0, 1, 2, 3]
    given[-1]()  # what a pool had queued before it failed: nothing is left for it
    assert len(found) == 4


def test_many_callers_share_the_threads() -> None:
    sums: list[int] = []

    def one(_: int) -> None:
        found: list[int] = []
        threads.shared(40, 1, 1, lambda start, end: found.extend(range(start, end)))
        sums.append(sum(found))

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(one, range(50)))
    assert sums == [780] * 50


def in_child(answer: Any) -> None:
    """Sends what parts a child process makes."""
    found: list[int] = []
    threads.shared(4, 1, 1, lambda start, end: found.append(start))
    answer.send(sorted(found))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_of_fork_has_threads_of_its_own() -> None:
    threads.shared(4, 1, 1, lambda start, end: time.sleep(0.01))  # so that there are threads to lose
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(theirs,))
    child.start()
    assert ours.poll(30)
    assert ours.recv() == [0, 1, 2, 3]
    child.join(30)
