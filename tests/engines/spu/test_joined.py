"""The child of a real party dies, freezes or fails: a numbered line here, a reason at the peers, and a new session."""

import gc
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.engines.engine import Party
from mpcify.engines.spu.child import Child
from mpcify.engines.spu.joined import JoinedParty
from mpcify.errors import MpcifyError
from mpcify.network.memory import connect
from tests.engines.parties import alone, answer, join, together
from tests.engines.spu.models import FORCED, INPUT, is_gone, plain, wide_model
from tests.makers import small_model

ROLES = ("client", "owner", "helper")
WIDE = {"x": np.ones((2048, 256), np.float32)}


def child_of(party: Party) -> Child:
    assert isinstance(party, JoinedParty)
    return party.place.child


def pid_of(party: Party) -> int:
    return child_of(party).process.pid


def check_goes_on() -> None:
    """The same process joins again, over new links."""
    graph, weights = small_model()
    parties = join(FORCED.build().compile(graph), connect(ROLES, timeout=60), weights)
    found = answer(parties, {"x": INPUT})["client"][0]["logits"]
    np.testing.assert_allclose(found, plain((graph, weights), INPUT), atol=2e-3)
    parties["client"].close()


@pytest.mark.parametrize(
    ("how", "said"),
    [(signal.SIGKILL, r"process ended \(signal SIGKILL\)"), (signal.SIGSTOP, "stopped from outside")],
)
def test_a_child_that_ends_or_freezes_in_a_request_is_noticed_by_all(
    how: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.PULSE", 0.1)
    graph, weights = wide_model()
    parties = join(FORCED.build().compile(graph), connect(ROLES, timeout=60), weights)
    began: list[float] = []

    def end() -> None:
        began.append(time.monotonic())
        os.kill(pid_of(parties["helper"]), how)

    threading.Timer(0.5, end).start()
    found = answer(parties, WIDE)
    assert time.monotonic() - began[0] < 30, "half of what the links would wait"
    with pytest.raises(MpcifyError, match=f"MPC-503 spu engine: .*{said}"):
        raise found["helper"]
    for role in ("client", "owner"):
        with pytest.raises(MpcifyError, match=r"MPC-706 .*(the engine of helper has ended|helper failed with MPC-503)"):
            raise found[role]
    assert all(is_gone(pid_of(party)) for party in parties.values())
    check_goes_on()


def test_a_child_that_ends_between_requests_ends_the_session_at_once() -> None:
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    parties = join(FORCED.build().compile(graph), links, weights)
    os.kill(pid_of(parties["owner"]), signal.SIGKILL)
    with pytest.raises(ConnectionError, match="the engine of owner has ended"):
        links["client"].receive("owner", "control#1")
    with pytest.raises(MpcifyError, match=r"MPC-503 .*SIGKILL"):
        parties["owner"].answer(None)
    with pytest.raises(MpcifyError, match=r"MPC-706 .*the engine of owner has ended"):
        parties["client"].answer({"x": INPUT})


def test_a_child_that_spu_ends_is_one_numbered_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.MODULE", "tests.engines.spu.leaver")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    program, links = FORCED.build().compile(small_model()[0]), connect(ROLES, timeout=60)
    with pytest.raises(MpcifyError, match=r"MPC-503 .*its process ended \(exit code 255\): the last words"):
        program.join("owner", links["owner"])
    with pytest.raises(ConnectionError, match=r"engine of owner has ended|owner failed with MPC-503"):
        links["client"].receive("owner", "any")


def test_a_peer_that_says_nothing_is_gone_after_the_links_timeout() -> None:
    program, links = FORCED.build().compile(small_model()[0]), connect(ROLES, timeout=1)
    found = together(lambda role: program.join(role, links[role]), ROLES[:2])
    texts = [str(found[role]) for role in ROLES[:2]]
    assert all(text.startswith("MPC-706 spu engine: ") for text in texts), texts
    assert any("no 'agree#1' within 1 s" in text for text in texts), texts


def test_a_party_that_leaves_ends_the_others_request_with_its_reason() -> None:
    graph, weights = small_model()
    parties = join(FORCED.build().compile(graph), connect(ROLES, timeout=60), weights)

    def act(role: str) -> Any:
        if role == "helper":
            return parties[role].close("helper is shut down")
        return parties[role].answer(alone({"x": INPUT}, role, "client"))

    found = together(act, ROLES)
    for role in ("client", "owner"):
        with pytest.raises(MpcifyError, match=r"MPC-706 .*helper is shut down"):
            raise found[role]


def test_the_last_message_reaches_the_client_though_its_sender_closes_at_once() -> None:
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    parties, post = join(FORCED.build().compile(graph), links, weights), links["owner"].post

    def slow(peer: str, key: str, message: bytes) -> None:
        time.sleep(0.5 if key.startswith("rebuild") else 0)
        post(peer, key, message)

    links["owner"].post = slow  # type: ignore[method-assign]

    def act(role: str) -> Any:
        found = parties[role].answer(alone({"x": INPUT}, role, "client"))[0]
        if role == "owner":
            parties[role].close()
        return found

    found = together(act, ROLES)
    np.testing.assert_allclose(found["client"]["logits"], plain((graph, weights), INPUT), atol=2e-3)


def test_a_child_ends_with_the_last_reference_to_its_party_and_the_peers_learn_of_it() -> None:
    links = connect(ROLES, timeout=60)
    parties = join(FORCED.build().compile(small_model()[0]), links, None)
    pid = pid_of(parties.pop("owner"))
    gc.collect()
    assert is_gone(pid)
    with pytest.raises(ConnectionError, match="the engine of owner has ended"):
        links["helper"].receive("owner", "any")
