"""One role of a program: what it takes and gives, what it costs, and how its session ends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.engines.engine import Party, Program
from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.joined import JoinedParty
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.network.memory import MemoryLinks, connect
from tests.engines.parties import alone, answer, join, together
from tests.engines.spu.models import FORCED, INPUT, plain
from tests.makers import declared, small_model

ROLES = ("client", "owner", "helper")

Joined = tuple[dict[str, Party], dict[str, MemoryLinks]]


@pytest.fixture(scope="module")
def joined() -> Iterator[Joined]:
    """The small model's parties with the weights in place, and their links."""
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    parties = join(FORCED.build().compile(graph), links, weights)
    yield parties, links
    parties["client"].close()


def errors(found: dict[str, Any], *roles: str) -> list[str]:
    """What some roles raised, as text."""
    assert all(isinstance(found[role], MpcifyError) for role in roles), found
    return [str(found[role]) for role in roles]


def test_what_the_parties_send_together_is_the_cost_of_a_session(joined: Joined) -> None:
    parties, links = joined
    graph, weights = small_model()
    before = {role: links[role].sent for role in ROLES}
    answered = answer(parties, {"x": INPUT})
    profiled = together(lambda role: parties[role].profile(alone({"x": INPUT}, role, "client")), ROLES)
    with FORCED.build().compile(graph).load(weights) as session:
        _, cost = session.run({"x": INPUT})
        _, operations = session.profile({"x": INPUT})
    costs = {role: answered[role][1] for role in ROLES}
    assert sum(spent.bytes for spent in costs.values()) == cost.bytes
    # ABY3 rotates roles by chance
    assert abs(max(spent.rounds for spent in costs.values()) - cost.rounds) <= 0.1 * cost.rounds
    for name, spent in operations.items():
        assert sum(profiled[role][1][name].bytes for role in ROLES) == spent.bytes
    np.testing.assert_allclose(profiled["client"][0]["logits"], plain((graph, weights), INPUT), atol=2e-3)
    assert (profiled["owner"][0], profiled["helper"][0]) == (None, None)
    for role in ROLES:
        assert profiled[role][1].keys() == operations.keys()
        counted = [costs[role], *profiled[role][1].values()]
        sent = links[role].sent - before[role]
        assert (sent.messages, sent.bytes) == (sum(c.rounds for c in counted), sum(c.bytes for c in counted))


def test_each_child_has_one_openmp_thread_and_no_torch(joined: Joined) -> None:
    children = {party.place.child.process.pid for party in joined[0].values() if isinstance(party, JoinedParty)}
    assert len(children) == len(ROLES)
    for child in children:
        process = Path(f"/proc/{child}")
        assert "OMP_THREAD_LIMIT=1" in (process / "environ").read_text().split("\0")
        assert "libtorch" not in (process / "maps").read_text()


def test_the_owner_alone_sends_weights_each_once_to_each_peer() -> None:
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    parties = join(FORCED.build().compile(graph), links, None)
    held = together(lambda role: parties[role].hold(alone(weights, role, "owner")), ROLES)
    elements = sum(weight.size for weight in weights.values())
    assert (held["client"].bytes, held["helper"].bytes, held["owner"].rounds) == (0, 0, 2 * len(weights))
    assert 0 <= held["owner"].bytes - 2 * 16 * elements <= 2 * 64 * len(weights)  # two peers, 16 bytes an element
    again = together(lambda role: parties[role].hold(alone(weights, role, "owner")), ROLES)
    assert [cost.bytes for cost in again.values()] == [0, 0, 0]
    parties["helper"].close()


def test_every_role_gives_what_is_public() -> None:
    builder = Builder(1, 1)
    builder.emit("y", "mul", [builder.input("x", "client", (4,)), builder.input("p", "public", (4,))])
    parties = join(FORCED.build().compile(builder.finish(None, ["y"])), connect(ROLES, timeout=60), {})
    found = answer(parties, {"x": np.arange(4.0), "p": np.full(4, 3.0)})
    np.testing.assert_allclose(found["client"][0]["y"], 3 * np.arange(4.0), atol=1e-4)
    with pytest.raises(MpcifyError, match="MPC-503 public input p"):
        parties["owner"].answer(None)
    parties["client"].close()


def test_an_input_that_the_ring_cannot_hold_is_refused_before_anything_is_sent(joined: Joined) -> None:
    parties, links = joined
    before = links["client"].sent
    with pytest.raises(MpcifyError, match="MPC-402 client input x"):
        parties["client"].answer({"x": INPUT * np.float32(np.nan)})
    with pytest.raises(MpcifyError, match="MPC-402 client input x"):
        parties["client"].check({"x": INPUT * np.float32(np.nan)})
    assert links["client"].sent == before
    expected = plain(small_model(), INPUT)
    np.testing.assert_allclose(answer(parties, {"x": INPUT})["client"][0]["logits"], expected, atol=2e-3)


