"""Many requests of one client's callers at once: none lost, none mixed up, and what memory and latency do meanwhile.

    python -m benchmarks.reliability.load [--model small] [--requests 1000] [--callers 8]

Owner, helper and client are processes of their own over mutual TLS on the loopback. Every answer is compared with those
of all texts in plain; memory is looked at after every answer.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.deployment import LENGTHS, MINILM, ROLES, SMALL, Expected, deploy
from benchmarks.reliability.processes import Client, Party, Process
from benchmarks.verbs import RESULTS
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

TOLERANCE = 0.02  # of a logit: far above what fixed point costs, far below what lies between two texts' answers
TEXTS = 40
QUARTERS = 4


def quarters(values: Sequence[float]) -> list[Sequence[float]]:
    """The values' quarters, in their order."""
    bounds = [len(values) * place // QUARTERS for place in range(QUARTERS + 1)]
    return [values[start:end] for start, end in pairwise(bounds)]


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and most."""
    ordered = sorted(seconds)
    values = {"median": statistics.median(ordered), "p95": ordered[int(0.95 * len(ordered))], "most": ordered[-1]}
    return {name: round(value, 3) for name, value in values.items()}


def asked(client: Client, texts: Sequence[str], callers: int, seen: Callable[[], None]) -> list[dict[str, Any]]:
    """What is answered, in the order of the texts; each caller asks when it has its answer. seen: after each answer."""

    def ask(text: str) -> dict[str, Any]:
        answer = client.ask(text)
        seen()
        return answer

    with ThreadPoolExecutor(callers) as pool:
        return [*pool.map(ask, texts)]


def measured(folder: Path, requests: int, callers: int, seed: int) -> dict[str, Any]:
    """The requests, and what became of them."""
    expected = Expected.of(folder / "parties", TEXTS, TOLERANCE, seed)
    texts = [str(text) for text in np.random.default_rng(seed).choice([*expected.answers], requests)]
    memory: dict[str, list[float]] = {}

    looking = threading.Lock()

    def look() -> None:
        with looking:
            for name, party in parties.items():
                for part, size in party.memory().items():
                    memory.setdefault(f"{name} {part}", []).append(size)

    with (
        Party(folder / "deployed" / "owner") as owner,
        Party(folder / "deployed" / "helper") as helper,
        Client(folder / "deployed" / "client", callers) as client,
    ):
        parties: dict[str, Process] = {"client": client, "owner": owner, "helper": helper}
        client.connected()
        start = time.monotonic()
        answers = asked(client, texts, callers, look)
        spent = time.monotonic() - start
        sessions = sum(line.get("event") == "session-opened" for line in owner.said)
        exits = {role: parties[role].stop() for role in ROLES}
    right = [(text, answer) for text, answer in zip(texts, answers, strict=True) if "logits" in answer]
    errors = [expected.error(text, answer["logits"]) for text, answer in right]
    return {
        "requests": requests,
        "callers": callers,
        "texts": len(expected.answers),
        "lengths": LENGTHS,
        "answered": len(right),
        "failed": sorted({str(answer["code"]) for answer in answers if "code" in answer}),
        "mixed_up": sum(expected.whose(answer["logits"]) != text for text, answer in right),
        "tolerance": TOLERANCE,
        "apart": round(expected.apart, 4),
        "outside_tolerance": sum(error > TOLERANCE for error in errors),
        "max_logit_error": round(max(errors, default=0.0), 5),
        "sessions": sessions,
        "exit_codes": exits,
        "seconds": round(spent, 1),
        "latency": [latency(part) for part in quarters([answer["seconds"] for answer in answers])],
        "request": [latency(part) for part in quarters([answer["run"] for _, answer in right])],
        "memory_mib": {
            name: [round(statistics.median(part), 1) for part in quarters(sizes)] for name, sizes in memory.items()
        },
        "memory_last_mib": {name: round(sizes[-1], 1) for name, sizes in memory.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=(SMALL, MINILM), default=SMALL)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    origin = provenance(given.seed)  # now: what runs may change meanwhile
    with tempfile.TemporaryDirectory() as place:
        deploy(Path(place), given.model, given.seed)
        values = {"format": 1, "model": given.model}
        values |= measured(Path(place), given.requests, given.callers, given.seed)
    out = given.out or RESULTS / "reliability" / f"load-{given.model}.json"
    write_whole(out, json.dumps({**values, **origin}, indent=1) + "\n")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
