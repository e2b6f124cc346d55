"""mpcify gateway: where it listens, and how it begins and ends."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster.gateway.service import TOKEN, FakeModel, Service

STARTED = """
import json
import sys
from pathlib import Path
from types import SimpleNamespace
import mpcify.cluster.gateway.deployed as deployed
from mpcify.cli.main import main
from tests.cluster.gateway.service import FakeModel

class Model(FakeModel):
    def __enter__(self):
        return self
    def open(self, length):
        print(json.dumps({"event": "opened", "length": length}), file=sys.stderr, flush=True)
    def __exit__(self, *_):
        print('{"event": "closed"}', file=sys.stderr, flush=True)

config = SimpleNamespace(limits=SimpleNamespace(queue=3))
engine = SimpleNamespace(delegated=False)
folder = SimpleNamespace(role="client", lengths=(16,), config=config, engine=engine, health=None, kit=Path("none"))
deployed.read_deployment = lambda folder_path, role: folder
deployed.model_of = lambda folder_path, witness: Model()
main()
"""


class Gateway:
    """The verb in a process of its own, over a model that is not there."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-c", STARTED, "gateway", str(folder), "--format", "json", *words]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        self.program = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.program.stderr is not None
        self.lines: list[str] = []
        while "ready" not in "".join(self.lines[-1:]):
            self.lines.append(self.program.stderr.readline())
            assert self.lines[-1], self.lines

    def event(self, name: str) -> dict[str, Any]:
        """The first event of a name."""
        return next(event for line in self.lines if (event := json.loads(line))["event"] == name)

    def end(self) -> str:
        """Ends it as a supervisor does; its stdout."""
        self.program.send_signal(signal.SIGTERM)
        out, err = self.program.communicate(timeout=30)
        self.lines += err.splitlines()
        assert self.program.returncode == 0, self.lines
        return out


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """started(*words): the verb at work."""
    running: list[Gateway] = []

    def start(*words: str) -> Gateway:
        running.append(Gateway(tmp_path, "--port", "0", *words))
        return running[-1]

    yield start
    for gateway in running:
        gateway.program.kill()
        gateway.program.communicate()


def test_it_serves_until_sigterm_and_logs_no_token(started: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = started()
    token = tmp_path / "gateway-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    secret = token.read_text().strip()
    service = Service(int(gateway.event("ready")["address"].rpartition(":")[2]))
    assert service.post(b'{"inputs": ["a film"]}')[0] == 401
    assert service.post(b'{"inputs": ["a film"]}', Authorization=f"Bearer {secret}")[0] == 200
    assert b"mpcify_queue 0.0" in service.send("GET", "/metrics")[2]
    assert json.loads(gateway.end()) == {"format": 1, "answered": 1}
    assert gateway.event("opened")["length"] == 16  # before anybody could ask
    assert (gateway.event("request")["route"], gateway.event("request")["status"]) == ("/v1/classify", 401)
    assert [json.loads(line)["event"] for line in gateway.lines[-2:]] == ["stopped", "closed"]
    assert secret not in "".join(gateway.lines)


def test_a_token_is_taken_from_the_file_that_is_named(started: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text(TOKEN + "\n")
    gateway = started("--token-file", str(file))
    service = Service(int(gateway.event("ready")["address"].rpartition(":")[2]))
    assert service.ask(["a film"])[0] == 200
    assert not (tmp_path / "gateway-token").exists()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployed folder that is as it should be."""
    from mpcify.cluster.gateway import deployed

    config = SimpleNamespace(limits=SimpleNamespace(queue=3))
    engine = SimpleNamespace(delegated=False)
    found = SimpleNamespace(role="client", lengths=(16,), config=config, engine=engine, health=None, kit=Path("none"))
    monkeypatch.setattr(deployed, "read_deployment", lambda folder, role: found)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_it_listens_on_the_loopback_alone(mpcify: Callable, tmp_path: Path, host: str) -> None:
    outcome = mpcify("gateway", tmp_path, "--host", host, "--port", 0)
    assert outcome.code == 2
    assert f"MPC-901 --host {host}" in outcome.err


@pytest.mark.usefixtures("deployed")
def test_a_port_in_use_is_refused(mpcify: Callable, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = mpcify("gateway", tmp_path, "--port", port)
    assert (outcome.code, outcome.err.startswith(f"MPC-901 --port {port}")) == (2, True)


def test_a_folder_that_is_not_deployed_is_refused(mpcify: Callable, tmp_path: Path) -> None:
    outcome = mpcify("gateway", tmp_path, "--port", 0)
    assert (outcome.code, outcome.err.startswith("MPC-701 ")) == (2, True)


@pytest.mark.usefixtures("deployed")
def test_known_answers_are_read_before_anybody_may_ask(
    mpcify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpcify.cluster.gateway import deployed

    unreached = FakeModel()
    monkeypatch.delattr(FakeModel, "open")  # whoever opens a length reaches the parties
    monkeypatch.setattr(deployed, "model_of", lambda folder, witness: nullcontext(unreached))
    outcome = mpcify("gateway", tmp_path, "--port", 0, "--canary", tmp_path / "known.jsonl")
    assert outcome.code == 2
    assert "MPC-101 " in outcome.err
    assert '"ready"' not in outcome.err
