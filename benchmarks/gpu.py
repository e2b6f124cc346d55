"""The ring engine with the owner's weights on a GPU beside the processor alone: products, and requests of a layer.

    OMP_NUM_THREADS=1 python -m benchmarks.gpu [--repeat 10] [--out FILE]

Products as in kernels.py, of the processor's fastest kernels and of the GPU's, with what goes there and comes back.
Requests of a BERT-base layer of 128 tokens, alone and in a batch of 8, in turns; randomness is dealt first, as in
ring.py.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kernels import OPENING, PRODUCTS, Run, rates
from benchmarks.ring import SECTION, in_roles
from benchmarks.verbs import keep
from mpcify.bench.benchmark import model_of, prepare
from mpcify.engines.ring.engine import RingSession
from mpcify.engines.ring.kernels.floats import DIGITS
from mpcify.engines.ring.kernels.products import kernel
from mpcify.measure.provenance import provenance

RECIPE, LENGTH, BATCHES = "2quad-freediv", 128, (1, 8)
DEVICES = ("cpu", "cuda")


def products(random: np.random.Generator, repeat: int) -> dict[str, dict[str, float]]:
    """Billions of multiply-adds a second of each kernel, by shape."""
    kernels = {found.name: found for device in DEVICES for found in (kernel(bits, device) for bits in DIGITS)}
    found = {}
    for name, (m, p, q) in PRODUCTS.items():
        left, right = (random.integers(-(2**63), 2**63, shape, np.int64) for shape in ((m, p), (p, q)))
        runs: dict[str, Run] = {}
        for label, of in kernels.items():
            prepared = of.prepare(right, min(OPENING[1], of.widest))
            runs[label] = lambda of=of, left=left, by=prepared: of.product(left, by)
        found[name] = rates(runs, dict.fromkeys(runs, m * p * q), repeat)
    return found


def requests(batch: int, repeat: int) -> dict[str, dict[str, Any]]:
    """Seconds of a request by device: all, online and of each role's processor; and its error. Medians of turns."""
    teacher = model_of("bert-base", 1, LENGTH)
    given: dict[str, tuple[RingSession, Any]] = {}
    for device in DEVICES:
        entry = prepare(teacher, RECIPE, "ring", LENGTH, batch, "client", {"device": device})
        _, session, inputs = entry.sections[SECTION]
        assert isinstance(session, RingSession)
        given[device] = session, inputs
    _, plain, inputs = prepare(teacher, RECIPE, "plain", LENGTH, batch, "client", {}).sections[SECTION]
    floats, _ = plain.run(inputs)
    turns: dict[str, list[Any]] = {device: [] for device in DEVICES}
    for _ in range(repeat + 1):
        for device, (session, inputs) in given.items():
            turns[device].append(in_roles(session, inputs))
    found = {}
    for device, all_turns in turns.items():
        later = [turn for _, turn in all_turns[1:]]
        outputs, _ = all_turns[-1]
        found[device] = {
            "seconds": statistics.median(turn.cost.seconds for turn in later),
            "seconds_online": statistics.median(turn.cost.online.seconds for turn in later),
            "processor": {
                name: statistics.median(turn.processor[name] for turn in later) for name in later[0].processor
            },
            "error": max(float(np.abs(outputs[name] - value).max()) for name, value in floats.items()),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "products": products(np.random.default_rng(0), given.repeat),
        "requests": {f"batch-{batch}": requests(batch, given.repeat) for batch in BATCHES},
    }
    keep({**result, **provenance(seed=0)}, given.out)


if __name__ == "__main__":
    main()
