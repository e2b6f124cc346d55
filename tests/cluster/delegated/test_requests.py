"""A thin client's request from end to end: its answer, and what becomes of it if another party fails or deviates."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.cluster import party
from mpcify.cluster.addresses import Address
from mpcify.cluster.client import Connection
from mpcify.cluster.halves import Half
from mpcify.cluster.handshake import shake_hands
from mpcify.cluster.orders import Order, cost_key, order_key
from mpcify.cluster.party import Service
from mpcify.cluster.thin.config import Url
from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.inference import PrivateModel
from mpcify.network.memory import MemoryNetwork
from tests.cluster.conftest import Cluster
from tests.cluster.delegated.delegates import INPUTS, TEXTS, TOKENS, Delegated, code_of, in_thread, leave, serves
from tests.cluster.gateway.service import until
from tests.cluster.proxy import certified, proxy
from tests.graph.bags import Bag, answers, export


def test_a_thin_client_gets_the_answers_of_the_model(cluster: Delegated, exported: Path) -> None:
    with cluster.model() as private:
        private.ready()
        logits, cost = private(TEXTS)
    np.testing.assert_allclose(logits, answers(read_all(exported)), rtol=1e-6)
    assert cost.bytes_per_party.keys() == {"client", "owner", "dealer"}
    assert cost.bytes == sum(cost.bytes_per_party.values()) > 0
    assert cost.rounds > 0 < cost.seconds


def test_thin_clients_ask_at_once_and_none_gets_anothers_answer(cluster: Delegated, exported: Path) -> None:
    words = [" ".join(["a", "good", "bad", "film"][k % 4] for k in range(n % 7 + 1)) for n in range(24)]
    with cluster.model() as first, cluster.model() as second, ThreadPoolExecutor(6) as threads:
        found = [*threads.map(lambda n: (first, second)[n % 2]([words[n]])[0][0], range(len(words)))]
    with PrivateModel(read_all(exported), PlainEngine()) as plain:
        np.testing.assert_allclose(np.stack(found), plain(words)[0], rtol=1e-6)
    assert cluster.sessions() == 1


def test_a_thin_client_is_told_no_profile_and_has_no_answers_in_floats(cluster: Delegated) -> None:
    with cluster.model() as private:
        with pytest.raises(MpcifyError, match="MPC-501 profile"):
            private.open(4).profile({})
        with pytest.raises(MpcifyError, match="MPC-506"):
            private.plain(TEXTS)


def test_a_closed_thin_client_says_so(cluster: Delegated) -> None:
    connection = cluster.thin()
    connection.close()
    with pytest.raises(MpcifyError, match="MPC-506"):
        connection.ask(4, INPUTS)


def test_a_request_longer_than_halves_may_wait_is_answered(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Service.answer_half

    def slowly(*given: Any) -> Any:
        party.time.sleep(0.6)
        return answer(*given)

    monkeypatch.setattr(Service, "answer_half", slowly)
    with Delegated(exported, hold=0.2).running() as cluster:
        serves(cluster, exported)


def test_an_answer_whose_caller_went_away_is_lost_and_nothing_else(
    cluster: Delegated, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, take = [], Service.take_half

    def gone(service: Service, *given: Any) -> Any:
        cost = take(service, *given)
        if service.desk and lines:  # the owner has it now
            lines.pop().close()
        return cost

    monkeypatch.setattr(Service, "take_half", gone)
    id = secrets.token_hex(16)
    lines.append(leave(cluster, "owner", id))
    until(lambda: cluster.desk.waiting)
    assert cluster.post("delegate", cluster.halves()["delegate"], id)[0] == 200
    serves(cluster, exported)
    assert cluster.sessions() == 1


def test_a_delegate_that_pairs_the_halves_of_two_callers_gives_neither_the_others_answer(cluster: Delegated) -> None:
    """The owner's half of the answer goes to whoever brought the owner's half of the input."""
    sharing = cluster.programs.by_length[4].sharing
    assert sharing is not None
    ids, halves = ("a" * 32, "b" * 32), (cluster.halves(1), cluster.halves(2))
    own = []
    for each in (cluster.halves(1), cluster.halves(2)):  # what they should get
        id = secrets.token_hex(16)
        thread, found = in_thread(cluster.post, "owner", each["owner"], id)
        until(lambda: cluster.desk.waiting)
        mine = cluster.post("delegate", each["delegate"], id)[2]
        thread.join(10)
        own.append(sharing.join(mine, found[0][2])["logits"])
    waiting = [in_thread(cluster.post, "owner", half["owner"], id) for id, half in zip(ids, halves, strict=True)]
    until(lambda: len(cluster.desk.waiting) == 2)
    crossed, _ = cluster.connection.ask_half(Half(ids[1], 4, halves[0]["delegate"]))
    waiting[1][0].join(10)
    assert not waiting[0][1]  # the first caller's connection has nothing
    (status, _, answer) = waiting[1][1][0]
    assert status == 200
    got = sharing.join(crossed, answer)["logits"]
    assert not any(np.allclose(got, right, rtol=1e-3, equal_nan=True) for right in own)
    cluster.desk.close()


def test_logs_hold_no_half_no_answer_no_id_and_no_token(cluster: Delegated) -> None:
    id, halves = secrets.token_hex(16), cluster.halves()
    thread, found = in_thread(cluster.post, "owner", halves["owner"], id)
    until(lambda: cluster.desk.waiting)
    answer = cluster.post("delegate", halves["delegate"], id)[2]
    thread.join(10)
    cluster.post("delegate", cluster.halves()["delegate"])
    cluster.post("owner", b"x", Authorization="Bearer wrong")

    def text() -> str:
        return "".join(log.getvalue() for log in cluster.logs.values())

    # an event is written once its answer has been sent
    until(lambda: all(f'"code": {code}' in text() for code in (709, 711)))
    written = text()
    events = [json.loads(line) for line in written.splitlines()]
    assert {"session-opened", "answered", "request"} <= {event["event"] for event in events}
    assert {event.get("code") for event in events} == {None, 709, 711}
    for secret in (*halves.values(), answer, found[0][2]):
        for form in (secret.hex(), str(secret)[2:-1], str(np.frombuffer(secret, np.float32)[0])):
            assert form[:16] not in written
    assert not [word for word in (id, *TOKENS.values()) if word in written]


def test_an_owner_that_goes_in_the_middle_costs_a_request_and_nothing_else(
    cluster: Delegated, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, owner, answer = [True], cluster.cluster.services["owner"], Service.answer_half

    def goes(service: Service, *given: Any) -> Any:
        if service is owner and going:
            going.pop()
            service.network.close()
        return answer(service, *given)

    monkeypatch.setattr(Service, "answer_half", goes)
    with cluster.model() as private, pytest.raises(MpcifyError, match=r"MPC-70[67] delegate: ") as raised:
        private(TEXTS[:1])
    assert "good" not in str(raised.value)
    until(lambda: not cluster.desk.waiting)
    cluster.cluster.threads["owner"].join(10)
    cluster.cluster.services.pop("owner")
    cluster.cluster.start("owner", desk=cluster.desk)
    serves(cluster, exported)


def test_a_delegate_that_goes_in_the_middle_is_named_and_its_owner_drops_the_half(
    cluster: Delegated, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = party.threading.Event()
    monkeypatch.setattr(Service, "take_half", lambda *_: taken.set() or party.time.sleep(1) or 1 / 0)
    connection = cluster.thin()

    def ask() -> MpcifyError:
        with pytest.raises(MpcifyError) as raised:
            connection.ask(4, INPUTS)
        return raised.value

    thread, failed = in_thread(ask)
    assert taken.wait(10)
    (line,) = [line for line in connection.lines if line.place.name == "delegate"]
    line.close()
    thread.join(10)
    assert (failed[0].code, failed[0].where) == (706, "delegate")
    until(lambda: not cluster.desk.waiting)


@pytest.mark.parametrize(
    ("name", "trusted", "number"),
    [("localhost", True, ""), ("localhost", False, "MPC-704 owner"), ("other.example", True, "MPC-704 owner")],
)
def test_behind_proxies_that_end_tls_a_thin_client_trusts_certificates_of_its_system_alone(
    cluster: Delegated,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    trusted: bool,
    number: str,
) -> None:
    context = certified(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    connection = cluster.thin()
    with proxy(context, cluster.delegate.port) as first, proxy(context, cluster.owner.port) as second:
        for place, port in (("delegate", first), ("owner", second)):
            url = Url(True, Address("localhost", port))
            setattr(connection, place, replace(getattr(connection, place), url=url))
        with PrivateModel(cluster.programs.exported, cluster.cluster.engine, connection) as private:
            if number:
                with pytest.raises(MpcifyError, match=number):
                    private(TEXTS)
            else:
                private.ready()
                np.testing.assert_allclose(private(TEXTS)[0], answers(read_all(exported)), rtol=1e-6)
    until(lambda: not cluster.desk.waiting)


OPEN, HALF = Order("open", 4), Order("half", 4, "a" * 32)


@pytest.mark.parametrize(
    "orders",
    [
        [HALF],
        [OPEN, HALF, HALF],
        [OPEN, Order("answer", 4)],
        [OPEN, HALF, Order("profile", 4)],
        [OPEN, Order("half", 4, "A" * 32)],
        [OPEN, Order("half", 4)],
        [OPEN, Order("answer", 4, "a" * 32)],
    ],
    ids=lambda orders: " ".join(order.do + order.id[:1] for order in orders),
)
def test_a_delegate_that_deviates_ends_its_session_and_not_the_service(
    cluster: Delegated, exported: Path, orders: list[Order]
) -> None:
    """The owner's half that it had is answered by an error."""
    thread, found = in_thread(cluster.post, "owner", cluster.halves()["owner"], "a" * 32)
    until(lambda: cluster.desk.waiting)
    network = MemoryNetwork("client", cluster.cluster.board)
    links = network.dial("5e" * 16, 5)
    shake_hands(links, cluster.programs.facts)
    for number, order in enumerate(orders, 1):
        for peer in links.peers:
            links.send(peer, order_key(number), order.to_bytes())
        if order == OPEN:
            links.receive("owner", cost_key(number), 5)
    with pytest.raises(ConnectionError, match="MPC-707"):
        links.receive("owner", "never", 5)
    network.close()
    cluster.desk.close()
    thread.join(10)
    assert code_of(found[0])[0] == 503
    cluster.desk.closed = False
    serves(cluster, exported)


