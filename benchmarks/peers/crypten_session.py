"""CrypTen as a session of ours: two processes of its own, which run the same graph on the same inputs."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Session
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph

PARTY = Path(__file__).with_name("crypten_party.py")
PARTIES = ("client", "owner")


class CryptenSession(Session):
    """Weights shared between CrypTen's parties. Before each request but the first its tuples are made.

    python: of CrypTen's environment. Raises MPC-503 if a party fails.
    """

    def __init__(self, graph: Graph, weights: Arrays, python: Path) -> None:
        self.graph, self.requests = graph, 0
        with ExitStack() as opened:
            self.folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            (self.folder / "graph.json").write_text(json.dumps(graph.to_json()), encoding="utf-8")
            np.savez(self.folder / "owner.npz", **in_single(weights))
            self.parties = [
                opened.enter_context(started([str(python), str(PARTY), str(rank), str(self.folder)]))
                for rank in range(len(PARTIES))
            ]
            self.versions: dict[str, str] = self.read()[0]["versions"]
            self.opened = opened.pop_all()

    @property
    def setup(self) -> Cost:
        return Cost()

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        np.savez(self.folder / "client.npz", **in_single(inputs))
        ahead = self.asked("ahead") if self.requests else [{"seconds": 0.0}] * len(PARTIES)
        spent = self.asked("request")
        self.requests += 1
        if any(one["tuples_left"] for one in spent):
            raise failed("a request left tuples that were made for it")
        (name,) = self.graph.outputs
        return {name: np.load(self.folder / "output.npy")}, cost_of(ahead, spent)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """The whole request stands under its output: CrypTen is not timed by operation."""
        outputs, cost = self.run(inputs)
        return outputs, {f"output/{name}": cost for name in outputs}

    def asked(self, word: str) -> list[dict[str, Any]]:
        """What the parties answer, who do this at once."""
        for party in self.parties:
            assert party.stdin is not None
            try:
                party.stdin.write(f"{word}\n")
                party.stdin.flush()
            except OSError:
                raise failed("a party has ended") from None
        return self.read()

    def read(self) -> list[dict[str, Any]]:
        """A line of each party."""
        lines = [party.stdout.readline() for party in self.parties if party.stdout is not None]
        if not all(lines):
            raise failed("a party has ended")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        for party in self.parties:
            assert party.stdin is not None
            party.stdin.close()
        self.opened.close()


def started(words: Sequence[str]) -> subprocess.Popen[str]:
    """A party, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def in_single(arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays as CrypTen encodes them: of float32."""
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def cost_of(ahead: Sequence[dict[str, Any]], spent: Sequence[dict[str, Any]]) -> Cost:
    """A request's cost from the parties' answers: they began at once, and tuples were made ahead.

    CrypTen counts at each party what it sends and what it receives; making tuples sends nothing.
    """
    offline = Cost(max(one["seconds"] for one in ahead), bytes_per_party=dict.fromkeys(PARTIES, 0))
    sent = {name: one["bytes"] // 2 for name, one in zip(PARTIES, spent, strict=True)}
    seconds, rounds = (max(one[what] for one in spent) for what in ("seconds", "rounds"))
    online = Cost(seconds, sum(sent.values()), rounds, sent)
    return Cost(offline.seconds + online.seconds, online.bytes, online.rounds, online.bytes_per_party, offline=offline)


def failed(what: str) -> MpcifyError:
    """The error of a session whose parties failed: they wrote on standard error."""
    return MpcifyError(503, "CrypTen", what, "read what it wrote above")
