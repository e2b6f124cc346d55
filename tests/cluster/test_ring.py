"""The ring engine between parties: whatever becomes of the dealer, its sets, or a peer gone bad, over mutual TLS."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import pytest

import mpcify
from mpcify.cli.main import run
from mpcify.cluster.canary import Canary
from mpcify.cluster.client import ClusterSession
from mpcify.cluster.deployed import connect
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.gateway.application import application
from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.cluster.witness import Witness
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.party import RingParty
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.network.wire import STANDS
from tests.cluster.deployments import all_serving, deploy, edit, quick, serving
from tests.cluster.gateway import service
from tests.cluster.intruder import Intruder, credentials_of, rogue_third
from tests.cluster.test_metrics import value
from tests.graph.bags import LABELS, LENGTHS, answers
from tests.network.hostile import Hostile, HostileServer, Talk

TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
CLOSE = 1e-3  # of a logit
SILENCE, CONNECT = 2.0, 1.0  # seconds
BOUND = 20.0  # seconds for anything


@pytest.fixture(scope="module", autouse=True)
def in_haste() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture(scope="module")
def expected(calibrated: Path) -> np.ndarray:
    return answers(read_all(calibrated))


def deployed(calibrated: Path, kits: Path, out: Path, ahead: int = 1) -> Path:
    deploy(calibrated, kits, out, RingConfig(ahead=ahead))
    for role in ("client", "owner", "dealer"):
        edit(out / role, message=SILENCE, connect=CONNECT)
    return out


@pytest.fixture
def out(calibrated: Path, made_kits: Path, tmp_path: Path) -> Path:
    """All parties' folders; nobody serves."""
    return deployed(calibrated, made_kits, tmp_path / "out")


