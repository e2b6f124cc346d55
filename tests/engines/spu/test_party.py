"""One role of a program: it takes and gives what is its own, and all together are the session of a simulation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.network.memory import connect
from tests.engines.spu.models import FORCED, INPUT, plain
from tests.makers import small_model

ROOT = Path(__file__).parents[3]
ROLES = ("client", "owner", "helper")


def joined(*case: str) -> dict:
    """What the parties of a case got, who joined it in a process that has one OpenMP thread and no torch."""
    words = [sys.executable, "-P", "-m", "tests.engines.spu.joined", *case]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def requests() -> dict:
    return joined("requests")


def test_the_client_gets_the_answers_of_a_session_and_nobody_else_gets_any(requests: dict) -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        expected = session.run({"x": INPUT})[0]["logits"]
    for found in (*requests["client"]["answers"], requests["client"]["profiled"]):
        np.testing.assert_allclose(found["logits"], expected, atol=2e-3)  # the error of rsqrt, 2e-4
        np.testing.assert_allclose(found["logits"], plain((graph, weights), INPUT), atol=2e-3)
    for role in ROLES[1:]:
        assert requests[role]["answers"] == [None, None]
        assert requests[role]["profiled"] is None


def test_what_the_parties_sent_together_is_the_cost_of_a_session(requests: dict) -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        _, cost = session.run({"x": INPUT})
        _, operations = session.profile({"x": INPUT})
        setup = session.setup
    for turn in range(2):
        assert sum(requests[role]["costs"][turn]["bytes"] for role in ROLES) == cost.bytes
        rounds = max(requests[role]["costs"][turn]["rounds"] for role in ROLES)
        assert abs(rounds - cost.rounds) <= 0.1 * cost.rounds  # ABY3 rotates roles by chance
    for role in ROLES:
        assert all(spent["bytes_per_party"] == {role: spent["bytes"]} for spent in requests[role]["costs"])
        assert requests[role]["operations"].keys() == operations.keys()
    for name, spent in operations.items():
        assert sum(requests[role]["operations"][name]["bytes"] for role in ROLES) == spent.bytes
    assert {role: requests[role]["held"]["bytes"] > 0 for role in ROLES} == {
        "client": False,
        "owner": True,
        "helper": False,
    }
    assert requests["owner"]["held"]["rounds"] == 2 * len(weights)
    assert 0 <= setup.bytes - requests["owner"]["held"]["bytes"] < 1000, "what SPU itself sends to connect"


def test_everything_that_is_sent_is_counted_but_the_agreement_and_the_connecting(requests: dict) -> None:
    for role in ROLES:
        mine = requests[role]
        spent = [mine["held"], *mine["costs"], *mine["operations"].values()]
        messages, size = mine["sent"]
        assert 4 * 32 <= size - sum(cost["bytes"] for cost in spent) < 4 * 32 + 1000
        assert 4 <= messages - sum(cost["rounds"] for cost in spent) < 20


def test_links_are_one_sessions_and_cannot_be_joined_twice(requests: dict) -> None:
    assert all(text.startswith("MPC-503 spu engine: ") for text in requests["again"].values())
    assert any("has sent 'agree#1'" in text for text in requests["again"].values())


def test_a_party_that_leaves_ends_the_others_request() -> None:
    found = joined("leaving")
    assert found["helper"] is None
    for role in ("client", "owner"):
        assert found[role].startswith("MPC-503 spu engine: ConnectionError: ")


def test_every_role_gives_what_is_public() -> None:
    found = joined("public")
    np.testing.assert_allclose(found["client"]["y"], 3 * np.arange(4.0), atol=1e-4)
    assert (found["owner"], found["helper"]) == (None, None)


def test_each_role_refuses_what_is_another_roles_before_it_sends_anything() -> None:
    found = joined("foreign")
    after = found.pop("after")
    wrong = found.pop("client wrong")
    assert wrong["client"].startswith("MPC-402 client input x")
    assert len(found) == 3 * 3 - 3
    for case, answer in found.items():
        role, what = case.split()
        holder = "owner" if what == "weights" else "client"
        assert answer[role].startswith(f"MPC-503 spu engine: {role} was given "), case
        assert f"which {holder} alone holds" in answer[role], case
    np.testing.assert_allclose(after["client"]["logits"], plain(small_model(), INPUT), atol=2e-3)


@pytest.mark.parametrize("change", ["fraction", "ring", "length", "constant", "range"])
def test_parties_that_would_not_compute_the_same_refuse_each_other(change: str) -> None:
    found = joined("differing", change)
    for role, peer in (("client", "owner"), ("helper", "owner"), ("owner", "client")):
        assert found[role].startswith(f"MPC-503 spu engine: {peer} runs another graph, or other settings, than {role}")
        assert "same versions" in found[role]


def test_links_of_another_role_or_protocol_are_refused() -> None:
    found = joined("misplaced")
    assert found["role"].startswith("MPC-501 role owner: the links are those of client")
    assert found["two"].startswith("MPC-501 protocol aby3: the links join owner, client.")
    assert found["dealer"].startswith("MPC-501 protocol aby3: the links join owner, client, dealer.")


def test_a_party_that_fails_ends_the_waiting_of_the_others() -> None:
    found = joined("broken")
    assert found["weight"]["owner"].startswith("MPC-402 owner input up.w")
    assert found["share"]["owner"] == "sent"
    for role in ("client", "helper"):
        assert found["weight"][role].startswith("MPC-503 spu engine: ConnectionError: ")
    refusals = [found["share"][role] for role in ("client", "helper")]
    wrong = "MPC-503 spu engine: the share of norm.g from owner is wrong: it has 500 bytes in place of "
    assert any(text.startswith(wrong) for text in refusals), refusals


def test_an_engine_without_parties_says_so() -> None:
    with pytest.raises(MpcifyError, match="MPC-501 role owner: this engine has no parties"):
        PlainEngine().compile(small_model()[0]).join("owner", connect(ROLES)["owner"])


def test_a_weight_is_not_overwritten_by_another_programs_value_of_its_name() -> None:
    """Variables stay in the runtime from one program to the next: a profile of the second would delete the weight."""
    for found in joined("named").values():
        assert {found[role] for role in ROLES} == {found["client"]}
        assert found["client"].startswith("MPC-503 spu engine: ValueError: a weight has the name of another program's")
