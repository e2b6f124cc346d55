"""CrypTen beside our engines: the same layer, weights and input, in turns in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.peers [NAME] [--repeat N] [--out FILE.json]

NAME: layer-128 (the default: one layer of BERT-base, five minutes on two cores that do nothing else), or minilm-16,
which shows that all of it runs. CrypTen gets an environment of its own in build/peers, from the package index, the
first time (three minutes more). What its numbers can be compared with stands in docs/peers.md.

SPU and the ring engine are simulated, all roles in this process, over links in memory. CrypTen's two parties are
processes of their own with one thread each, over loopback. What is made ahead of a request is timed apart.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.peers.crypten_session import CryptenSession
from benchmarks.peers.environment import crypten_python
from benchmarks.readme import peers
from benchmarks.ring import NETWORKS, SECTION, over
from benchmarks.verbs import RESULTS
from mpcify.bench.benchmark import model_of, prepare
from mpcify.engines.cost import Cost, median
from mpcify.engines.engine import Arrays, Session
from mpcify.files import write_whole
from mpcify.measure.network import Network
from mpcify.measure.provenance import provenance

CRYPTEN = "crypten"
RIVALS = (
    ("exact", CRYPTEN),
    ("exact-tanh", CRYPTEN),
    ("exact-tanh", "spu"),
    ("2quad-freediv", CRYPTEN),
    ("2quad-freediv", "spu"),
    ("2quad-freediv", "ring"),
)


@dataclass(frozen=True)
class Asked:
    """What is compared: the first layer of a shape. repeat: turns that count; one before them warms up."""

    shape: str
    length: int
    repeat: int


RUNS = {"layer-128": Asked("bert-base", 128, 5), "minilm-16": Asked("minilm", 16, 2)}


class Rival:
    """A recipe on an engine, and what its requests cost and answered. expected: what the same graph gives in floats."""

    def __init__(self, about: dict[str, Any], session: Session, inputs: Arrays, expected: Arrays, rules: Any) -> None:
        self.about, self.session, self.inputs, self.expected, self.rules = about, session, inputs, expected, rules
        self.costs, self.errors = list[Cost](), list[float]()

    def run(self) -> None:
        """One request."""
        outputs, cost = self.session.run(self.inputs)
        self.costs.append(cost)
        self.errors.append(max(float(np.abs(outputs[name] - value).max()) for name, value in self.expected.items()))

    def row(self) -> dict[str, Any]:
        """Medians of the requests but for the first. error_most: of all of them."""
        costs = self.costs[1:]
        cost = median(costs)
        return {
            **self.about,
            "cost": cost.to_json(),
            "over": {name: self.over(name, cost.online) for name in NETWORKS},
            "seconds": [one.seconds for one in costs],
            "seconds_online": [one.online.seconds for one in costs],
            "error": statistics.median(self.errors[1:]),
            "error_most": max(self.errors),
        }

    def over(self, network: str, online: Cost) -> float:
        """Seconds online over a network."""
        if self.rules is not None:
            return over(network, online.seconds, self.rules, self.session.graph)
        return online.seconds + Network.named(network).seconds(online.bytes_per_party, online.rounds)


def rival(recipe: str, engine: str, teacher: PreTrainedModel, length: int, opened: ExitStack) -> Rival:
    """A recipe on an engine, its weights in place; `opened` closes it."""
    plain = prepare(teacher, recipe, "plain", length, 1, "client", {})
    graph, floats, inputs = plain.sections[SECTION]
    expected = floats.run(inputs)[0]
    about = {"recipe": recipe, "engine": engine}
    if engine == CRYPTEN:
        weights = {item.name: floats.weights[item.name] for item in graph.held_by("owner")}  # type: ignore[attr-defined]
        session = opened.enter_context(CryptenSession(graph, weights, crypten_python()))
        about |= {"protocol": "trusted first party", "ring": 64, "versions": session.versions}
        return Rival(about, session, inputs, expected, None)
    entry = prepare(teacher, recipe, engine, length, 1, "client", {})
    for _, one, _ in entry.sections.values():
        opened.callback(one.close)
    about |= {"protocol": entry.engine.protocol, "ring": entry.engine.ring, "versions": versions_of(engine)}
    return Rival(about, entry.sections[SECTION][1], inputs, expected, entry.engine.rules)


def versions_of(engine: str) -> dict[str, str]:
    """Of what an engine of ours runs on."""
    names = {"spu": ("spu",), "ring": ("numpy",)}[engine]
    return {name: version(name) for name in ("mpcify", *names)}


def measure(asked: Asked, rivals: Sequence[tuple[str, str]], notice: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each recipe and engine."""
    torch.set_num_threads(1)
    teacher = model_of(asked.shape, 1, asked.length)
    with ExitStack() as opened:
        running = []
        for recipe, engine in rivals:
            running.append(rival(recipe, engine, teacher, asked.length, opened))
            notice(f"{recipe} on {engine}: weights are in place")
        for turn in range(asked.repeat + 1):
            for one in running:
                one.run()
            notice(f"turn {turn} of {asked.repeat}")
        return [one.row() for one in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="layer-128", choices=RUNS)
    parser.add_argument("--repeat", type=int, help="turns that count")
    parser.add_argument("--out", type=Path, default=RESULTS / "performance-peers.json")
    given = parser.parse_args()
    asked = RUNS[given.name] if given.repeat is None else replace(RUNS[given.name], repeat=given.repeat)
    start, load = time.monotonic(), os.getloadavg()[0]

    def notice(line: str) -> None:
        print(f"{line}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    rows = measure(asked, RIVALS, notice)
    values = {"format": 1, **asdict(asked), "load_average": load, "rows": rows, **provenance(seed=0)}
    write_whole(given.out, json.dumps(values, indent=1) + "\n")
    print(peers(values))


if __name__ == "__main__":
    main()
