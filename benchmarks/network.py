"""One BERT-base layer between three processes in network namespaces, at 1 and 5 Gbit/s, measured and estimated.

    python -m benchmarks.network [--recipes puma,2quad-freediv] [--length 128] [--repeat 3] --out FILE.json

As root. The parties join over plain TCP (`tcp`): this measures lines and protects nothing. The estimate is the time
over lines as fast as the machine, plus half a round trip a round and each party's bytes over its line (`Network`). No
delay is added: that part of a wide network comes from the model alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PARTIES = ("client", "owner", "helper")
RATES = (None, 5.0, 1.0)
PORT = 9461


def party(role: str, work: Path, repeat: int) -> None:
    """One party: joins the program, holds its weights, answers requests; the client writes what each took."""
    from benchmarks.tcp import TcpLinks
    from mpcify.engines import engine_named
    from mpcify.graph.graph import Graph

    mine = {name: dict(np.load(work / f"{name}.npz")) if name == role else None for name in ("client", "owner")}
    addresses = {name: (f"10.87.0.{index + 1}", PORT) for index, name in enumerate(PARTIES)}
    program = engine_named("spu", force=True).compile(Graph.read(work / "graph.json"))
    joined = program.join(role, TcpLinks(role, addresses, work.name))
    joined.hold(mine["owner"])
    turns = [joined.answer(mine["client"])[1].seconds for _ in range(repeat + 1)]
    if role == "client":
        (work / "turns.json").write_text(json.dumps(turns[1:]), encoding="utf-8")


def prepare(recipe: str, length: int, work: Path) -> dict[str, Any]:
    """Writes a layer's graph, the owner's weights and the client's request; its bytes and rounds, in one process."""
    from mpcify.bench.benchmark import model_of, prepare
    from mpcify.engines import engine_named

    entry = prepare(model_of("bert-base", 1, length), recipe, "plain", length, 1, "client", {})
    graph, session, inputs = entry.sections["layers"]
    weights = {name: array.astype(np.float32) for name, array in session.weights.items()}  # type: ignore[attr-defined]
    (work / "graph.json").write_text(json.dumps(graph.to_json()), encoding="utf-8")
    np.savez(work / "owner.npz", **weights)
    np.savez(work / "client.npz", **{name: np.asarray(value, np.float32) for name, value in inputs.items()})
    with engine_named("spu", force=True).compile(graph).load(weights) as counted:
        _, cost = counted.run(inputs)
    return {"bytes": cost.bytes, "rounds": cost.rounds, "bytes_per_party": dict(cost.bytes_per_party)}


def request(gigabits: float | None, work: Path, repeat: int) -> tuple[float, float]:
    """Median seconds of a request over lines of this rate, and their round trip."""
    from mpcify.network.namespaces import Namespaces

    with Namespaces(PARTIES, gigabits) as spaces:
        round_trip = spaces.round_trip()
        words = [sys.executable, "-m", "benchmarks.network", "--work", str(work), "--repeat", str(repeat)]
        said = [work / f"{role}.log" for role in PARTIES]
        runs = []
        for index, path in enumerate(said):
            inside = spaces.inside(index, *words, "--role", PARTIES[index])
            with path.open("wb") as log:
                runs.append(subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=log))
        codes = [run.wait() for run in runs]
        if any(codes):
            failed = codes.index(next(code for code in codes if code))
            raise SystemExit(f"{PARTIES[failed]} failed: {said[failed].read_text(errors='replace')[-500:]}")
    return statistics.median(json.loads((work / "turns.json").read_text(encoding="utf-8"))), round_trip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="puma,2quad-freediv")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--role", choices=PARTIES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role is not None:
        party(given.role, given.work, given.repeat)
        return
    from benchmarks.verbs import keep
    from mpcify.errors import MpcifyError
    from mpcify.measure.network import Network
    from mpcify.measure.provenance import provenance

    rows = []
    for recipe in given.recipes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            counted = prepare(recipe, given.length, Path(folder))
            free = None
            for gigabits in RATES:
                try:
                    seconds, round_trip = request(gigabits, Path(folder), given.repeat)
                except MpcifyError as error:
                    raise SystemExit(str(error)) from None
                free = seconds if free is None else free
                share = 0.0
                if gigabits is not None:
                    share = Network.named(f"0,{gigabits}").seconds(counted["bytes_per_party"], counted["rounds"])
                rows.append(
                    {
                        "recipe": recipe,
                        "length": given.length,
                        "gigabits": gigabits,
                        "round_trip": round_trip,
                        "seconds": seconds,
                        "told": free + share,
                        **counted,
                    }
                )
                print(rows[-1], file=sys.stderr, flush=True)
    keep({"lines": rows, **provenance(seed=0)}, given.out)


if __name__ == "__main__":
    main()