def test_a_half_is_asked_for_where_inputs_are_delegated_alone(exported: Path) -> None:
    plain = Cluster(exported)
    for role in ("owner", "helper"):
        plain.start(role)
    try:
        with plain.connect() as private:
            private.open(4)
            source = private.source
            assert isinstance(source, Connection)
            with pytest.raises(MpcifyError, match=r"MPC-70[67]"):
                source.ask_half(Half("a" * 32, 4, b""))
            np.testing.assert_allclose(private(TEXTS)[0], answers(read_all(exported)), rtol=1e-6)
    finally:
        for role in ("owner", "helper"):
            plain.stop(role)


def test_places_that_are_exchanged_or_run_something_else_are_refused_before_anything_is_sent(
    cluster: Delegated, exported: Path
) -> None:
    with closing(cluster.thin()) as connection:
        connection.delegate, connection.owner = connection.owner, connection.delegate
        with pytest.raises(MpcifyError, match=r"MPC-705 owner: .*role"):
            connection.ready()
    with closing(cluster.thin()) as connection:
        connection.programs = Delegated(exported).programs
        connection.programs.by_length[4].config = type(cluster.cluster.engine.config)(word="b")  # type: ignore[attr-defined]
        with pytest.raises(MpcifyError, match=r"MPC-705 delegate: .*another export"):
            connection.ready()


def test_a_thin_client_of_another_export_is_refused_though_its_graphs_are_the_same(
    cluster: Delegated, tmp_path: Path
) -> None:
    cluster.programs = Delegated(export(Bag(), tmp_path / "parties")).programs
    with closing(cluster.thin()) as connection, pytest.raises(MpcifyError, match=r"MPC-705 delegate: .*another export"):
        connection.ready()
    assert code_of(cluster.post("owner", cluster.halves()["owner"])) == (409, "MPC-705")
