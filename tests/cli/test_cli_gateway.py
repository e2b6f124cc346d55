"""mpcify gateway: where it listens, and how it begins and ends."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.gateway.service import Service

STARTED = """
import sys
import mpcify
from mpcify.cli.main import main
from tests.cluster.gateway.service import FakeModel

class Model(FakeModel):
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("closed", file=sys.stderr, flush=True)

mpcify.connect = lambda folder: Model()
main()
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_it_listens_on_the_loopback_alone(mpcify: Callable, tmp_path: Path, host: str) -> None:
    outcome = mpcify("gateway", tmp_path, "--host", host, "--port", 0)
    assert outcome.code == 2
    assert f"MPC-901 --host {host}" in outcome.err


def test_a_port_in_use_is_refused(mpcify: Callable, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = mpcify("gateway", tmp_path, "--port", port)
    assert (outcome.code, outcome.err.startswith(f"MPC-901 --port {port}")) == (2, True)


def test_it_serves_until_sigterm_and_logs_no_token(tmp_path: Path) -> None:
    words = [sys.executable, "-c", STARTED, "gateway", str(tmp_path), "--port", "0", "--format", "json"]
    program = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    with program:
        assert program.stdout is not None
        assert program.stderr is not None
        first = program.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/, its token is in (.*)", first)
        assert found, first
        token = Path(found[2])
        assert (token, stat.S_IMODE(token.stat().st_mode)) == (tmp_path / "gateway-token", 0o600)
        secret = token.read_text().strip()
        service = Service(int(found[1]))
        assert service.post(b'{"inputs": ["a film"]}')[0] == 401
        assert service.post(b'{"inputs": ["a film"]}', Authorization=f"Bearer {secret}")[0] == 200
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=10)
    assert (program.returncode, json.loads(out)) == (0, {"format": 1, "answered": 1})
    assert "INFO mpcify.gateway request route=/v1/classify status=200" in err
    assert err.endswith("closed\n")
    assert secret not in first + err
