"""The native kernels' own tests, once more under gcc's sanitizers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mpcify.engines.ring.kernels.library import library

SCRIPT = Path(__file__).parents[1] / ".ci" / "sanitize"


@pytest.mark.skipif(shutil.which("gcc") is None or library() is None, reason="no gcc, or no kernels")
def test_no_address_is_wrong_and_nothing_is_undefined_in_c() -> None:
    found = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, f"{found.stdout[-4000:]}\n{found.stderr[-4000:]}"
    assert " passed" in found.stdout
