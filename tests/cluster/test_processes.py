"""Parties as they are in use: processes of their own, mutual TLS between them, and each engine that has parties."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mpcify
from benchmarks.reliability.processes import Party
from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.authority import create_kits
from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployed import on_signal
from mpcify.engines.config import EngineConfig
from mpcify.engines.plain import PlainEngine
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.spu.config import SpuConfig
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all, write
from mpcify.inference import PrivateModel
from tests.cluster.deployments import edit
from tests.graph.bags import LENGTHS, Bag, Calibrated

TEXT = "a good film"
CLOSE = 1e-3  # of a logit: some hundred steps of the fixed point's 2^-18


class Running:
    """A deployment, and its parties at work. roles: of those that serve."""

    def __init__(self, folder: Path, engine: EngineConfig) -> None:
        self.folder, self.engine, self.parties = folder, engine, dict[str, Party]()
        self.roles = engine.parties[1:]
        create_kits(folder / "kits", engine.parties)
        self.addresses = dict(zip(self.roles, free_addresses(2), strict=True))
        self.deploy("deployed", Calibrated())

    def deploy(self, name: str, bag: Bag) -> Path:
        """A deployment at the same addresses, with the same keys."""
        (self.folder / name / "parties").mkdir(parents=True)
        write(bag, LENGTHS, self.folder / name / "parties")
        out = self.folder / name / "out"
        write_deployment(self.folder / name / "parties", self.folder / "kits", out, self.engine, self.addresses)
        for role in self.engine.parties:
            edit(out / role, health="")
        return out

    def client(self) -> Path:
        return self.folder / "deployed" / "out" / "client"

    def start(self) -> None:
        """Starts whoever does not run, all at once."""
        running = [role for role, party in self.parties.items() if party.process.poll() is None]
        missing = [role for role in self.roles if role not in running]
        with ThreadPoolExecutor(len(self.roles)) as pool:
            made = pool.map(Party, [self.folder / "deployed" / "out" / role for role in missing])
            self.parties.update(zip(missing, made, strict=True))

    def expected(self) -> np.ndarray:
        """What TEXT is answered in plain."""
        with PrivateModel(read_all(self.folder / "deployed" / "parties"), PlainEngine()) as plain:
            return plain([TEXT])[0]


@pytest.fixture(scope="module", params=[SpuConfig(), RingConfig()], ids=lambda engine: engine.name)
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("processes"), request.param)
    try:
        yield made
    finally:
        for party in made.parties.values():
            party.kill()


@pytest.fixture
def running(deployment: Running) -> Running:
    """Owner and helper at work, whatever the test before did to them."""
    deployment.start()
    return deployment


def test_processes_answer_as_the_simulation_and_share_weights_once(running: Running) -> None:
    with mpcify.compile(running.folder / "deployed" / "parties", engine=running.engine.name) as simulation:
        simulated, cost = simulation([TEXT])
    with mpcify.connect(running.client()) as private:
        answers, costs = zip(*(private([TEXT]) for _ in range(2)), strict=True)
    for answer in answers:
        np.testing.assert_allclose(answer, simulated, atol=CLOSE)
        np.testing.assert_allclose(answer, running.expected(), atol=CLOSE)
    assert costs[0].setup == costs[1].setup
    assert costs[0].setup is not None
    assert costs[0].setup.bytes > 0
    assert [each.bytes for each in costs] == [cost.bytes] * 2
    assert [each.online.bytes for each in costs] == [cost.online.bytes] * 2
    for each in costs:
        assert (each.offline is None) == (cost.offline is None)


def test_the_command_line_asks_them(running: Running) -> None:
    words = ["infer", "--cluster", str(running.client()), TEXT, "--format", "json"]
    done = subprocess.run([sys.executable, "-m", "mpcify", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["label"] == ("bad", "good")[running.expected()[0].argmax()]


def test_a_client_of_another_export_is_refused_and_the_right_one_is_not(running: Running) -> None:
    other = running.deploy("other", replace(Calibrated(), lengths=None, batch=2))
    with pytest.raises(MpcifyError, match="MPC-705"):
        mpcify.connect(other / "client")
    with mpcify.connect(running.client()) as private:
        np.testing.assert_allclose(private([TEXT])[0], running.expected(), atol=CLOSE)


@pytest.mark.parametrize("place", [0, 1])
def test_a_party_killed_during_a_request_fails_it_and_the_next_one_finds_it_back(running: Running, place: int) -> None:
    victim, other = (running.parties[running.roles[index]] for index in (place, 1 - place))
    with mpcify.connect(running.client()) as private, ThreadPoolExecutor(1) as pool:
        private([TEXT])
        victim.process.send_signal(signal.SIGSTOP)  # so that the request cannot be over before
        asking = pool.submit(private, [TEXT])
        victim.kill()
        with pytest.raises(MpcifyError, match="MPC-706"):
            asking.result(60)
        running.start()
        np.testing.assert_allclose(private([TEXT])[0], running.expected(), atol=CLOSE)
    assert running.parties[running.roles[1 - place]] is other
    assert other.process.poll() is None


ASKING = """
import sys, mpcify
private = mpcify.connect(sys.argv[1])
while True:
    private([sys.argv[2]])
    print("answered", flush=True)
    if sys.argv[3:]:
        input()
        sys.exit(0)
