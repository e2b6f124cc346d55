"""The ring engine beside SPU, in turns in one run: exact recipes, students under both, and the plaintext model.

    OMP_NUM_THREADS=1 python -m benchmarks.ring [NAME ...] [--repeat N] [--out FOLDER] [--pictures FOLDER]

NAME: layer-128 (the default: five minutes on two cores that do nothing else), layer-512, layer-128-batch-8,
bert-base-128, layer-128-two-threads, where one thread has a product or two share it (under SPU one thread has each
party's), or minilm-16, which shows that all of it runs. A run whose result is there is not run again. Encoder layers
alone. Under the ring engine a request's randomness is dealt first and none in its time, so that its seconds
online are those of client and owner alone, and those offline of all three. What one party takes is its processor time.
Over a network: what is measured online, and what `estimate` adds for lines (0.4 ms and so many Gbit/s; wan: 40 ms and
400 Mbit/s). `kernels` torch: the native library is hidden.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.readme import beside
from benchmarks.verbs import RESULTS
from mpcify.bench.benchmark import EXACT, model_of, prepare
from mpcify.conversion.convert import convert
from mpcify.engines.cost import Cost, combined, median
from mpcify.engines.engine import Arrays, Session
from mpcify.engines.ring.engine import RingSession
from mpcify.engines.ring.kernels import formulas, onepass, products, threads
from mpcify.engines.rules import Rules, Work
from mpcify.files import write_whole
from mpcify.graph.graph import Graph
from mpcify.measure.network import Network
from mpcify.measure.picture import draw
from mpcify.measure.profile import PARTS, operation_costs, total
from mpcify.measure.provenance import provenance

SECTION = "layers"
TWO_THREADS = "native, two threads"
NETWORKS = ("0.4,1", "0.4,5", "0.4,10", "wan")


@dataclass(frozen=True)
class Asked:
    """What is compared. layers: the first of the shape's; None: all. kernels: of the ring engine."""

    shape: str
    layers: int | None
    length: int
    batch: int = 1
    repeat: int = 5
    exact: tuple[str, ...] = ("exact-tanh", "puma")
    students: tuple[str, ...] = ("2quad-freediv", "softmax-freediv")
    kernels: tuple[str, ...] = ("native", "torch")


RUNS: Mapping[str, Asked] = {
    "layer-128": Asked("bert-base", 1, 128),
    "layer-512": Asked("bert-base", 1, 512, repeat=2),
    "layer-128-batch-8": Asked("bert-base", 1, 128, batch=8, repeat=2),
    "bert-base-128": Asked(
        "bert-base", None, 128, repeat=2, exact=("puma",), students=("2quad-freediv",), kernels=("native",)
    ),
    "layer-128-two-threads": Asked("bert-base", 1, 128, students=("2quad-freediv",), kernels=("native", TWO_THREADS)),
    "minilm-16": Asked("minilm", 1, 16, repeat=1),
}


@dataclass(frozen=True)
class Turn:
    """What one request took. processor: of this process, each role's while it answered, and all that was ahead; none if
    roles share threads.
    """

    cost: Cost
    processor: Mapping[str, float]


