"""A half of a request at the delegate's or the owner's: what is refused, what waits, and for how long."""

import json
import secrets
from pathlib import Path

import pytest

from mpcify.cluster import party
from mpcify.cluster.halves import COST, ID, LENGTH, PROGRAM, ROUTE, Half, Seen
from mpcify.errors import MpcifyError
from tests.cluster.delegated.delegates import BOTH, INPUTS, TOKENS, Delegated, code_of, in_thread, leave, serves
from tests.cluster.gateway.service import until


@BOTH
def test_a_token_of_another_is_refused_where_it_is_used(cluster: Delegated, name: str) -> None:
    other = next(token for named, token in TOKENS.items() if named != name)
    with pytest.raises(MpcifyError, match=f"MPC-709 {name}: ") as raised:
        cluster.thin(**{name: other}).ready()
    assert other not in str(raised.value)
    assert code_of(cluster.post(name, cluster.halves()[name], Authorization=f"Bearer {other}")) == (401, "MPC-709")
    assert cluster.service(name).send("GET", ROUTE)[0] == 401


@BOTH
def test_whoever_refuses_the_token_in_a_request_is_named(cluster: Delegated, name: str) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-709 {name}: "):
        cluster.thin(**{name: "x" * 40}).ask(4, INPUTS)


@BOTH
@pytest.mark.parametrize("host", ["evil.example", "evil.example:PORT", "localhost:1"])
def test_a_name_that_was_made_to_point_here_gets_nothing(cluster: Delegated, name: str, host: str) -> None:
    host = host.replace("PORT", str(cluster.service(name).port))
    assert code_of(cluster.post(name, cluster.halves()[name], Host=host)) == (421, "MPC-709")


@BOTH
@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        ({ID: ""}, (400, "MPC-709")),
        ({ID: "0" * 31}, (400, "MPC-709")),
        ({ID: "G" * 32}, (400, "MPC-709")),
        ({LENGTH: ""}, (400, "MPC-709")),
        ({LENGTH: "5"}, (400, "MPC-709")),
        ({LENGTH: "-4"}, (400, "MPC-709")),
        ({LENGTH: "4" * 5000}, (400, "MPC-709")),
        ({LENGTH: "8"}, (409, "MPC-705")),
        ({PROGRAM: "0" * 64}, (409, "MPC-705")),
        ({PROGRAM: ""}, (409, "MPC-705")),
        ({"Content-Type": "application/json"}, (415, "MPC-709")),
        ({"Content-Length": "9" * 18}, (413, "MPC-709")),
    ],
    ids=str,
)
def test_what_is_no_half_is_refused_and_nobody_computes(
    cluster: Delegated, name: str, other: dict[str, str], refusal: tuple[int, str]
) -> None:
    assert code_of(cluster.post(name, cluster.halves()[name], **other)) == refusal
    assert not cluster.desk.waiting
    assert cluster.sessions() == 0


@BOTH
@pytest.mark.parametrize(("more", "status"), [(-1, 400), (1, 413), (-192, 400)])
def test_a_half_of_another_size_is_refused(cluster: Delegated, name: str, more: int, status: int) -> None:
    half = cluster.halves()[name]
    other = half[:more] if more < 0 else half + bytes(more)
    assert code_of(cluster.post(name, other)) == (status, "MPC-709")
    assert not cluster.desk.waiting


def test_neither_an_id_nor_a_half_comes_twice_while_it_waits_or_later(cluster: Delegated, exported: Path) -> None:
    id, halves = secrets.token_hex(16), cluster.halves()
    thread, first = in_thread(cluster.post, "owner", halves["owner"], id)
    until(lambda: cluster.desk.waiting)
    for again in ({"half": halves["owner"]}, {"half": cluster.halves(1)["owner"], "id": id}):
        assert code_of(cluster.post("owner", **again)) == (409, "MPC-709")
    assert cluster.post("delegate", halves["delegate"], id)[0] == 200
    thread.join(10)
    assert first[0][0] == 200
    for name in TOKENS:
        assert code_of(cluster.post(name, cluster.halves(1)[name], id)) == (409, "MPC-709")
        assert code_of(cluster.post(name, halves[name])) == (409, "MPC-709")
    serves(cluster, exported)