"""


def asking(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """A client's process that never closes what it opened, after its first answer."""
    command = [sys.executable, "-c", ASKING, str(folder), TEXT, *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "answered\n"
    return process


def test_a_client_that_is_killed_leaves_the_parties_to_the_next_one(running: Running) -> None:
    before = {role: party.pid for role, party in running.parties.items()}
    with asking(running.client()) as client:
        client.kill()
    with mpcify.connect(running.client()) as private:
        np.testing.assert_allclose(private([TEXT])[0], running.expected(), atol=CLOSE)
    assert {role: party.pid for role, party in running.parties.items()} == before


def test_a_program_ends_though_its_model_is_open_and_a_party_hangs(running: Running) -> None:
    owner = running.parties["owner"].process
    with asking(running.client(), "once") as client:
        owner.send_signal(signal.SIGSTOP)
        try:
            _, errors = client.communicate("\n", timeout=20)
        finally:
            owner.send_signal(signal.SIGCONT)
    assert (client.returncode, errors) == (0, "")


def test_a_party_that_is_told_to_stop_answers_what_runs_and_exits_with_0(running: Running, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(running.client(), tmp_path / "client"))
    edit(folder, connect=1.0)
    owner, answered, begun = running.parties["owner"], 0, threading.Event()
    with mpcify.connect(folder) as private, ThreadPoolExecutor(1) as pool:

        def ask_on() -> int:
            nonlocal answered
            while True:
                try:
                    np.testing.assert_allclose(private([TEXT])[0], running.expected(), atol=CLOSE)
                except MpcifyError as error:
                    return error.code
                answered += 1
                begun.set()

        asking = pool.submit(ask_on)
        assert begun.wait(60)
        assert owner.stop() == 0
        assert asking.result(60) in (703, 706)  # it is not back in time, or goes while it is dialled
    told = [line for line in owner.said if line["event"] != "library"]  # which says that a caller came too late
    assert [line["event"] for line in told[-3:]] == ["answered", "session-ended", "stopped"]
    assert told[-2]["reason"] == "draining"
    assert sum(line["event"] == "answered" for line in told) >= answered


def test_a_signal_that_comes_while_a_lock_is_held_waits_for_the_lock_elsewhere() -> None:
    lock, got = threading.Lock(), list[bool]()
    stopped = threading.Event()

    def stop() -> None:
        got.append(lock.acquire(timeout=10))
        stopped.set()

    with on_signal(stop):
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(20)
    assert got == [True]
