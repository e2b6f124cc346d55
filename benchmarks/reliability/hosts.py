"""A whole BERT-base request by three hosts of their own, over mutual TLS: network namespaces with an address each.

    python -m benchmarks.reliability.hosts [--engine spu] [--layers 12] [--gigabits 1]

An engine's parties run in a namespace each (Linux, root), joined by a bridge; then once more with every line
shaped to `gigabits`. The model is BERT-base with random weights, `2quad-freediv`, 128 tokens; the answer is compared
with the same graph in floats.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mpcify
from benchmarks.reliability.speed import BASE, TEXTS, deployment, initialise
from benchmarks.verbs import RESULTS
from mpcify.engines.config import config_named
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance
from mpcify.network.namespaces import Namespaces

READY = 600.0  # seconds until a party has compiled its program


def party_words(folder: Path) -> list[str]:
    """The command that serves a party."""
    return [sys.executable, "-P", "-m", "mpcify", "party", "serve", str(folder)]


def request(folder: Path, engine: str, gigabits: float | None, turns: int) -> dict[str, Any]:
    """Requests in namespaces: what one of them cost, and the answer. folder: that `deployment` filled."""
    parties = config_named(engine).parties
    with Namespaces(parties, gigabits) as spaces, ExitStack() as running:
        place = folder / ("shaped" if gigabits else "open")
        listening = {role: f"{spaces.address(number)}:7000" for number, role in enumerate(parties) if number}
        initialise(folder, place, engine, listening)
        for number, role in enumerate(parties[1:], 1):
            process = subprocess.Popen(
                spaces.inside(number, *party_words(place / role)), stderr=subprocess.PIPE, text=True
            )
            running.callback(process.wait)
            running.callback(process.terminate)
            assert process.stderr is not None
            for line in process.stderr:
                if '"ready"' in line:
                    break
            running.enter_context(process.stderr)
        words = [sys.executable, "-P", "-m", "mpcify", "infer", "--cluster", str(place / "client"), "--format", "json"]
        round_trip = spaces.round_trip()
        done = subprocess.run(
            spaces.inside(0, *words, *([TEXTS[-1]] * turns)), stdout=subprocess.PIPE, text=True, check=True
        )
        answer = json.loads(done.stdout)
    cost = answer["cost"]
    return {
        "gigabits": gigabits,
        "round_trip_ms": round(1000 * round_trip, 3),
        "requests": turns,
        "seconds_a_request": round(cost["seconds"] / turns, 3),
        "bytes_a_request": cost["bytes"] // turns,
        "rounds_a_request": cost["rounds"] // turns,
        **online(cost, turns),
        "setup": cost["setup"],
        "scores": answer["results"][-1]["scores"],
    }


def online(cost: dict[str, Any], turns: int) -> dict[str, Any]:
    """What of a request is not ahead of it, where anything is."""
    if "online" not in cost:
        return {}
    spent = cost["online"]
    return {"online": {"seconds": round(spent["seconds"] / turns, 3), "bytes": spent["bytes"] // turns}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="spu")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--gigabits", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=2, help="requests of each session; their mean is reported")
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability")
    given = parser.parse_args()
    name = "hosts.json" if given.engine == "spu" else f"hosts-{given.engine}.json"
    folder = Path(tempfile.mkdtemp())
    try:
        deployment(folder, BASE, given.layers, given.engine)
        with mpcify.compile(folder / "parties", engine="plain") as plain:
            expected = plain.classify(TEXTS[-1:])[0]["scores"]
        runs = [request(folder, given.engine, gigabits, given.turns) for gigabits in (None, given.gigabits)]
    finally:
        shutil.rmtree(folder)
    for run in runs:
        scores = run.pop("scores")
        run["max_score_difference"] = max(abs(scores[label] - expected[label]) for label in expected)
    values = {
        "format": 1,
        "engine": given.engine,
        "layers": given.layers,
        "length": 128,
        "load_average": round(os.getloadavg()[0], 2),
    }
    write_whole(given.out / name, json.dumps({**values, "runs": runs, **provenance()}, indent=1) + "\n")
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
