"""Small models for the tests of SPU, and a Python process that makes them too."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.config import SpuConfig
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph

WIDTH = 48
FORCED = SpuConfig(force=True)
INPUT = np.random.default_rng(1).standard_normal((1, 4, WIDTH)).astype(np.float32)

Model = tuple[Graph, dict[str, np.ndarray]]


def plain(model: Model, x: np.ndarray) -> np.ndarray:
    """The logits in floats."""
    return PlainEngine().compile(model[0]).load(model[1]).run({"x": x})[0]["logits"]


def wide_model() -> Model:
    """A product that takes some seconds."""
    builder = Builder(1, 1)
    x = builder.input("x", "client", (2048, 256))
    w = [builder.weight("w", np.ones((256, 2048), np.float32)), builder.weight("b", np.zeros(2048, np.float32))]
    return builder.finish(None, [builder.emit("y", "linear", [x, *w])]), builder.weights


def is_gone(process: int) -> bool:
    """Whether a process has ended within five seconds (one that nobody has waited for yet counts)."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def python(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, with this module as `m`, the small model as `g` and its weights as `w`."""
    prelude = "from tests.engines.spu import models as m; from tests.makers import small_model; g, w = small_model()\n"
    command = [sys.executable, *options, "-c", prelude + code]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
