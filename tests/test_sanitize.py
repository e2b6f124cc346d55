"""The native kernels' tests once more, under the address and undefined-behaviour sanitizers of gcc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def sanitizers() -> bool:
    """Whether gcc is there, and its sanitizers' libraries."""
    if shutil.which("gcc") is None:
        return False
    words = ["gcc", "-print-file-name=libasan.so"]
    return Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()).is_absolute()


@pytest.mark.skipif(not sanitizers(), reason="no gcc with its sanitizers")
def test_the_kernels_read_and_write_nothing_that_is_not_theirs() -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["bash", ".ci/sanitize"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    assert " passed" in done.stdout
