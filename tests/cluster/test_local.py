"""Parties of this machine: folders that stand beside each other, and processes that end with whoever started them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpcify.cluster import local
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.local import LocalParties, deploy_here
from mpcify.engines.spu.config import SpuConfig
from mpcify.errors import MpcifyError

ENGINE = SpuConfig(force=True)  # the model declares no ranges
ROLES = ("client", "owner", "helper")


def test_clusters_of_one_machine_share_no_address(exported: Path, tmp_path: Path) -> None:
    made = [deploy_here(exported, tmp_path / name, ENGINE) for name in ("one", "two")]
    deployments = [read_deployment(folder / role, role) for folder in made for role in ROLES]
    assert {deployment.health for deployment in deployments} == {None}
    for one in deployments[:3]:
        assert {str(address) for address in one.addresses.values()} == {d.listen for d in deployments[1:3]}
    assert len({deployment.listen for deployment in deployments}) == 5  # four, and the clients' none


def test_a_process_ends_with_whoever_started_it() -> None:
    code = "from mpcify.cluster.local import end_with_starter; end_with_starter(); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"what stands there counts for nothing")
        process.stdin.close()
        assert process.wait(20) == -signal.SIGTERM


def test_a_party_that_does_not_start_is_named_with_its_own_words(exported: Path, tmp_path: Path) -> None:
    made = deploy_here(exported, tmp_path / "cluster", ENGINE)
    (made / "owner" / "exported" / "weights.safetensors").unlink()
    parties = LocalParties(made)
    with pytest.raises(MpcifyError, match=r"MPC-703 party owner: MPC-404 .*weights.safetensors.* no such file"):
        parties.start()
    assert parties.processes == {}


def test_a_terminals_interrupt_reaches_no_party_itself(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SERVE", "import os; print(os.getsid(0) == os.getpid(), file=os.sys.stderr)")
    lines: list[str] = []
    with pytest.raises(MpcifyError, match="MPC-703"):
        LocalParties(deploy_here(exported, tmp_path / "cluster", ENGINE), lines.append).start()
    assert "owner: True" in lines