def test_halves_are_remembered_up_to_a_number() -> None:
    seen = Seen(remembered=2)
    halves = [Half(f"{n:032x}", 4, bytes([n])) for n in range(3)]
    assert all(map(seen.is_new, halves))
    assert not seen.is_new(Half("f" * 32, 4, bytes([2])))
    assert not seen.is_new(Half(f"{2:032x}", 4, b"else"))
    assert len(seen.words) == 4
    assert seen.is_new(halves[0])


def test_a_delegates_half_without_the_owners_is_refused_and_the_session_goes_on(
    cluster: Delegated, exported: Path
) -> None:
    serves(cluster, exported)
    before = cluster.sessions()
    assert code_of(cluster.post("delegate", cluster.halves()["delegate"])) == (409, "MPC-711")
    serves(cluster, exported)
    assert cluster.sessions() == before == 1


def test_halves_of_two_lengths_are_no_request(cluster: Delegated, exported: Path) -> None:
    id = secrets.token_hex(16)
    thread, found = in_thread(cluster.post, "owner", cluster.halves()["owner"], id)
    until(lambda: cluster.desk.waiting)
    with pytest.raises(MpcifyError, match="MPC-711"):
        cluster.connection.ask_half(Half(id, 8, bytes(2 * 8 * 6 * 4)))
    serves(cluster, exported)
    assert [*cluster.desk.waiting] == [id]  # its own half may still come
    assert cluster.post("delegate", cluster.halves()["delegate"], id)[0] == 200
    thread.join(10)
    assert found[0][0] == 200


def test_an_owners_half_without_the_delegates_expires(exported: Path) -> None:
    with Delegated(exported, hold=0.2).running() as cluster:
        assert code_of(cluster.post("owner", cluster.halves()["owner"])) == (409, "MPC-711")
        assert not cluster.desk.waiting
        counts = cluster.metrics["owner"].registry
        assert counts.get_sample_value("mpcify_expired_halves_total") == 1
        assert counts.get_sample_value("mpcify_halves") == 0


@BOTH
def test_no_more_halves_wait_than_may(exported: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "LATE", 5.0)
    with Delegated(exported, waiting=0).running() as cluster:
        first, _ = in_thread(cluster.post, name, cluster.halves()[name], "0" * 32)
        until(lambda: cluster.desk.waiting if name == "owner" else cluster.connection.number)
        assert code_of(cluster.post(name, cluster.halves()[name])) == (503, "MPC-708")
        cluster.desk.close()
        first.join(10)


def test_the_half_of_a_caller_that_goes_away_is_dropped(cluster: Delegated, exported: Path) -> None:
    id = secrets.token_hex(16)
    line = leave(cluster, "owner", id)
    until(lambda: cluster.desk.waiting)
    line.close()
    until(lambda: not cluster.desk.waiting)
    assert code_of(cluster.post("delegate", cluster.halves()["delegate"], id)) == (409, "MPC-711")
    serves(cluster, exported)


def test_a_closed_desk_sends_those_that_wait_away_and_takes_no_more(cluster: Delegated) -> None:
    thread, found = in_thread(cluster.post, "owner", cluster.halves()["owner"])
    until(lambda: cluster.desk.waiting)
    assert cluster.owner.send("GET", "/ready")[0] == 200
    cluster.desk.close()
    thread.join(10)
    assert code_of(found[0]) == (503, "MPC-708")
    assert code_of(cluster.post("owner", cluster.halves()["owner"])) == (503, "MPC-708")
    assert cluster.owner.send("GET", "/ready")[0] == 503


@BOTH
def test_both_say_what_they_are_and_describe_what_is_sent(cluster: Delegated, name: str) -> None:
    service = cluster.service(name)
    _, headers, body = service.send("GET", "/")
    assert headers["content-type"].startswith("text/plain")
    assert b"halves" in body
    status, _, body = service.send("GET", ROUTE, Authorization=f"Bearer {TOKENS[name]}")
    role = {"delegate": "client", "owner": "owner"}[name]
    programs = {str(length): cluster.programs.digest(length) for length in (4, 8)}
    assert (status, json.loads(body)) == (200, {"format": 1, "role": role, "programs": programs})
    _, whole = service.get("/openapi.json")
    operation = whole["paths"][ROUTE]["post"]
    assert [item["name"] for item in operation["parameters"]] == [ID, LENGTH, PROGRAM]
    assert COST in operation["responses"]["200"]["headers"]
    assert {"401", "409", "413", "503"} <= operation["responses"].keys()
