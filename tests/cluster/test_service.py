"""A cluster's sessions: what the client gets, what the others do, and what becomes of both if something fails."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.cluster import party
from mpcify.cluster.handshake import shake_hands
from mpcify.cluster.metrics import Metrics
from mpcify.cluster.orders import Order, order_key
from mpcify.cluster.party import Patience
from mpcify.cluster.witness import Witness
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.network.memory import MemoryNetwork
from tests.cluster.trusting import TrustingConfig
from tests.graph.bags import Bag, answers, export

Clusters = Callable[..., Any]
TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths


@dataclass(frozen=True)
class Seen(Witness):
    """What a party told of its sessions."""

    events: list[tuple[str, Any]] = field(default_factory=list)

    def session_opened(self, session: str) -> None:
        self.events.append(("opened", session))

    def session_ended(self, session: str | None, reason: str) -> None:
        self.events.append(("ended", reason))

    def session_failed(self, session: str | None, error: BaseException) -> None:
        self.events.append(("failed", getattr(error, "code", type(error))))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "PULSE", 0.02)


def test_a_client_gets_the_answers_of_the_model(cluster: Clusters, exported: Path) -> None:
    with cluster() as running, running.connect() as private:
        np.testing.assert_allclose(private(TEXTS)[0], answers(read_all(exported)), rtol=1e-6)


def test_weights_are_shared_once_a_session_whatever_the_lengths(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        private(TEXTS)
        setup = private.setup
        _, cost = private(TEXTS)
        assert setup.bytes_per_party["owner"] > 0
        assert cost.bytes_per_party["owner"] == 0
        assert private.setup == setup


def test_a_request_costs_what_all_parties_sent(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        _, cost = private(TEXTS[:1])
        assert set(cost.bytes_per_party) == {"client", "owner", "helper"}
        assert cost.bytes == sum(cost.bytes_per_party.values())
        assert cost.bytes_per_party["client"] > cost.bytes_per_party["owner"] == 0
        assert cost.seconds > 0
        assert cost.rounds == 1


def test_threads_share_a_client_and_none_gets_anothers_answer(cluster: Clusters, exported: Path) -> None:
    words = [" ".join(["a", "good", "bad", "film"][k % 4] for k in range(n % 7 + 1)) for n in range(40)]
    with cluster() as running, running.connect() as private, ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda text: private([text])[0][0], words)]
    from mpcify.engines.plain import PlainEngine
    from mpcify.inference import PrivateModel

    with PrivateModel(read_all(exported), PlainEngine()) as plain:
        np.testing.assert_allclose(np.stack(found), plain(words)[0], rtol=1e-6)


def test_a_client_has_no_answers_in_floats(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        assert not private.has_weights
        with pytest.raises(MpcifyError, match=r"MPC-506 .*weights are the owner's"):
            private.plain(TEXTS)


def test_one_client_after_the_other_is_served(cluster: Clusters) -> None:
    with cluster() as running:
        first = running.connect()
        expected = first(TEXTS)[0]
        first.close()
        with running.connect() as second:
            np.testing.assert_array_equal(second(TEXTS)[0], expected)


def test_a_closed_client_says_so(cluster: Clusters) -> None:
    with cluster() as running:
        private = running.connect()
        private(TEXTS)
        private.close()
        with pytest.raises(MpcifyError, match="MPC-506"):
            private(TEXTS)


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_a_request_during_which_a_party_goes_fails_and_the_next_finds_it_back(cluster: Clusters, role: str) -> None:
    """The party goes after the client asked, so the request cannot be saved."""
    with cluster() as running, running.connect() as private:
        expected = private(TEXTS[:1])[0]
        going = running.services[role]
        going.obey = lambda *_: running.crash(role)
        with pytest.raises(MpcifyError, match=r"MPC-70[67]") as raised:
            private(TEXTS[:1])
        assert "good" not in str(raised.value)
        running.services.pop(role, None)
        running.start(role)
        np.testing.assert_array_equal(private(TEXTS[:1])[0], expected)


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_a_party_that_restarts_while_nobody_asks_costs_no_request(cluster: Clusters, role: str) -> None:
    with cluster() as running, running.connect() as private:
        expected = private(TEXTS)[0]
        running.crash(role)
        running.start(role)
        np.testing.assert_array_equal(private(TEXTS)[0], expected)


def test_a_link_that_breaks_between_others_while_nobody_asks_costs_no_request(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        expected = private(TEXTS)[0]
        links = running.services["owner"].network._taken
        for box in (links.inboxes["helper"], links.outboxes["helper"]):
            box.close("the line was cut")
        for _ in range(500):
            if private.source.links.closed is not None:
                break
            threading.Event().wait(0.02)
        np.testing.assert_array_equal(private(TEXTS)[0], expected)


def test_a_party_that_is_not_there_is_named_in_time(cluster: Clusters) -> None:
    with cluster() as running, running.connect(connecting=0.2) as private:
        running.stop("helper")
        with pytest.raises(MpcifyError, match=r"MPC-703 .*helper"):
            private(TEXTS)


def test_a_party_that_fails_ends_the_session_and_not_the_service(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        service = running.services["helper"]
        obey, service.obey = service.obey, lambda *_: 1 / 0
        with pytest.raises(MpcifyError, match=r"MPC-706 .*MPC-903 at helper"):
            private(TEXTS)
        service.obey = obey
        assert private(TEXTS)[0].shape == (3, 2)


def test_a_silent_party_is_taken_for_gone_in_time(cluster: Clusters) -> None:
    going = threading.Event()
    with cluster(timeout=0.3) as running, running.connect() as private:
        running.services["owner"].obey = lambda *_: going.wait(5) and {}
        with pytest.raises(MpcifyError, match="MPC-706"):
            private(TEXTS)
        going.set()


def test_a_draining_party_answers_what_runs_and_says_why_it_goes(cluster: Clusters) -> None:
    seen = Seen()
    with cluster() as running, running.connect(witness=seen) as private:
        private(TEXTS)
        running.stop("owner")
        with pytest.raises(MpcifyError, match=r"MPC-703 .*owner"):
            private(TEXTS)
    assert [event for event, _ in seen.events] == ["opened", "ended"]


def test_a_party_drains_while_a_client_asks_on_and_costs_it_no_request(cluster: Clusters, exported: Path) -> None:
    with cluster() as running, running.connect() as private:
        owner, obey = running.services["owner"], running.services["owner"].obey
        restarted = threading.Thread(target=lambda: (running.stop("owner"), running.start("owner")))

        def last(order: Order, *given: Any) -> Any:
            if order.do == "answer" and not restarted.ident:
                owner.stop()
                restarted.start()
            return obey(order, *given)

        owner.obey = last
        np.testing.assert_allclose(private(TEXTS)[0], answers(read_all(exported)), rtol=1e-6)
        restarted.join(10)
        assert owner.answered == 1
        assert running.services["owner"].answered == 1


def test_a_party_that_drains_as_soon_as_weights_are_shared_costs_no_request(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        owner, obey = running.services["owner"], running.services["owner"].obey

        def last(*given: Any) -> Any:
            owner.stop()
            return obey(*given)

        owner.obey = last
        opened = private.source.setup

        def slow(length: int) -> Any:
            cost = opened(length)
            if running.services["owner"] is owner:
                running.stop("owner")  # its session has ended, too, before the client goes on
                running.start("owner")
            return cost

        private.source.setup = slow
        assert private(TEXTS[:1])[0].shape == (1, 2)


def test_a_session_that_another_party_left_ends_although_the_client_does_not_notice(cluster: Clusters) -> None:
    with cluster() as running:
        rogue = Rogue(running)
        rogue.shake_hands()
        running.services["helper"].network.close()
        assert "owner lost a peer" in rogue.reason()
        rogue.network.close()


def test_a_session_in_which_nobody_asks_is_closed_and_opened_again(cluster: Clusters) -> None:
    with cluster(patience=Patience(idle=0.3)) as running:
        seen = Seen()
        with running.connect(witness=seen) as private:
            private(TEXTS)
            for _ in range(500):
                if private.source.links.closed is not None:
                    break
                threading.Event().wait(0.02)
            assert private.source.links.closed == "nobody asked anything"
            private(TEXTS)
        assert [event for event, _ in seen.events].count("opened") == 2


def test_parties_with_other_settings_are_refused_before_anything_is_shared(cluster: Clusters) -> None:
    other = TrustingConfig(word="b").build()
    with cluster(engines={"owner": other}) as running:
        private = running.connect()
        with pytest.raises(MpcifyError, match="MPC-705 party owner: it has other graphs, settings"):
            private(TEXTS)
        assert private.source.links is None
        private.close()


def test_folders_of_two_exports_are_refused_though_their_graphs_are_the_same(
    exported: Path, tmp_path: Path, cluster: Clusters
) -> None:
    with cluster() as running:
        running.exported = export(Bag(), tmp_path / "parties")
        private = running.connect()
        with pytest.raises(MpcifyError, match=r"MPC-705 party owner: it has other exported folders .* than client"):
            private(TEXTS)
        private.close()


class Rogue:
    """A client that speaks the protocol up to a point of its choice."""

    def __init__(self, running: Any) -> None:
        self.network = MemoryNetwork("client", running.board)
        self.programs = running.programs("client")
        self.links = self.network.dial("5e" * 16, 5)

    def shake_hands(self) -> str:
        return shake_hands(self.links, self.programs.facts)

    def reason(self) -> str:
        """Why the owner closed the session."""
        with pytest.raises(ConnectionError) as raised:
            self.links.receive("owner", "never", 5)
        return str(raised.value)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"do": "answer"}',
        b'{"do": "answer", "length": 4, "more": 1}',
        b'{"do": "answer", "length": -1}',
        b'{"do": "answer", "length": true}',
        b'{"do": "answer", "length": 4.0}',
        b'{"do": "answer", "length": NaN}',
        b'{"do": "halt", "length": 4}',
        b'{"do": ["open"], "length": 4}',
        b"[" * 100_000,
        b'{"do": "half", "length": 4}',
        b'{"do": "half", "length": 4, "id": 5}',
        b'{"do": "half", "length": 4, "id": "00000000000000000000000000000000"}',
        b'{"do": "answer", "length": 4, "id": "00000000000000000000000000000000"}',
        b'{"do": "open", "length": 5}',
        b'{"do": "answer", "length": 4}',
        b'{"do": "echo", "length": 99999999}',
    ],
)
def test_an_order_that_there_is_not_ends_the_session_and_not_the_service(cluster: Clusters, message: bytes) -> None:
    with cluster() as running:
        rogue = Rogue(running)
        rogue.shake_hands()
        for peer in ("owner", "helper"):
            rogue.links.send(peer, order_key(1), message)
        assert rogue.reason().endswith(("MPC-707 at owner", "MPC-707 at helper"))
        rogue.network.close()
        with running.connect() as private:
            assert private(TEXTS)[0].shape == (3, 2)


@pytest.mark.parametrize("hello", [b"", b"x" * 31, b"x" * 1000])
def test_a_first_message_of_another_length_is_refused(cluster: Clusters, hello: bytes) -> None:
    with cluster() as running:
        rogue = Rogue(running)
        for peer in ("owner", "helper"):
            rogue.links.send(peer, "hello", hello)
        assert "MPC-707" in rogue.reason()
        rogue.network.close()
        with running.connect() as private:
            assert private(TEXTS)[0].shape == (3, 2)


def test_a_client_that_tells_two_parties_different_nonces_is_found_out(cluster: Clusters) -> None:
    with cluster() as running:
        rogue = Rogue(running)
        honest = rogue.links.send
        rogue.links.send = lambda peer, key, message: honest(peer, key, peer.encode()[:1] * 32 + message[32:])  # type: ignore[method-assign]
        with pytest.raises((MpcifyError, ConnectionError), match="707"):
            rogue.shake_hands()
        rogue.network.close()


def test_a_session_id_has_every_partys_nonce(cluster: Clusters) -> None:
    seen = Seen()
    with cluster() as running:
        for _ in range(2):
            with running.connect(witness=seen) as private:
                private(TEXTS[:1])
    first, second = (session for event, session in seen.events if event == "opened")
    assert first != second
    assert len(first) == 64


def test_a_message_goes_there_and_back(cluster: Clusters) -> None:
    with cluster() as running, running.connect() as private:
        private(TEXTS[:1])
        took = private.source.echo(1000)
        assert took.keys() == {"owner", "helper"}
        assert all(0 < seconds < 5 for seconds in took.values())
        assert private(TEXTS[:1])[0].shape == (1, 2)


def test_a_session_that_metrics_watch_begins_with_a_round_trip_to_each_peer(cluster: Clusters) -> None:
    metrics = Metrics("client")
    with cluster() as running, running.connect(witness=Witness(metrics=metrics)) as private:
        private(TEXTS[:1])
    for peer in ("owner", "helper"):
        assert 0 < metrics.registry.get_sample_value("mpcify_round_trip_seconds", {"peer": peer}) < 5


def test_an_order_reads_as_it_was_written() -> None:
    for order in (Order("answer", 64), Order("half", 64, "0f" * 16)):
        assert Order.from_bytes(order.to_bytes(), "client") == order
