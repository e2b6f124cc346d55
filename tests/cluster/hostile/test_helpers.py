"""A helper gone bad: the request ends with a number, and owner and client go on without it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mpcify.cluster.deployed import connect
from mpcify.cluster.orders import Order, cost_key, costs_to_bytes, order_key
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from tests.cluster.deployments import deploy, edit, serving
from tests.cluster.hostile.honest import SILENCE, TEXTS, check
from tests.cluster.intruder import Intruder, rogue_third


@pytest.fixture
def lone_owner(exported: Path, made_kits: Path, tmp_path: Path) -> Iterator[Path]:
    """All parties' folders; the owner serves alone."""
    out = deploy(exported, made_kits, tmp_path / "out")
    for role in ("client", "owner"):
        edit(out / role, message=SILENCE, connect=5.0)
    with serving(out / "owner"):
        yield out


def asked(folder: Path) -> np.ndarray:
    with connect(folder / "client") as private:
        return private(TEXTS[:1])[0]


def forged(rogue: Intruder) -> None:
    rogue.say("session", bytes(32))


def ordering(rogue: Intruder) -> None:
    rogue.shake_hands()
    rogue.send("owner", order_key(1), Order("echo", 1 << 40).to_bytes())
    rogue.receive("client", order_key(1))
    rogue.receive("owner", "trusting/weights#1")
    rogue.send("client", cost_key(1), b'{"": [NaN, -1, 1e9]}')


def costly(rogue: Intruder) -> None:
    rogue.shake_hands()
    rogue.receive("client", order_key(1))
    rogue.send("client", cost_key(1), b'{"":' * 100_000)


def rambling(rogue: Intruder) -> None:
    rogue.shake_hands()
    for number in (1, 2):
        rogue.receive("client", order_key(number))
        if number == 2:
            rogue.send("client", "trusting/outputs#3", b"\xff" * 100)
        rogue.send("client", cost_key(number), costs_to_bytes({"": Cost()}))


def silent(rogue: Intruder) -> None:
    rogue.shake_hands()


@pytest.mark.parametrize(
    ("act", "number"),
    [
        (forged, "MPC-70[367]"),
        (ordering, "MPC-707 .*costs that there are not"),
        (costly, "MPC-707 .*no JSON"),
        (rambling, "MPC-707"),
        (silent, "MPC-706"),
        (lambda rogue: rogue.say("hello", b""), "MPC-70[367]"),  # 703: the client tries again, and nobody is there
        (lambda rogue: [talk.say(b"junk") for talk in rogue.talks.values()], "MPC-70[367]"),
        (lambda rogue: [talk.hang_up() for talk in rogue.talks.values()], "MPC-70[36]"),
        (lambda rogue: rogue.close("\x1b[2J\n" + "x" * 290), "MPC-70[36]"),
    ],
    ids=["session", "orders", "costs", "outputs", "silence", "hello", "frames", "hang up", "reason"],
)
def test_a_helper_gone_bad_ends_the_request_with_a_number_and_owner_and_client_go_on(
    lone_owner: Path, expected: np.ndarray, act: Callable[[Intruder], object], number: str
) -> None:
    with rogue_third(lone_owner / "helper") as waiting, ThreadPoolExecutor(1) as pool:
        request = pool.submit(asked, lone_owner)
        rogue = waiting.join()
        act(rogue)
        with pytest.raises(MpcifyError, match=number) as raised:
            request.result(20)
        assert str(raised.value).isprintable()
    with serving(lone_owner / "helper"):
        check(lone_owner, expected)
