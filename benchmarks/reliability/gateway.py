"""What the gateway adds to a request: a model that answers at once, asked over one connection and without a gateway.

    python -m benchmarks.reliability.gateway [--requests 200] [--out benchmarks/results/reliability/gateway.json]

The gateway runs in a process of its own, as in use; the client sends one text a request and reads the whole answer.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.verbs import RESULTS
from mpcify.engines.cost import Cost
from mpcify.files import write_whole
from mpcify.graph.about import About, TextFacts, task_named
from mpcify.measure.provenance import provenance
from mpcify.requests.text import TextRequests

TOKEN = "of-a-gateway-that-lives-for-one-measurement"
TEXT = "a film that is far better than its title " * 6
PARTIES = ("client", "owner", "helper")


class Instant:
    """What the gateway uses of a private model, without anything that takes time but its tokenizer."""

    truncate, length = False, None

    def __init__(self) -> None:
        words = ("[UNK]", *sorted({*TEXT.split()}))
        tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        facts = TextFacts(len(words), 512, False, "right", 512, 0, None)
        task = task_named("classification", ("negative", "positive"))
        self.about = About("", "instant", "bert", task, "exact", "client", facts)
        self.requests = TextRequests(tokenizer, facts)
        self.engine = SimpleNamespace(parties=PARTIES)

    def __call__(self, items: list[Any]) -> tuple[np.ndarray, Cost]:
        return np.zeros((len(items), 2), np.float32), Cost(0.0, 3, 1, dict.fromkeys(PARTIES, 1))


def run_gateway() -> None:
    """Serves until it is told to end; writes its port to stdout first."""
    from mpcify.cluster.gateway.application import application
    from mpcify.cluster.gateway.serving import listen, serve

    with listen("127.0.0.1", 0) as listening:
        print(listening.getsockname()[1], flush=True)
        app = application(Instant(), TOKEN)  # type: ignore[arg-type]
        serve(app, listening, app.state.turns.close)


def direct() -> Callable[[], object]:
    """The same request without a gateway."""
    model = Instant()

    def ask() -> object:
        model.requests.groups([TEXT], model.truncate, model.length)
        return model.about.task.answers(model([TEXT])[0])

    return ask


def over(line: http.client.HTTPConnection) -> Callable[[], object]:
    """A request over a connection that stays open."""
    body = json.dumps({"inputs": [TEXT]}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def ask() -> object:
        line.request("POST", "/v1/classify", body, headers)
        answer = line.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}")
        return json.loads(content)

    return ask


def milliseconds(ask: Callable[[], object], count: int) -> dict[str, float]:
    """Median, 95th percentile and most of requests one after another, after a few that do not count."""
    spent = []
    for _ in range(count + 10):
        start = time.perf_counter()
        ask()
        spent.append(1000 * (time.perf_counter() - start))
    counted = sorted(spent[10:])
    values = {"median": statistics.median(counted), "p95": counted[int(0.95 * count)], "most": counted[-1]}
    return {name: round(value, 3) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "gateway.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_gateway()
        return
    words = [sys.executable, "-m", "benchmarks.reliability.gateway", "--serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        line = http.client.HTTPConnection("127.0.0.1", int(served.stdout.readline()), timeout=10)
        through = milliseconds(over(line), given.requests)
        line.close()
        served.terminate()
    without = milliseconds(direct(), given.requests)
    added = round(through["median"] - without["median"], 3)
    values = {"format": 1, "requests": given.requests, "gateway_ms": through, "direct_ms": without, "added_ms": added}
    write_whole(given.out, json.dumps({**values, **provenance()}, indent=1) + "\n")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