def check(folder: Path, expected: np.ndarray) -> None:
    with connect(folder / "client") as private:
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_cluster_answers_and_sends_what_a_simulation_does_whatever_is_dealt_ahead(
    ahead: int, calibrated: Path, made_kits: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    with mpcify.compile(calibrated, engine="ring") as simulation:
        _, simulated = simulation(TEXTS)
    out = deployed(calibrated, made_kits, tmp_path / "out", ahead)
    with all_serving(out), connect(out / "client") as private:
        for _ in range(2):
            logits, cost = private(TEXTS)
            np.testing.assert_allclose(logits, expected, rtol=0, atol=CLOSE)
            for ours, theirs in ((cost.online, simulated.online), (cost.offline, simulated.offline)):
                assert ours is not None
                assert theirs is not None
                assert (ours.bytes_per_party, ours.rounds) == (theirs.bytes_per_party, theirs.rounds)
        assert cost.offline.bytes_per_party["dealer"] > 0 == cost.online.bytes_per_party["dealer"]


@pytest.mark.parametrize("number", [1e9, np.nan], ids=["too large", "none"])
def test_no_peer_hears_of_an_input_that_is_refused(
    number: float, calibrated: Path, made_kits: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    """Else an owner could make its table so that one word ends the session, and would see which texts have it."""
    out = deployed(calibrated, made_kits, tmp_path / "out", ahead=0)
    with all_serving(out), connect(out / "client") as private:
        private(TEXTS)
        session = next(iter(private.sessions.values()))
        assert isinstance(session, ClusterSession)
        links = session.connection.links
        assert links is not None
        before = links.sent
        inputs = {item.name: np.full(item.shape, number) for item in session.graph.held_by("client")}
        for ask in (session.run, session.profile):
            with pytest.raises(MpcifyError, match="MPC-402 client input "):
                ask(inputs)
        assert links.sent == before
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=0, atol=CLOSE)
        assert session.connection.links is links


def test_requests_faster_than_sets_are_dealt_wait_for_them(
    out: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = RingParty.walk

    def slowly(party: RingParty, *given: Any) -> None:
        time.sleep(0.2 if party.role == "dealer" else 0)
        walk(party, *given)

    monkeypatch.setattr(RingParty, "walk", slowly)
    with all_serving(out), connect(out / "client") as private, ThreadPoolExecutor(4) as pool:
        for logits, _ in pool.map(private, [TEXTS[:1]] * 6, timeout=BOUND):
            np.testing.assert_allclose(logits, expected[:1], rtol=0, atol=CLOSE)


def test_without_a_dealer_a_client_is_told_in_time_and_with_it_served(out: Path, expected: np.ndarray) -> None:
    with serving(out / "owner"):
        with pytest.raises(MpcifyError, match=r"MPC-703 .*dealer"):
            connect(out / "client")
        with serving(out / "dealer"):
            check(out, expected)


def test_a_dealer_that_comes_back_deals_to_the_next_session(out: Path, expected: np.ndarray) -> None:
    with serving(out / "owner"):
        with serving(out / "dealer"):
            private = connect(out / "client")
            private(TEXTS)
        with pytest.raises(MpcifyError, match=r"MPC-703 .*dealer"):
            private(TEXTS)
        with private, serving(out / "dealer"):
            np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=0, atol=CLOSE)


def test_an_owner_that_stops_in_a_request_answers_it(
    out: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, begun, asked = RingParty.request, threading.Event(), 0

    def slowly(party: RingParty, *given: Any, **named: Any) -> Any:
        nonlocal asked
        if party.role == "owner":
            asked += 1
            begun.set()
            time.sleep(0.2)
        return request(party, *given, **named)

    monkeypatch.setattr(RingParty, "request", slowly)
    with serving(out / "dealer"), ExitStack() as stopping, ThreadPoolExecutor(1) as pool:
        stopping.enter_context(serving(out / "owner"))
        with connect(out / "client") as private:
            answer = pool.submit(private, TEXTS[:1])
            assert begun.wait(BOUND)
            stopping.close()
            np.testing.assert_allclose(answer.result(BOUND)[0], expected[:1], rtol=0, atol=CLOSE)
    assert asked == 1


def test_a_dealer_that_is_late_delays_a_request_and_one_that_falls_silent_ends_it(
    out: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, late = RingParty.walk, 0.5 * SILENCE

    def slowly(party: RingParty, *given: Any) -> None:
        time.sleep(late if party.role == "dealer" else 0)
        walk(party, *given)

    monkeypatch.setattr(RingParty, "walk", slowly)
    with all_serving(out), connect(out / "client") as private:
        np.testing.assert_allclose(private(TEXTS[:1])[0], expected[:1], rtol=0, atol=CLOSE)
        late = 2 * SILENCE
        began = time.monotonic()
        with pytest.raises(MpcifyError, match="MPC-706"):
            private(TEXTS[:1] * 2)  # of which one may have its set
        assert time.monotonic() - began < BOUND
        late = 0.0
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=0, atol=CLOSE)


def opened(rogue: Intruder) -> None:
    """Does what a dealer does until it has the weights."""
    rogue.shake_hands()
    for peer in ("client", "owner"):
        assert len(rogue.receive(peer, "key")) == 16
    for peer in ("client", "owner"):
        rogue.send(peer, "agree#1", rogue.receive(peer, "agree#1"))


def dealing(*messages: bytes) -> Callable[[Intruder], None]:
    def act(rogue: Intruder) -> None:
        opened(rogue)
        for number, message in enumerate(messages):
            rogue.send("owner", f"1/dealt/{number}#1", message)

    return act


def of_another_set(rogue: Intruder) -> None:
    opened(rogue)
    rogue.send("owner", "1/dealt/0#2", bytes(100))


def flooding(rogue: Intruder) -> None:
    opened(rogue)
    for number in range(100):
        rogue.send("owner", f"nobody asks for this/{number}", bytes(1 << 20))


def disagreeing(rogue: Intruder) -> None:
    rogue.shake_hands()
    for peer in ("client", "owner"):
        rogue.send(peer, "agree#1", bytes(32))


@pytest.mark.parametrize(
    ("act", "number", "logged"),
    [
        (dealing(b""), "MPC-70[67]", 707),
        (dealing(b"x"), "MPC-70[67]", 707),
        (dealing(bytes(1 << 16)), "MPC-70[67]", 707),
        (of_another_set, "MPC-706", 706),
        (flooding, "MPC-70[67]", None),
        (disagreeing, "MPC-705", 705),
        (opened, "MPC-706", 706),
    ],
    ids=["nothing", "too little", "too much", "of another set", "what nobody asks for", "another graph", "silence"],
)
def test_a_dealer_gone_bad_ends_the_request_with_a_number_and_owner_and_client_go_on(
    out: Path,
    expected: np.ndarray,
    act: Callable[[Intruder], object],
    number: str,
    logged: int | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """logged: the number in the owner's log, if it is always the same."""

    def asked() -> np.ndarray:
        with connect(out / "client") as private:
            return private(TEXTS[:1])[0]

    with serving(out / "owner"):
        with rogue_third(out / "dealer") as waiting, ThreadPoolExecutor(1) as pool:
            request = pool.submit(asked)
            act(waiting.join())
            with pytest.raises(MpcifyError, match=number):
                request.result(BOUND)
        with serving(out / "dealer"):
            check(out, expected)
    said = map(json.loads, capfd.readouterr().err.splitlines())
    (failed,) = (line["code"] for line in said if (line["party"], line["event"]) == ("owner", "session-failed"))
    assert failed == logged or logged is None


def heard(talk: Talk) -> list[bytes | None]:
    """What came, until nothing does for a while."""
    frames = list[bytes | None]()
    with suppress(Empty):
        while True:
            frames.append(talk.hear(0.5))
    return frames


def test_a_dealers_kit_opens_no_session_and_passes_for_no_owner(out: Path, expected: np.ndarray) -> None:
    address, kit = str(read_deployment(out / "owner").listen), credentials_of(out / "dealer")
    with serving(out / "owner"), Hostile(address, "owner", kit) as dealer:
        talk = dealer.open(secrets.token_hex(16))
        with serving(out / "dealer"):
            check(out, expected)
        assert STANDS not in heard(talk)
    with HostileServer(address, kit), serving(out / "dealer"), pytest.raises(MpcifyError, match=r"MPC-70[34] .*owner"):
        connect(out / "client")


@pytest.mark.parametrize("words", [("infer", *TEXTS), ("evaluate", "--data", "DATA"), ("profile", "--length", "4")])
def test_every_verb_that_asks_a_cluster_keeps_apart_what_was_done_ahead(
    words: tuple[str, ...], out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data := tmp_path / "data.tsv").write_text("sentence\tlabel\na good film\tgood\na bad film\tbad\n")
    given = [str(data) if word == "DATA" else word for word in words]
    with all_serving(out):
        assert run([*given, "--cluster", str(out / "client"), "--format", "json"]) == 0
    cost = json.loads(capfd.readouterr().out)["cost"]
    assert cost["offline"]["bytes_per_party"]["dealer"] > 0 == cost["online"]["bytes_per_party"]["dealer"]
    assert cost["bytes"] == cost["online"]["bytes"] + cost["offline"]["bytes"]


def test_gateway_canary_and_metrics_have_nothing_of_the_engine(out: Path, tmp_path: Path, expected: np.ndarray) -> None:
    metrics = Metrics("client", LENGTHS)
    (known := tmp_path / "known.jsonl").write_text(
        json.dumps({"input": "a good film", "label": LABELS[expected[0].argmax()]}) + "\n"
    )
    turns = iter([False])
    with all_serving(out), connect(out / "client", witness=Witness(metrics=metrics)) as private:
        with service.serving(application(private, service.TOKEN)) as gateway:
            status, answer = gateway.ask(TEXTS)
        canary = Canary(private, known, 60.0, metrics, Log("client", "json"), lambda _: next(turns, True))
        canary.start()
        canary.thread.join(BOUND)
    assert status == 200
    assert answer["cost"]["offline"]["bytes_per_party"]["dealer"] > 0
    assert value(metrics, "mpcify_canary_total", result="right") == 1
    assert value(metrics, "mpcify_requests_total", length="4") == 3
    assert value(metrics, "mpcify_failures_total", code="706") == 0
