"""One BERT-base layer between three processes in network namespaces, at 1 and 5 Gbit/s, measured and told.

    python -m benchmarks.network [--recipes puma,2quad-freediv] [--length 128] [--repeat 3] --out FILE.json

As root. The parties use SPU's own link without TLS: this measures lines, it protects nothing. What is told is the time
over lines as fast as the machine, plus half a round trip a round and each party's bytes over its line (`Network`). No
delay is added: that part of a wide network comes from the model alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PARTIES = ("client", "owner", "helper")
RATES = (None, 5.0, 1.0)
PORT = 9461


def party(rank: int, work: Path, repeat: int) -> None:
    """One party: compiles the graph, takes its shares, answers `repeat` requests and writes what each took."""
    from spu import libspu
    from spu.api import Io, Runtime

    from mpcify.engines.spu.config import STEP
    from mpcify.engines.spu.lowering import compile_graph
    from mpcify.graph.graph import Graph
    from mpcify.numerics import FixedPoint

    number = FixedPoint(64, 18)
    graph = Graph.read(work / "graph.json", "fitted")
    executable = compile_graph(graph, number)
    description = libspu.link.Desc()
    description.recv_timeout_ms = 600_000
    for index, name in enumerate(PARTIES):
        description.add_party(name, f"10.87.0.{index + 1}:{PORT}")
    link = libspu.link.create_brpc(description, rank)
    config = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64, fxp_fraction_bits=18)
    runtime, io = Runtime(link, config), Io(len(PARTIES), config)
    step = np.asarray(number.step, np.float32)
    runtime.set_var(STEP, io.make_shares(step, libspu.Visibility.VIS_PUBLIC)[rank])

    def send(peer: int, share: Any) -> None:
        link.send_async(peer, share.meta)
        link.send_async(peer, str(len(share.share_chunks)).encode())
        for chunk in share.share_chunks:
            link.send_async(peer, chunk)

    def receive(peer: int) -> Any:
        share = libspu.Share()
        share.meta = link.recv(peer)
        share.share_chunks = [link.recv(peer) for _ in range(int(link.recv(peer)))]
        return share

    def provide(holder: int, name: str, array: np.ndarray | None) -> None:
        if rank != holder:
            runtime.set_var(name, receive(holder))
            return
        shares = io.make_shares(array, libspu.Visibility.VIS_SECRET)
        for peer in range(len(PARTIES)):
            if peer != rank:
                send(peer, shares[peer])
        runtime.set_var(name, shares[rank])

    arrays = dict(np.load(work / "arrays.npz"))
    for item in graph.role("owner"):
        provide(1, item.name, arrays[item.name] if rank == 1 else None)
    turns = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        for item in graph.role("client"):
            provide(0, item.name, arrays[item.name] if rank == 0 else None)
        runtime.run(executable)
        for name in executable.output_names:
            mine = runtime.get_var(name)
            if rank == 0:
                io.reconstruct([mine, *(receive(peer) for peer in (1, 2))])
            else:
                send(0, mine)
        turns.append(time.perf_counter() - start)
        if rank != 0:
            link.recv(0)  # the client has its answer: the next request begins for all at once
        else:
            for peer in (1, 2):
                link.send_async(peer, b"next")
    if rank == 0:
        (work / "turns.json").write_text(json.dumps(turns[1:]), encoding="utf-8")
    link.stop_link()


def prepare(recipe: str, length: int, work: Path) -> dict[str, Any]:
    """Writes a layer's graph, weights and a request; its bytes and rounds, counted in one process."""
    from mpcify.bench.benchmark import model_of, prepare
    from mpcify.engines import engine_named
    from mpcify.engines.spu.engine import shareable
    from mpcify.engines.spu.fit import fit
    from mpcify.numerics import FixedPoint

    entry = prepare(model_of("bert-base", 1, length), recipe, "plain", length, 1, "client", {})
    graph, session, inputs = entry.sections["layers"]
    weights = {name: array.astype(np.float32) for name, array in session.weights.items()}  # type: ignore[attr-defined]
    runs = fit(graph, FixedPoint(64, 18))
    (work / "graph.json").write_text(json.dumps(runs.to_json()), encoding="utf-8")
    arrays = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
    for item in runs.role("owner"):
        arrays |= shareable(item, weights, FixedPoint(64, 18))
    np.savez(work / "arrays.npz", **arrays)
    with engine_named("spu", force=True).compile(graph).load(weights) as counted:
        _, cost = counted.run(inputs)
    return {"bytes": cost.bytes, "rounds": cost.rounds, "bytes_per_party": dict(cost.bytes_per_party)}


def request(gigabits: float | None, work: Path, repeat: int) -> tuple[float, float]:
    """Median seconds of a request over lines of this rate, and their round trip."""
    from mpcify.network.namespaces import Namespaces

    with Namespaces(PARTIES, gigabits) as spaces:
        round_trip = spaces.round_trip()
        words = [sys.executable, "-m", "benchmarks.network", "--work", str(work), "--repeat", str(repeat)]
        environment = ("env", "OMP_THREAD_LIMIT=1", "JAX_PLATFORMS=cpu")
        said = [work / f"party-{rank}.log" for rank in range(len(PARTIES))]
        runs = []
        for rank, path in enumerate(said):
            inside = spaces.inside(rank, *environment, *words, "--rank", str(rank))
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
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        party(given.rank, given.work, given.repeat)
        return
    from mpcify.errors import MpcifyError
    from mpcify.files import write_whole
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
    text = json.dumps({"format": 1, "lines": rows, **provenance(seed=0)}, indent=1) + "\n"
    if given.out:
        write_whole(given.out, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
