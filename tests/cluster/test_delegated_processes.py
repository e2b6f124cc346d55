"""A delegated cluster in use: a process a party, mutual TLS between them, and a thin client without PyTorch."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.reliability.processes import Process
from mpcify.cluster.local import LocalParties
from mpcify.cluster.thin.config import read_thin
from mpcify.engines.ring.config import RingConfig
from mpcify.graph.exported import read_all
from tests.cluster.deployments import deploy, edit
from tests.graph.bags import answers

TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
CLOSE = 1e-3  # of a logit
THIN = """
import json, sys
for name in "torch transformers jax spu grpc starlette prometheus_client".split():
    sys.modules[name] = None  # importing it raises
import mpcify
with mpcify.connect(sys.argv[1]) as private:
    logits, cost = private(sys.argv[2:])
    print(json.dumps([logits.tolist(), cost.bytes_per_party]))
"""


def test_a_thin_client_that_has_neither_torch_nor_grpc_is_answered_by_three_processes(
    calibrated: Path, made_kits: Path, tmp_path: Path
) -> None:
    out = deploy(calibrated, made_kits, tmp_path / "out", RingConfig(inputs="delegated"))
    for role in ("client", "owner", "dealer"):
        edit(out / role, health="")
    port = read_thin(out / "thin").config.delegate.address.port
    told: list[str] = []
    with LocalParties(out, told.append) as local:
        assert local.next_step == f"mpcify gateway {out / 'client'}"
        gateway = Process(["mpcify", "gateway", str(out / "client"), "--port", str(port)], "stderr")
        try:
            gateway.wait("event", "ready")
            done = subprocess.run(
                [sys.executable, "-P", "-c", THIN, str(out / "thin"), *TEXTS],
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(60) == 0
        finally:
            gateway.kill()
    logits, sent = json.loads(done.stdout)
    np.testing.assert_allclose(logits, answers(read_all(calibrated)), rtol=0, atol=CLOSE)
    assert sent.keys() == {"client", "owner", "dealer"}
    assert [line for line in told if "desk-open" in line]
    routes = [line["route"] for line in gateway.said if line["event"] == "request"]
    assert routes.count("/v1/halves") == 1 + len(TEXTS)
    written = json.dumps(gateway.said) + "".join(told)
    tokens = [(out / "thin" / name).read_text().strip() for name in ("token-delegate", "token-owner")]
    assert not [word for word in (*tokens, "film") if word in written]