def test_a_weight_that_the_ring_cannot_hold_ends_the_session_and_the_peers_learn_no_more_than_that() -> None:
    graph, weights = small_model()
    parties = join(FORCED.build().compile(graph), connect(ROLES, timeout=60), None)
    wrong = {**weights, "up.w": weights["up.w"] * np.float32(np.nan)}
    found = together(lambda role: parties[role].hold(alone(wrong, role, "owner")), ROLES)
    (owners,) = errors(found, "owner")
    assert owners.startswith("MPC-402 owner input up.w")
    for text in errors(found, "client", "helper"):
        assert text.startswith("MPC-706 spu engine: the link between ")
        assert "owner failed with MPC-402, values overflow the ring. Do this: " in text
        assert "NaN" not in text


def test_a_share_of_another_layout_is_a_message_against_the_protocol() -> None:
    graph, _ = small_model()
    links = connect(ROLES, timeout=60)
    parties = join(FORCED.build().compile(graph), links, None)

    def lies(role: str) -> Any:
        if role != "owner":
            return parties[role].hold(None)
        for peer in links[role].peers:
            links[role].send(peer, "share/owner#1", b"A" * 500)
        return None

    texts = errors(together(lies, ROLES), "client", "helper")
    wrong = "MPC-707 spu engine: the share of norm.g from owner is wrong: it has 500 bytes in place of "
    assert any(text.startswith(wrong) for text in texts), texts
    with pytest.raises(ConnectionError, match="failed with MPC-707"):
        links["owner"].receive("client", "any")


def other(change: str) -> Program:
    """A program that differs from the small model's."""
    graph, _ = small_model()
    settings = {"fraction": {"fraction_bits": 17}, "ring": {"ring": 32}}.get(change, {})
    if change == "length":
        graph, _ = small_model(length=5)
    elif change == "constant":
        norm, *rest = graph.operations
        graph = replace(graph, operations=(replace(norm, attributes={"eps": 1e-3}), *rest))
    elif change == "range":
        graph = declared(graph)
    return SpuConfig(force=True, **settings).build().compile(graph)


@pytest.mark.parametrize("change", ["fraction", "ring", "length", "constant", "range"])
def test_parties_that_would_not_compute_the_same_refuse_each_other(change: str) -> None:
    links = connect(ROLES, timeout=60)
    programs = dict.fromkeys(ROLES, FORCED.build().compile(small_model()[0])) | {"owner": other(change)}
    assert programs["client"].facts() != programs["owner"].facts()
    found = together(lambda role: programs[role].join(role, links[role]), ROLES)
    for text, peer in zip(errors(found, *ROLES), ("owner", "client", "owner"), strict=True):
        assert text.startswith(f"MPC-705 spu engine: {peer} runs another graph, or other settings, than "), text
        assert "same versions" in text


def test_links_cannot_be_joined_twice(joined: Joined) -> None:
    program = FORCED.build().compile(small_model()[0])
    with pytest.raises(MpcifyError, match="MPC-501 role owner: the other program was joined over other links"):
        program.join("owner", connect(ROLES)["owner"], beside=joined[0]["owner"])
    graph, _ = small_model()
    fresh = connect(ROLES, timeout=60)
    join(FORCED.build().compile(graph), fresh, None)
    texts = errors(together(lambda role: program.join(role, fresh[role]), ROLES), *ROLES)
    assert all("agree#1' to" in text or "taken before" in text for text in texts), texts


def test_a_weight_is_not_overwritten_by_another_programs_value_of_its_name() -> None:
    """Variables stay in the runtime from one program to the next: a profile of the second would delete the weight."""
    first, second = Builder(1, 1), Builder(1, 1)
    first.emit("y", "mul", [first.input("x", "client", (4,)), first.input("w", "owner", (4,))])
    doubled = second.emit("w", "add", [second.input("x", "client", (4,))] * 2)
    second.emit("y", "mul", [doubled, second.input("v", "owner", (4,))])
    programs = [FORCED.build().compile(builder.finish(None, ["y"])) for builder in (first, second)]
    for order, weight in (([0, 1], "w"), ([1, 0], "v")):
        links = connect(ROLES, timeout=60)
        parties = join(programs[order[0]], links, {weight: np.ones(4, np.float32)})
        found = together(
            lambda role, links=links, parties=parties, order=order: programs[order[1]].join(  # type: ignore[misc]
                role, links[role], beside=parties[role]
            ),
            ROLES,
        )
        assert any("a weight has the name of another program's value" in text for text in errors(found, *ROLES))


def test_an_engine_without_parties_says_so() -> None:
    program = PlainEngine().compile(small_model()[0])
    for ask in (lambda: program.join("owner", connect(ROLES)["owner"]), program.facts, lambda: program.largest_message):
        with pytest.raises(MpcifyError, match="MPC-501 parties: this engine has no parties"):
            ask()
