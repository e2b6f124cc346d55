"""How many instructions the ring engine's kernels take: a measure that no other work on the machine changes.

    OMP_NUM_THREADS=1 python -m benchmarks.instructions [--out FILE]

Of products, instructions a multiply-add: of words of all digits, and (`weights`) with a matrix of WEIGHT bits. Of
formulas, instructions a word, in C. Each is the difference between two sizes, so that what a call costs by itself
falls away. A child process runs the kernels, and this one counts its steps, as a debugger takes them: virtual machines
show no counters. Linux on x86-64 alone; some minutes.
"""

import argparse
import ctypes
import errno
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.kernels import KAPPA, OPENING, WEIGHT
from benchmarks.verbs import keep
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.kernels.kernel import Kernel
from mpcify.engines.ring.kernels.products import Native, there
from mpcify.measure.provenance import provenance

DEPTH, WIDTH = 384, 48  # of a product's right matrix
ROWS = (16, 32)  # of its left one
WORDS = (1 << 10, 1 << 12)
TRACE_ME, STEP = 0, 9  # of ptrace

Run = Callable[[], object]

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, child: int) -> None:
    """One request. Raises OSError."""
    if libc.ptrace(request, child, None, None):
        raise OSError(ctypes.get_errno(), f"ptrace: {errno.errorcode[ctypes.get_errno()]}")


def instructions(run: Run) -> int:
    """How many instructions a child process takes from before `run` to after it."""
    run()  # what is loaded and kept by a first call
    child = os.fork()
    if child == 0:
        gc.disable()
        ptrace(TRACE_ME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        run()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, 0)
    steps, stopped = -1, signal.SIGTRAP
    while stopped == signal.SIGTRAP:
        ptrace(STEP, child)
        stopped = os.WSTOPSIG(os.waitpid(child, 0)[1])
        steps += 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if stopped != signal.SIGSTOP:
        raise RuntimeError(f"the child ended by signal {stopped}")
    return steps


def slope(small: Run, large: Run, work: int) -> float:
    """Instructions for each of `work`, which the larger run does more."""
    return round((instructions(large) - instructions(small)) / work, 3)


def product(kernel: Kernel, random: np.random.Generator, shift: int) -> float:
    """Instructions a multiply-add, with a right matrix of 64 − shift bits."""
    left = random.integers(-(2**63), 2**63, (ROWS[1], DEPTH), np.int64)
    right = random.integers(-(2**63), 2**63, (DEPTH, WIDTH), np.int64) >> shift
    prepared = kernel.prepare(right, min(OPENING[1], kernel.widest))
    runs = [lambda rows=rows: kernel.product(left[:rows], prepared) for rows in ROWS]
    return slope(runs[0], runs[1], (ROWS[1] - ROWS[0]) * DEPTH * WIDTH)


def formula(name: str, random: np.random.Generator) -> float:
    """Instructions a word."""
    c, h, m, hw = random.integers(-(2**63), 2**63, (4, WORDS[1]), np.int64)
    calls: dict[str, Callable[[int], object]] = {
        "halves": lambda n: formulas.halves(c[:n], *OPENING),
        "lift": lambda n: formulas.lift(c[:n], KAPPA, m[:n], True),
        "fresh": lambda n: formulas.fresh(c[:n], KAPPA, m[:n], h[:n]),
        "square": lambda n: formulas.square(c[:n], KAPPA, h[:n], m[:n], hw[:n], True),
        "pack": lambda n: formulas.pack(c[:n], KAPPA),
    }
    small, large = ((lambda n=n: calls[name](n)) for n in WORDS)
    return slope(small, large, WORDS[1] - WORDS[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    native = [kernel for kernel in there() if isinstance(kernel, Native)]
    result = {
        "products": {
            kernel.name + words: product(kernel, random, shift)
            for kernel in native
            for words, shift in (("", 0), (", weights", 64 - WEIGHT))
        },
        "formulas": {name: formula(name, random) for name in ("halves", "lift", "fresh", "square", "pack")},
    }
    keep({**result, **provenance(seed=0)}, given.out)


if __name__ == "__main__":
    main()
