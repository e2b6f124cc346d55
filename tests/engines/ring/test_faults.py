"""A session of the ring engine from its keys to its end: what waits for what, and what goes wrong."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mpcify.engines.ring import roles
from mpcify.engines.ring.config import PARTIES, RingConfig
from mpcify.engines.ring.party import RingParty
from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.memory import connect
from tests.engines.parties import answer, join, together
from tests.engines.samples import drawn_model, drawn_request, in_numpy

GRAPH, WEIGHTS = drawn_model(1, 2)
INPUTS = drawn_request(GRAPH, 3)
CLOSE = 5e-3
SOON = 10.0  # seconds
Change = Callable[[str, bytes], bytes | None]


@pytest.fixture(autouse=True)
def no_thread_remains() -> Iterator[None]:
    """Whatever a test does, the workers of its sessions end."""
    before = {*threading.enumerate()}
    yield
    end = time.monotonic() + SOON
    while workers := [thread for thread in {*threading.enumerate()} - before if thread.name.startswith("ring-")]:
        assert time.monotonic() < end, workers
        time.sleep(0.01)


def opened(links: Mapping[str, Links], ahead: int = 1) -> dict[str, Any]:
    """Parties with their weights in place."""
    return join(RingConfig(force=True, ahead=ahead).build().compile(GRAPH), links, WEIGHTS)


def close(parties: Mapping[str, Any]) -> None:
    for party in parties.values():
        party.close()


def is_right(outputs: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_allclose(outputs["logits"], in_numpy(WEIGHTS, INPUTS), rtol=0, atol=CLOSE)


def changing(links: Mapping[str, Links], sender: str, change: Change) -> None:
    """Lets a sender's messages be changed, by their key; None loses one."""
    post = links[sender].post

    def posted(peer: str, key: str, message: bytes) -> None:
        if (found := change(key, message)) is not None:
            post(peer, key, found)

    links[sender].post = posted  # type: ignore[method-assign]


def test_keys_take_no_more_memory_however_many_requests_there_are() -> None:
    links = connect(PARTIES, timeout=60)
    parties = opened(links)

    def kept() -> int:
        return sum(len(used) for end in links.values() for used in end._used.values())

    answer(parties, INPUTS)
    before = kept()
    for _ in range(5):
        is_right(answer(parties, INPUTS)["client"][0])
    assert kept() == before
    close(parties)


def test_every_session_has_keys_of_its_own_and_those_of_two_peers_differ() -> None:
    found = []
    for _ in range(2):
        links = connect(PARTIES, "the same name", timeout=60)
        parties = opened(links, ahead=0)
        keys = {
            role: {peer: key.algorithm.key for peer, key in party.seat.keys.items()} for role, party in parties.items()
        }
        assert keys["client"]["dealer"] == keys["dealer"]["client"]
        assert keys["owner"]["dealer"] == keys["dealer"]["owner"]
        assert keys["client"]["owner"] == keys["owner"]["client"]
        found += [key for mine in keys.values() for key in mine.values()]
        close(parties)
    assert {*Counter(found).values()} == {2}, "a key is its two parties' alone"


