"""Parties that are stopped and started again while callers ask on: what the callers lose.

    python -m benchmarks.reliability.restarts [--rounds 3] [--callers 4]

In each round owner and helper get SIGTERM one after the other, between two requests or in the middle of one, as it
comes; each is started again as soon as it has ended.
"""

import argparse
import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.reliability.deployment import ROLES, SMALL, Expected, deploy
from benchmarks.reliability.load import TEXTS, TOLERANCE, latency
from benchmarks.reliability.processes import LIMIT, Client, Party
from benchmarks.verbs import RESULTS
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

BETWEEN = 8  # answers between two restarts


def measured(folder: Path, rounds: int, callers: int, seed: int) -> dict[str, Any]:
    """What callers got meanwhile."""
    expected = Expected.of(folder / "parties", TEXTS, TOLERANCE, seed)
    texts, done = [*expected.answers], threading.Event()
    parties = {role: Party(folder / "deployed" / role) for role in ROLES}
    codes: list[int] = []
    counted = threading.Semaphore(0)
    try:
        with Client(folder / "deployed" / "client", callers) as client, ThreadPoolExecutor(callers) as pool:
            client.connected()

            def ask(caller: int) -> list[tuple[str, dict[str, Any]]]:
                found = []
                while not done.is_set():
                    text = texts[(caller + callers * len(found)) % len(texts)]
                    found.append((text, client.ask(text)))
                    counted.release()
                return found

            def wait() -> None:
                for _ in range(BETWEEN):
                    counted.acquire(timeout=LIMIT)

            asking = [pool.submit(ask, caller) for caller in range(callers)]
            try:
                for _ in range(rounds):
                    for role in ROLES:
                        wait()
                        codes.append(parties[role].stop())
                        parties[role] = Party(folder / "deployed" / role)
                wait()
            finally:
                done.set()
            answers = [pair for future in asking for pair in future.result()]
    finally:
        for party in parties.values():
            party.kill()
    right = [(text, answer) for text, answer in answers if "logits" in answer]
    return {
        "restarts": len(codes),
        "exit_codes": sorted({*codes}),
        "callers": callers,
        "requests": len(answers),
        "right": sum(expected.error(text, answer["logits"]) <= TOLERANCE for text, answer in right),
        "failed": sorted(str(answer["code"]) for _, answer in answers if "code" in answer),
        "latency": latency([answer["seconds"] for _, answer in answers]),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "restarts.json")
    given = parser.parse_args()
    origin = provenance(given.seed)  # now: what runs may change meanwhile
    with tempfile.TemporaryDirectory() as place:
        deploy(Path(place), SMALL, given.seed)
        values = {"format": 1, "model": SMALL, **measured(Path(place), given.rounds, given.callers, given.seed)}
    write_whole(given.out, json.dumps({**values, **origin}, indent=1) + "\n")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
