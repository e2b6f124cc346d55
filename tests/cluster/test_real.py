"""Parties as processes: a client gone bad is refused by number; nothing leaks into logs or onto lines."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from mpcify.engines.config import EngineConfig
from mpcify.engines.plain import PlainEngine
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.kernels.formulas import pack
from mpcify.engines.spu.config import SpuConfig
from mpcify.errors import MpcifyError
from mpcify.inference import PrivateModel
from tests.cluster.real import WEIGHT, RealParties, constant_bag, real_parties
from tests.cluster.tampering import Post, tampering

TEXT = "film good bad good"
Altered = tuple[str, Callable[[bytes], bytes], str]


@dataclass(frozen=True)
class Case:
    """An engine's parties. share: how keys of messages begin that carry an input's shares. shares: how many of them the
    client sends for a request. altered: what it may send in place of a message, and the number that this ends with.
    """

    engine: EngineConfig
    share: str
    shares: int
    altered: Mapping[str, Altered]


def shortened(message: bytes) -> bytes:
    return message[:-1]


SPU, RING = "share/client#", "1/said/"
CASES = {
    "spu": Case(
        SpuConfig(force=True),
        SPU,
        2,
        {
            "a byte less": (SPU, shortened, "MPC-707"),
            "a chunk longer than all": (SPU, lambda sent: sent[:20] + b"\xff" * 8 + sent[28:], "MPC-707"),
            "another graph": ("agree#2", lambda sent: bytes(32), "MPC-70[56]"),
        },
    ),
    "ring": Case(
        RingConfig(force=True),
        RING,
        1,
        {
            "a byte less": (RING, shortened, "MPC-70[67]"),
            "a byte less ahead": ("1/ahead/", shortened, "MPC-70[67]"),
            "a shorter key": ("key", shortened, "MPC-70[67]"),
            "another graph": ("agree#1", lambda sent: bytes(32), "MPC-70[56]"),
        },
    ),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def parties(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealParties]:
    with real_parties(tmp_path_factory.mktemp("real"), case.engine) as started:
        yield started


def test_what_a_client_gone_bad_sends_ends_the_session_by_number(parties: RealParties, case: Case) -> None:
    for altered in case.altered.values():
        ends_by_number(parties, *altered)


def ends_by_number(parties: RealParties, key: str, alter: Callable[[bytes], bytes], number: str) -> None:
    altered: list[str] = []

    def tamper(post: Post, peer: str, sent: str, message: bytes) -> None:
        if sent.startswith(key) and peer == "owner":  # in every session: after one that ended early another is opened
            altered.append(sent)
            message = alter(message)
        post(peer, sent, message)

    with tampering(parties.folder, tamper) as private, pytest.raises(MpcifyError, match=number) as raised:
        private([TEXT])
    assert altered
    assert len(str(raised.value)) < 1000
    assert parties.alive()


def needles(parties: RealParties, shares: list[bytes]) -> dict[str, list[bytes]]:
    """What must be nowhere: as text, in floats, and in a ring's whole numbers of any scale and width."""
    rows = constant_bag().table[[4, 2, 3, 2]]  # type: ignore[index]
    found: dict[str, list[bytes]] = {}
    for name, array in {"weights": np.full((2, 4), WEIGHT), "inputs": rows}.items():
        found[name] = [array.ravel()[:4].astype(kind).tobytes() for kind in ("<f4", "<f8")]
        for scale, width in product(range(8, 32), (32, 40, 48, 56, 64)):
            whole = np.round(array.astype(np.float64) * 2**scale).astype(np.int64)
            found[name] += [bytes(pack(part.ravel()[:4], width)) for part in (whole, whole.sum(0))]
    found["weights"] += [str(WEIGHT)[:6].encode()]
    found["inputs"] += [
        TEXT.encode(),
        b"[4, 2, 3, 2]",
        b"film",
        *(str(value)[:6].encode() for value in rows.ravel()[:4]),
    ]
    kits = [*parties.kits.rglob("key.pem"), *parties.folder.rglob("key.pem")]
    found["keys"] = [line for kit in kits for line in kit.read_bytes().splitlines() if len(line) > 40]
    found["keys"].append(b"PRIVATE KEY")
    found["shares"] = [*(share[-24:] for share in shares), *(share[-24:].hex().encode() for share in shares)]
    return found


def test_nothing_leaks_into_logs_error_texts_or_lines(parties: RealParties, case: Case) -> None:
    shares: list[bytes] = []

    def record(post: Post, peer: str, key: str, message: bytes) -> None:
        if key.startswith(case.share):
            shares.append(message)
        post(peer, key, message)

    def break_off(post: Post, peer: str, key: str, message: bytes) -> None:
        record(post, peer, key, message[:-1] if key.startswith(case.share) else message)

    with PrivateModel(constant_bag(), PlainEngine(), length=4) as plain:
        expected = plain([TEXT])[0]
    with tampering(parties.folder, record) as private:
        np.testing.assert_allclose(private([TEXT])[0], expected, atol=1e-3)
    with tampering(parties.folder, break_off) as private, pytest.raises(MpcifyError) as raised:
        private([TEXT])
    command = [sys.executable, "-P", "-m", "mpcify", "infer", "--cluster", str(parties.folder / "client"), TEXT]
    environment = {**os.environ, "MPCIFY_DEBUG": "1"}
    asked = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert asked.returncode == 0, asked.stderr
    assert len(shares) == 2 * case.shares
    written = "".join(parties.logs.values())
    events = {json.loads(line)["event"] for line in written.splitlines() if line.startswith("{")}
    assert {"ready", "session-opened", "answered", "session-failed"} <= events
    wire = parties.wire
    assert len(wire) > sum(map(len, shares))
    for kind, secrets in needles(parties, shares).items():
        for secret in secrets:
            assert secret not in written.encode(), kind
            assert secret not in asked.stderr, kind
            assert secret not in str(raised.value).encode(), kind
            if len(secret) > 5:  # shorter ones may come about by chance
                assert secret not in wire, kind


def test_what_a_client_sends_its_peers_is_masked(parties: RealParties) -> None:
    """Before TLS: what each peer gets of an input has nothing of it, and is another each time."""
    sent: dict[str, list[bytes]] = {peer: [] for peer in parties.processes}

    def record(post: Post, peer: str, key: str, message: bytes) -> None:
        sent[peer].append(message)
        post(peer, key, message)

    with tampering(parties.folder, record) as private:
        private([TEXT])
        private([TEXT])
    for messages in sent.values():
        for secret in needles(parties, [])["inputs"]:
            if len(secret) > 5:
                assert not any(secret in message for message in messages)
        shares = [message for message in messages if len(message) >= 2 * 6 * 4]
        assert len({share[-24:] for share in shares}) == len(shares)
    assert sum(len(message) >= 2 * 6 * 4 for message in sent["owner"]) > 1