class Rival:
    """A recipe on an engine, its weights in place."""

    def __init__(self, recipe: str, engine: str, kernels: str | None, teacher: PreTrainedModel, asked: Asked) -> None:
        self.recipe = recipe
        self.about: dict[str, Any] = {"recipe": recipe, "engine": engine, "kernels": kernels}
        with self.kernels():
            entry = prepare(teacher, recipe, engine, asked.length, asked.batch, "client", {})
        self.sections, self.turns = entry.sections, list[Turn]()
        assert entry.engine.rules is not None
        self.rules, self.graph = entry.engine.rules, entry.sections[SECTION][1].graph
        self.about |= {"protocol": entry.engine.protocol, "ring": entry.engine.ring}

    def kernels(self) -> Any:
        """What must hold while it runs."""
        if self.about["kernels"] == "torch":
            return torch_alone()
        if self.about["kernels"] == TWO_THREADS:
            return patch.object(threads, "threads", lambda: 2)
        return nullcontext()

    def run(self) -> dict[str, np.ndarray]:
        """One request."""
        _, session, inputs = self.sections[SECTION]
        with self.kernels():
            outputs, turn = in_roles(session, inputs) if isinstance(session, RingSession) else plainly(session, inputs)
        self.turns.append(turn)
        return outputs

    def row(self, plain: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Medians of the turns but for the first. plain: what floats give."""
        turns = self.turns[1:]
        spent = {name: statistics.median(turn.processor[name] for turn in turns) for name in turns[0].processor}
        cost = median([turn.cost for turn in turns])
        return {
            **self.about,
            "cost": cost.to_json(),
            "kinds": self.by_part(cost.seconds),
            "over": {name: over(name, cost.online.seconds, self.rules, self.graph) for name in NETWORKS},
            "seconds": [turn.cost.seconds for turn in turns],
            "seconds_online": [turn.cost.online.seconds for turn in turns],
            "processor": spent,
            "error": max(float(np.abs(outputs[name] - value).max()) for name, value in plain.items()),
        }

    def by_part(self, seconds: float) -> dict[str, dict[str, float]]:
        """What each part of the layers took, operation by operation, and in `seconds` together.

        One operation after another, what a role computes is also counted where the other waits for it.
        """
        _, session, inputs = self.sections[SECTION]
        names = {operation.name for operation in session.graph.operations}
        with self.kernels():
            rows = operation_costs(session.graph, session.profile(inputs)[1])
        found = {part: total(row for row in rows if row.part == part and row.name in names) for part in PARTS}
        share = seconds / sum(values["seconds"] for values in found.values())
        return {part: {**values, "seconds": values["seconds"] * share} for part, values in found.items()}


def over(network: str, seconds: float, rules: Rules, graph: Graph) -> float:
    """Seconds online over a network, of a graph that took `seconds` of them without one."""
    *_, online = sum(rules.work(graph).values(), Work()).turns
    return seconds + Network.named(network).seconds({"line": rules.line(online)}, rules.waits(online))


def plainly(session: Session, inputs: Arrays) -> tuple[dict[str, np.ndarray], Turn]:
    """A request of an engine that deals nothing ahead."""
    outputs, cost = session.run(inputs)
    return outputs, Turn(cost, {})


def in_roles(session: RingSession, inputs: Arrays) -> tuple[dict[str, np.ndarray], Turn]:
    """A request under the ring engine, with each role's processor time."""

    def answer(role: str) -> tuple[Any, Cost, float]:
        start = time.thread_time()
        outputs, cost = session.parties[role].answer(inputs if role == "client" else None)
        return outputs, cost, time.thread_time() - start

    start = time.process_time()
    session.together(lambda role: session.parties[role].prepare_next())
    ahead = time.process_time() - start
    found = session.together(answer)
    spent = {role: seconds for role, (_, _, seconds) in found.items()}
    cost = combined({role: cost for role, (_, cost, _) in found.items()})
    return found["client"][0], Turn(cost, {**spent, "ahead": ahead} if threads.threads() == 1 else {})


@contextmanager
def torch_alone() -> Iterator[None]:
    """Hides the native library: products are torch's or numpy's, as is faster, and formulas numpy's."""
    only = [found for found in products._fastest_first() if not isinstance(found[0], products.Native)]
    with (
        patch.object(products, "_fastest_first", lambda: only),
        patch.object(onepass, "library", lambda: None),
        patch.object(formulas, "library", lambda: None),
    ):
        yield


class Plaintext:
    """The encoder of a model in float32, one thread."""

    def __init__(self, recipe: str, model: PreTrainedModel, asked: Asked) -> None:
        self.recipe, self.model, self.seconds = recipe, model, list[float]()
        generator = torch.Generator().manual_seed(0)
        size = asked.batch, asked.length, model.config.hidden_size
        self.given = {
            "inputs_embeds": torch.randn(size, generator=generator),
            "attention_mask": torch.ones(size[:2], dtype=torch.long),
        }

    def run(self) -> None:
        """One request."""
        encoder, start = self.model.base_model.encoder, 0.0

        def begin(*_: Any) -> None:
            nonlocal start
            start = time.perf_counter()

        def end(*_: Any) -> None:
            self.seconds.append(time.perf_counter() - start)

        hooks = encoder.register_forward_pre_hook(begin), encoder.register_forward_hook(end)
        with torch.inference_mode():
            self.model(**self.given)
        for hook in hooks:
            hook.remove()


def rivals_of(asked: Asked) -> list[tuple[str, str, str | None]]:
    """Recipe, engine and kernels of what runs in turns."""
    under_spu = [(recipe, "spu", None) for recipe in (*asked.exact, *asked.students)]
    return [*under_spu, *((recipe, "ring", kernels) for kernels in asked.kernels for recipe in asked.students)]


def measure(asked: Asked, notice: Callable[[str], None]) -> dict[str, Any]:
    """The rows of what is asked."""
    torch.set_num_threads(1)
    teacher = model_of(asked.shape, asked.layers, asked.length)
    rivals: list[Rival] = []
    try:
        for recipe, engine, kernels in rivals_of(asked):
            rivals.append(Rival(recipe, engine, kernels, teacher, asked))
            notice(f"{recipe} under {engine}: weights are in place")
        plaintexts = [Plaintext("the teacher", teacher, asked)]
        plaintexts += [Plaintext(recipe, convert(teacher, recipe), asked) for recipe in asked.students]
        outputs: list[dict[str, np.ndarray]] = []
        for turn in range(asked.repeat + 1):
            outputs = [rival.run() for rival in rivals]
            for plaintext in plaintexts:
                plaintext.run()
            notice(f"turn {turn} of {asked.repeat}")
        floats = {recipe: in_floats(recipe, teacher, asked) for recipe in (*asked.exact, *asked.students)}
        rows = [rival.row(floats[rival.recipe], given) for rival, given in zip(rivals, outputs, strict=True)]
    finally:
        for rival in rivals:
            for _, session, _ in rival.sections.values():
                session.close()
    plain = {plaintext.recipe: statistics.median(plaintext.seconds[1:]) for plaintext in plaintexts}
    return {"rows": compared(rows, plain), "plaintext": plain}


def in_floats(recipe: str, teacher: PreTrainedModel, asked: Asked) -> dict[str, np.ndarray]:
    """What the layers give in floats."""
    _, session, inputs = prepare(teacher, recipe, "plain", asked.length, asked.batch, "client", {}).sections[SECTION]
    return session.run(inputs)[0]


def compared(rows: Sequence[dict[str, Any]], plain: Mapping[str, float]) -> list[dict[str, Any]]:
    """The rows, each with how many times less it takes than the faster exact recipe under SPU.

    online: of what is not ahead. over: of this, over networks, than the fastest exact recipe over each. plaintext: how
    many times more of a processor the owner takes for it than the plaintext model for everything.
    """
    exact = [row for row in rows if row["recipe"] in EXACT]
    base = min(exact, key=lambda row: float(row["cost"]["seconds"]))
    least = {name: min(row["over"][name] for row in exact) for name in base["over"]}
    found = []
    for row in rows:
        cost, ratios = row["cost"], {"to": base["recipe"]}
        ratios |= {name: base["cost"][name] / cost[name] for name in ("seconds", "bytes", "rounds")}
        ratios["over"] = {name: seconds / row["over"][name] for name, seconds in least.items()}
        if row["engine"] == "ring":
            ratios["online"] = base["cost"]["seconds"] / cost["online"]["seconds"]
        if row["processor"]:
            ratios["plaintext"] = row["processor"]["owner"] / plain[row["recipe"]]
        found.append({**row, "ratios": ratios})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["layer-128"], metavar="NAME")
    parser.add_argument("--repeat", type=int, help="turns that count")
    parser.add_argument("--out", type=Path, default=RESULTS / "performance")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in RUNS]
    if unknown:
        parser.error(f"no run {', '.join(unknown)}: there are {', '.join(RUNS)}")
    for folder in (given.out, given.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        path = given.out / f"ring-{name}.json"
        if not path.is_file():
            asked = RUNS[name] if given.repeat is None else replace(RUNS[name], repeat=given.repeat)
            keep(name, asked, path, given.pictures / f"ring-{name}.png")


def keep(name: str, asked: Asked, path: Path, picture: Path) -> None:
    """Measures, and writes the result and its picture."""
    start, load = time.monotonic(), os.getloadavg()[0]

    def notice(line: str) -> None:
        print(f"{name}: {line}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    with patch.object(threads, "threads", lambda: 1):
        result = measure(asked, notice)
    values = {"format": 1, **asdict(asked), "load_average": load, **result, **provenance(seed=0)}
    write_whole(path, json.dumps(values, indent=1) + "\n")
    bars = {
        " ".join(filter(None, map(row.get, ("recipe", "engine", "kernels")))): row["kinds"] for row in result["rows"]
    }
    draw(bars, f"{asked.shape}, encoder layers, {asked.length} tokens, batch {asked.batch}", picture)
    print(beside(path.stem, values), flush=True)


if __name__ == "__main__":
    main()
