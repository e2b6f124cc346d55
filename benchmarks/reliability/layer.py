"""One layer of BERT-base by hosts of their own over mutual TLS: engines in turns in one run, and what `estimate` says.

    OMP_NUM_THREADS=1 python -m benchmarks.reliability.layer [--shape minilm] [--engine ring] [--repeat 5]

Without OMP_NUM_THREADS as many threads as there are processors share the ring engine's products (`threads`). Ten
minutes on two cores that do nothing else; Linux, root. Every party of every engine has a network namespace, and all
run from first to last, but only one engine's are asked at a time: once to warm up, then in turns. First their lines
are as fast as the machine, then they have the round trip (ms) and the rate (Gbit/s) of `--network`. After each
request there is a pause, in which parties deal the next one's randomness. The model has an embedding, one layer and a
head, random weights, and 128 tokens; `--shape minilm` shows that all of it runs.

An estimate is for parties on machines of their own, made before, on the same machine. `seconds`: those of the client's
request without what was ahead of it; error: how far the estimate lies from them.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpcify
from benchmarks.reliability.processes import Client, Party
from benchmarks.reliability.speed import BASE, MINI, TEXTS, deployment, initialise
from benchmarks.verbs import RESULTS
from mpcify.engines.config import config_named
from mpcify.engines.cost import Cost, median
from mpcify.files import write_whole
from mpcify.measure.estimate import estimate
from mpcify.measure.provenance import provenance
from mpcify.network.namespaces import Namespaces
from mpcify.processors import threads

SYSTEMS = (("exact-tanh", "spu"), ("2quad-freediv", "spu"), ("2quad-freediv", "ring"))
SHAPES = {"bert-base": BASE, "minilm": MINI}
PORT = 7000
LEAST_PAUSE, PAUSES = 0.5, 4.0  # seconds after a request, and times what was ahead of it


@dataclass
class System:
    """A recipe on an engine, deployed in a folder. told: its estimate over the network. answers: by request."""

    recipe: str
    engine: str
    folder: Path
    told: Mapping[str, Any]
    expected: list[float]
    client: Client | None = None
    costs: list[Cost] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    @property
    def parties(self) -> tuple[str, ...]:
        return config_named(self.engine).parties

    def start(self, spaces: Namespaces, first: int, place: str, running: ExitStack) -> None:
        """Starts its parties in the namespaces from `first` on."""
        listening = {
            role: f"{spaces.address(first + number)}:{PORT}" for number, role in enumerate(self.parties) if number
        }
        out = self.folder / place
        initialise(self.folder, out, self.engine, listening)
        for number, role in enumerate(self.parties[1:], first + 1):
            running.enter_context(Party(out / role, tuple(spaces.inside(number))))
        self.client = running.enter_context(Client(out / "client", prefix=tuple(spaces.inside(first))))
        self.client.connected()
        self.costs, self.whole, self.errors = [], [], []

    def ask(self) -> None:
        """One request, and the pause after it. Raises RuntimeError if it is not answered."""
        assert self.client is not None
        answer = self.client.ask(TEXTS[-1])
        if "cost" not in answer:
            raise RuntimeError(f"{self.engine} answered {answer}")
        cost = Cost.from_json(answer["cost"])
        self.costs.append(cost)
        self.whole.append(answer["seconds"])
        self.errors.append(max(abs(a - b) for a, b in zip(answer["logits"], self.expected, strict=True)))
        time.sleep(LEAST_PAUSE + PAUSES * (cost.offline or Cost()).seconds)

    def row(self, network: str | None) -> dict[str, Any]:
        """Medians of the requests but for the first, beside the estimate if there is a network."""
        cost = median(self.costs[1:])
        values = {
            "recipe": self.recipe,
            "engine": self.engine,
            "seconds": cost.online.seconds,
            "seconds_of_turns": [one.online.seconds for one in self.costs[1:]],
            "seconds_at_client": statistics.median(self.whole[1:]),
            "cost": cost.to_json(),
            "max_logit_difference": max(self.errors),
        }
        return values if network is None else {**values, **beside(self.told, cost)}


def beside(told: Mapping[str, Any], cost: Cost) -> dict[str, Any]:
    """An estimate's cost, and how far it lies from what was measured, of what is online: more than 0 if above it."""
    spent = Cost.from_json(told)
    online = spent.online
    return {
        "told": dict(told),
        "told_seconds": online.seconds,
        "error": online.seconds / cost.online.seconds - 1,
        "bytes_error": online.bytes / cost.online.bytes - 1,
    }


def deployed(folder: Path, shape: Mapping[str, int], network: str, only: str | None) -> list[System]:
    """Every system, or those of one engine, with its estimate, and the logits in floats."""
    found = []
    for recipe, engine in SYSTEMS:
        if only not in (None, engine):
            continue
        place = folder / f"{engine}-{recipe}"
        place.mkdir()
        deployment(place, dict(shape), 1, engine, recipe)
        with mpcify.compile(place / "parties", engine="plain") as plain:
            logits = plain(TEXTS[-1:])[0][0].tolist()
            told = estimate(plain, engine, network=network, accept_embedding_leak=True).cost
        found.append(System(recipe, engine, place, told, logits))
        notice(f"{recipe} on {engine} is deployed")
    return found


def measured(systems: Sequence[System], network: str | None, repeat: int) -> dict[str, Any]:
    """Requests in turns over a network; None: as fast as the machine."""
    names = [f"{number}-{role}" for number, system in enumerate(systems) for role in system.parties]
    wanted, gigabits = (None, None) if network is None else map(float, network.split(","))
    place = "open" if network is None else "shaped"
    round_trip = None if wanted is None else wanted / 1e3
    with Namespaces(names, gigabits, round_trip) as spaces, ExitStack() as running:
        first = 0
        for system in systems:
            system.start(spaces, first, place, running)
            first += len(system.parties)
        found = spaces.round_trip()
        notice(f"{place}: all are connected, a round trip takes {1000 * found:.2f} ms")
        for turn in range(repeat + 1):
            for system in systems:
                system.ask()
            notice(f"{place}: turn {turn} of {repeat}")
        rows = [system.row(network) for system in systems]
    return {"network": network, "round_trip_ms": round(1000 * found, 3), "rows": rows}


def notice(line: str) -> None:
    """Says how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="bert-base")
    parser.add_argument("--engine", choices=("spu", "ring"), help="this one alone")
    parser.add_argument("--repeat", type=int, default=5, help="turns that count")
    parser.add_argument("--network", default="0.4,1", help="round trip in ms, and Gbit/s")
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "layer.json")
    given = parser.parse_args()
    folder, load = Path(tempfile.mkdtemp()), os.getloadavg()[0]
    try:
        systems = deployed(folder, SHAPES[given.shape], given.network, given.engine)
        runs = [measured(systems, network, given.repeat) for network in (None, given.network)]
    finally:
        shutil.rmtree(folder)
    values = {"format": 1, "shape": given.shape, "length": 128, "repeat": given.repeat, "load_average": round(load, 2)}
    values |= {"threads": threads()}
    write_whole(given.out, json.dumps({**values, "runs": runs, **provenance()}, indent=1) + "\n")
    for run in runs:
        for row in run["rows"]:
            words = (
                f"{name} {row[name]:.3f}"
                for name in ("seconds", "seconds_at_client", "told_seconds", "error")
                if name in row
            )
            print(run["network"] or "open", row["recipe"], row["engine"], *words)


if __name__ == "__main__":
    main()
