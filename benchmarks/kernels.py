"""What the ring engine's kernels reach on one core: products of a BERT-base layer of 128 tokens, and formulas.

    OMP_NUM_THREADS=1 taskset --cpu-list 0 python -m benchmarks.kernels [--only NAME ...] [--repeat 20] [--out FILE]

Products in billions of multiply-adds a second, beside torch's of float32, which the plaintext model takes: of words of
all digits, and (`weights`) with a matrix of WEIGHT bits, as the owner's is in a request. Formulas in billions of bytes
read and written a second, in C and in numpy. Medians of a few runs in turns.
"""

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.verbs import keep
from mpcify.engines.ring.kernels import formulas, onepass
from mpcify.engines.ring.kernels.products import there
from mpcify.measure.provenance import provenance

PRODUCTS = {"qkv": (128, 768, 2304), "first": (128, 768, 3072), "second": (128, 3072, 768)}
HEADS = (12, 128, 64, 128)  # scores: a product a head
WEIGHT = 15  # bits, a sign among them
WORDS = (128, 3072)
OPENING = (16, 38)  # shift and ring
KAPPA = OPENING[1] - OPENING[0]  # bits of what is opened, and sent

Run = Callable[[], Any]


def rates(runs: dict[str, Run], work: dict[str, float], repeat: int) -> dict[str, float]:
    """Billions of `work` a second of each run, in turns: what else the machine does then slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: round(work[name] / statistics.median(seconds[name][1:]) / 1e9, 2) for name in runs}


def products(random: np.random.Generator, repeat: int, only: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Of each shape, what each kernel reaches, or each of `only`."""
    torch = importlib.import_module("torch")
    kernels = [kernel for kernel in there() if only is None or kernel.name in only]

    def words(*shape: int) -> np.ndarray:
        return random.integers(-(2**63), 2**63, shape, np.int64)

    found = {}
    for name, (m, p, q) in PRODUCTS.items():
        left, right = words(m, p), words(p, q)
        floats = torch.randn(m, p), torch.randn(p, q)
        runs: dict[str, Run] = {"float32": lambda floats=floats: floats[0] @ floats[1]}
        for kernel in kernels:
            for words_of, matrix in (("", right), (", weights", right >> 64 - WEIGHT)):
                prepared = kernel.prepare(matrix, min(OPENING[1], kernel.widest))
                runs[kernel.name + words_of] = lambda of=kernel, left=left, by=prepared: of.product(left, by)
        found[name] = rates(runs, dict.fromkeys(runs, m * p * q), repeat)
    count, m, p, q = HEADS
    left, right = words(count, m, p), words(count, q, p)
    floats = torch.randn(count, m, p), torch.randn(count, q, p)
    runs = {"float32": lambda: floats[0] @ floats[1].mT}
    runs |= {kernel.name: lambda of=kernel: of.products(left, right, transpose=True) for kernel in kernels}
    return {**found, "scores": rates(runs, dict.fromkeys(runs, math.prod(HEADS)), repeat)}


def in_passes(random: np.random.Generator, repeat: int) -> dict[str, dict[str, float]]:
    """Of each formula, what C and numpy reach."""
    c, h, m, hw, mg, mw = random.integers(-(2**63), 2**63, (6, *WORDS), np.int64)
    d, g, w = random.integers(-(2**63), 2**63, (3, WORDS[0]), np.int64)
    packed = bytes(formulas.pack(c, KAPPA))
    runs: dict[str, Run] = {
        "halves": lambda: formulas.halves(c, *OPENING),
        "lift": lambda: formulas.lift(c, KAPPA, m, True),
        "fresh": lambda: formulas.fresh(c, KAPPA, m, h),
        "square": lambda: formulas.square(c, KAPPA, h, m, hw, True),
        "times": lambda: formulas.times(c, KAPPA, h, m, d, KAPPA, g, w, hw, mg, mw, True),
        "pack": lambda: formulas.pack(c, KAPPA),
        "unpack": lambda: formulas.unpack(packed, c.size, KAPPA),
    }
    arrays = {
        "halves": 3,
        "lift": 3,
        "fresh": 4,
        "square": 5,
        "times": 7,
        "pack": 1 + KAPPA / 64,
        "unpack": 1 + KAPPA / 64,
    }
    work = {name: count * c.nbytes for name, count in arrays.items()}
    native = rates(runs, work, repeat)
    with patch.object(onepass, "library", lambda: None), patch.object(formulas, "library", lambda: None):
        slow = rates(runs, work, repeat)
    return {name: {"native": native[name], "numpy": slow[name]} for name in runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="kernels; torch's of 8 bits take minutes without AMX")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    result = {"products": products(random, given.repeat, given.only), "formulas": in_passes(random, given.repeat)}
    keep({**result, **provenance(seed=0)}, given.out)


if __name__ == "__main__":
    main()