def test_sets_are_taken_in_order_and_each_once_whatever_waits() -> None:
    links = connect(PARTIES, timeout=60)
    parties = opened(links, ahead=2)
    taken: dict[str, list[int]] = {"client": [], "owner": []}
    for role, numbers in taken.items():
        take = parties[role].take

        def counted(take: Any = take, numbers: list[int] = numbers) -> Any:
            numbers.append((prepared := take()).role.number)
            return prepared

        parties[role].take = counted
    for _ in range(5):
        is_right(answer(parties, INPUTS)["client"][0])
    assert taken == {"client": [1, 2, 3, 4, 5], "owner": [1, 2, 3, 4, 5]}
    close(parties)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_store_that_runs_dry_makes_requests_wait_and_answers_them(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = RingParty.walk

    def slowly(party: RingParty, *given: Any) -> None:
        time.sleep(0.1 if party.role == "dealer" else 0)
        walk(party, *given)

    monkeypatch.setattr(RingParty, "walk", slowly)
    parties = opened(connect(PARTIES, timeout=60), ahead)
    for _ in range(5):
        is_right(answer(parties, INPUTS)["client"][0])
    close(parties)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_dealer_deals_the_next_set_once_the_owner_has_answered(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    links, walk = connect(PARTIES, timeout=60), RingParty.walk

    def noted(party: RingParty, *given: Any) -> None:
        if party.role == "dealer":
            happened.append("deals")
        walk(party, *given)

    def last(key: str, message: bytes) -> bytes:
        if key.startswith("answered"):
            time.sleep(0.05)  # in which a dealer that does not wait would begin
            happened.append(key)
        return message

    monkeypatch.setattr(RingParty, "walk", noted)
    changing(links, "owner", last)
    parties = opened(links, ahead)
    for _ in range(2):
        parties["dealer"].seat.settle()  # what waits is dealt
        is_right(answer(parties, INPUTS)["client"][0])
    parties["dealer"].seat.settle()
    first = ["deals"] * (ahead or 1)
    assert happened == [*first, "answered#1", "deals", "answered#2", *["deals"][:ahead]]
    close(parties)


def test_a_client_sends_ahead_no_more_than_one_message_that_the_owner_has_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roles, "CHUNK", 64)
    links = connect(PARTIES, timeout=60)
    waiting, most = 0, 0

    def sent(key: str, message: bytes) -> bytes:
        nonlocal waiting, most
        waiting += "/ahead/" in key
        most = max(most, waiting)
        return message

    def taken(key: str, message: bytes) -> bytes:
        nonlocal waiting
        waiting -= key.startswith("taken#")
        time.sleep(0.002)
        return message

    changing(links, "client", sent)
    changing(links, "owner", taken)
    parties = opened(links, ahead=3)
    for _ in range(3):
        is_right(answer(parties, INPUTS)["client"][0])
    assert links["client"].inboxes["owner"]._arrived.runs["taken#"][1][0] > 6
    assert most == 1
    close(parties)


MESSAGES = [  # what a party sends another
    ("client", "key"),
    ("owner", "weight#1"),
    ("dealer", "1/dealt/0#1"),
    ("dealer", "1/dealt/0#2"),
    ("client", "1/ahead/0#1"),
    ("client", "1/ahead/0#2"),
    ("client", "1/said/1#1"),
    ("client", "1/said/1#2"),
    ("owner", "1/said/2#1"),
    ("owner", "1/said/2#2"),
]


@pytest.mark.parametrize("change", [lambda message: message[:-1], lambda message: message + b"\0", lambda message: b""])
@pytest.mark.parametrize("sender, wanted", MESSAGES)
def test_a_message_of_another_length_ends_the_session_of_all_by_number(
    sender: str, wanted: str, change: Callable[[bytes], bytes]
) -> None:
    links = connect(PARTIES, timeout=60)
    changing(links, sender, lambda key, message: change(message) if key == wanted else message)
    found = outcome(links)
    codes = {error.code for error in found.values() if isinstance(error, MpcifyError)}
    assert 707 in codes <= {706, 707}
    assert all(end.closed is not None for end in links.values())


@pytest.mark.parametrize("wanted", ["answered#1", "taken#1"])  # to the dealer, and to the client
def test_what_tells_of_an_end_says_nothing_else(wanted: str) -> None:
    links = connect(PARTIES, timeout=60)
    changing(links, "owner", lambda key, message: b"\0" if key == wanted else message)
    found = outcome(links)
    codes = {error.code for error in found.values() if isinstance(error, MpcifyError)}
    assert 707 in codes <= {706, 707}
    assert all(end.closed is not None for end in links.values())


@pytest.mark.parametrize("sender, wanted", [*MESSAGES, ("dealer", "agree#1"), ("owner", "answered#1")])
def test_a_message_that_is_lost_ends_the_session_of_all_in_time(sender: str, wanted: str) -> None:
    links = connect(PARTIES, timeout=0.5)
    changing(links, sender, lambda key, message: None if key == wanted else message)
    found = outcome(links)
    codes = {error.code for error in found.values() if isinstance(error, MpcifyError)}
    assert codes == {706}
    assert any("within 0.5 s" in str(error) for error in found.values())


def outcome(links: Mapping[str, Links]) -> dict[str, Any]:
    """What each party gets from a session of three requests, or the error that ends it."""
    program, parties = RingConfig(force=True).build().compile(GRAPH), dict[str, RingParty]()

    def act(role: str) -> Any:
        party = parties[role] = program.join(role, links[role])
        party.hold(WEIGHTS if role == "owner" else None)
        for _ in range(3):
            answered = party.answer(INPUTS if role == "client" else public())
        return answered

    found = together(act, PARTIES)
    close(parties)
    return found


def public() -> dict[str, np.ndarray]:
    return {item.name: INPUTS[item.name] for item in GRAPH.held_by("public")}


def test_what_fails_between_two_requests_is_what_the_next_one_says() -> None:
    links = connect(PARTIES, timeout=60)
    changing(links, "dealer", lambda key, message: message[:-1] if key == "1/dealt/0#2" else message)
    parties = opened(links)
    is_right(answer(parties, INPUTS)["client"][0])
    end = time.monotonic() + SOON
    while any(end.closed is None for end in links.values()):
        assert time.monotonic() < end
        time.sleep(0.01)
    found = answer(parties, INPUTS)
    assert found["owner"].code == 707
    assert found["client"].code == 706
    assert "owner failed with MPC-707" in str(found["client"])
    close(parties)


@pytest.mark.parametrize("gone", PARTIES)
def test_a_party_that_goes_while_sets_are_prepared_leaves_no_other_behind(gone: str) -> None:
    parties = opened(connect(PARTIES, timeout=60), ahead=16)
    parties[gone].close("it was told to stop")
    found = answer({role: party for role, party in parties.items() if role != gone}, INPUTS)
    for error in found.values():
        if isinstance(error, MpcifyError):
            assert (error.code, "it was told to stop" in error.what) == (706, True)
    close(parties)


def test_threads_take_turns_in_a_simulation() -> None:
    for ahead in (0, 1):
        program = RingConfig(force=True, ahead=ahead).build().compile(GRAPH)
        with program.load(WEIGHTS) as session, ThreadPoolExecutor(4) as pool:
            for outputs, _ in pool.map(session.run, [INPUTS] * 8, timeout=60):
                is_right(outputs)


def test_a_simulation_that_is_closed_while_it_answers_says_so_by_number() -> None:
    session = RingConfig(force=True, ahead=0).build().compile(GRAPH).load(WEIGHTS)

    def ask_on() -> MpcifyError:
        while True:
            try:
                session.run(INPUTS)
            except MpcifyError as error:
                return error

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask_on) for _ in range(2)]
        time.sleep(0.1)
        session.close()
        assert {each.result(SOON).code for each in asking} <= {503, 706}
