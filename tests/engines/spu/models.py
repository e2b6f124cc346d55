"""Small models for the tests of SPU, and a Python process that makes them too."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mpcify.engines.plain import PlainEngine
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph

WIDTH = 48
INPUT = np.random.default_rng(1).standard_normal((1, 4, WIDTH)).astype(np.float32)

Model = tuple[Graph, dict[str, np.ndarray]]


def small_model(length: int = 4, activation: str = "square", width: int = WIDTH) -> Model:
    """A LayerNorm, and two linear layers around an activation; and its weights."""
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (0.1 * generator.standard_normal(shape)).astype(np.float32)

    builder = Builder(1, length)
    x = builder.input("x", "client", (1, length, width))
    scale, bias = builder.weight("norm.g", 1 + random(width)), builder.weight("norm.b", random(width))
    x = builder.emit("norm", "layernorm", [x, scale, bias], eps=1e-12)
    builder.layer, builder.part = 0, "linear"
    x = builder.emit("up", "linear", [x, builder.weight("up.w", random(width, 64)), builder.weight("up.b", random(64))])
    x = builder.emit("activation", activation, [x])
    down = [x, builder.weight("down.w", random(64, 2)), builder.weight("down.b", random(2))]
    return builder.finish(None, [builder.emit("logits", "linear", down)]), builder.weights


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
    prelude = f"import importlib.util, sys; spec = importlib.util.spec_from_file_location('models', {__file__!r}); "
    prelude += "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m); g, w = m.small_model()\n"
    prelude += "from mpcify.engines.spu.engine import SpuEngine\n"
    command = [sys.executable, *options, "-c", prelude + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
