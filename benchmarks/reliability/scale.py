"""Clusters beside each other on this machine: requests a second, processor and memory, against what `estimate` says.

    python -m benchmarks.reliability.scale [--clusters 1,2,4] [--seconds 30] [--layers 2] [--length 64]

Each cluster is three parties in processes of their own over mutual TLS, asked one request after the other. Processor
and memory are read from /proc, so they hold on a machine that does other work too; requests a second do not, and the
load of the machine stands beside them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.verbs import RESULTS
from mpcify.bench.shapes import SHAPES
from mpcify.cluster.local import LocalParties, deploy_here
from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu.config import SpuConfig
from mpcify.files import write_whole
from mpcify.graph.exported import read_all, write
from mpcify.inference import PrivateModel
from mpcify.measure.estimate import estimate
from mpcify.measure.provenance import provenance

SHAPE, RECIPE = "minilm", "2quad-freediv"
TEXT = "a gripping film"
TICKS = os.sysconf("SC_CLK_TCK")
ROLES = ("client", "owner", "helper")


def export(folder: Path, layers: int, length: int) -> Path:
    """What the parties of a made-up student get; only here torch is needed."""
    from transformers import BertConfig, BertForSequenceClassification

    from mpcify.data.files import read_examples
    from mpcify.demo.grammar import data_set, write_tsv
    from mpcify.demo.run import make_undistilled
    from mpcify.demo.teacher import make_tokenizer
    from mpcify.lowering.export import TracedStudent

    tokenizer = make_tokenizer()
    shape = {**SHAPES[SHAPE], "num_hidden_layers": layers, "max_position_embeddings": 512}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    write_tsv(folder / "data.tsv", data_set((100,), 0)[0])
    student = make_undistilled(folder / "teacher", RECIPE, read_examples(folder / "data.tsv"), 0)
    (parties := folder / "parties").mkdir()
    write(TracedStudent(student, folder / "teacher"), [length], parties)
    return parties


def ask(folder: Path, seconds: float) -> None:
    """A client's process: says that it is ready, waits for a line, and asks until the time is over."""
    import mpcify

    with mpcify.connect(folder) as private:
        private([TEXT])
        print("ready", flush=True)
        sys.stdin.readline()
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            private([TEXT])
            count += 1
        print(count, flush=True)
        sys.stdin.readline()  # until its processes have been looked at


def tree(process: int) -> list[int]:
    """A process and those that it started."""
    found = [process]
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        found += [each for child in tasks.read_text().split() for each in tree(int(child))]
    return found


def cpu(process: int) -> float:
    """Processor seconds of a process and those that it started."""
    fields = [Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split() for each in tree(process)]
    return sum(int(values[11]) + int(values[12]) for values in fields) / TICKS


def memory(process: int) -> float:
    """GiB that a process and those that it started have had at the most."""
    lines = [line for each in tree(process) for line in Path(f"/proc/{each}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def against(told: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A row with what was measured, as a multiple of the estimate: processor of the mean party, memory of each."""
    spent, held = row["cpu_seconds"].values(), row["memory_gib"].items()
    cpu_seconds = sum(spent) / len(spent) / told["cpu_seconds"]
    return {
        **row,
        "requests_per_cpu_second": {"measured": 1 / sum(spent), "estimate": 1 / (len(spent) * told["cpu_seconds"])},
        "times_the_estimate": {
            "cpu_seconds": cpu_seconds,
            "memory_gib": {role: size / told["memory_gib"][role] for role, size in held},
        },
    }


def run(folder: Path, parties: Path, count: int, seconds: float) -> dict[str, Any]:
    """So many clusters, asked at once."""
    with ExitStack() as stack:
        processes: dict[str, list[int]] = {role: [] for role in ROLES}
        clients = []
        for number in range(count):
            deployment = deploy_here(parties, folder / f"{count}-{number}", SpuConfig())
            local = stack.enter_context(LocalParties(deployment))
            words = [sys.executable, "-m", "benchmarks.reliability.scale", "--ask", str(deployment / "client")]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            client = stack.enter_context(subprocess.Popen([*words, "--seconds", str(seconds)], **pipes))
            stack.callback(client.terminate)
            clients.append(client)
            for role, process in {"client": client, **local.processes}.items():
                processes[role].append(process.pid)
        for client in clients:
            client.stdout.readline()
        load, began = os.getloadavg()[0], time.monotonic()
        before = {role: sum(map(cpu, numbers)) for role, numbers in processes.items()}
        for client in clients:
            print(file=client.stdin, flush=True)
        answered = sum(int(client.stdout.readline()) for client in clients)
        wall = time.monotonic() - began
        spent = {role: sum(map(cpu, numbers)) - before[role] for role, numbers in processes.items()}
        return {
            "clusters": count,
            "requests": answered,
            "requests_per_second": answered / wall,
            "cores_used": sum(spent.values()) / wall,
            "cpu_seconds": {role: value / answered for role, value in spent.items()},
            "memory_gib": {role: max(map(memory, numbers)) for role, numbers in processes.items()},
            "load_average": {"before": load, "after": os.getloadavg()[0]},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--calibration", type=Path, help="as of `mpcify estimate`")
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "scale.json")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        ask(given.ask, given.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="mpcify-scale-") as place:
        folder = Path(place)
        parties = export(folder, given.layers, given.length)
        with PrivateModel(read_all(parties), PlainEngine(), length=given.length) as private:
            found = estimate(private, calibration=given.calibration, accept_embedding_leak=True)
        told = found.to_json()["sizing"]
        counts = map(int, given.clusters.split(","))
        rows = [against(told, run(folder, parties, count, given.seconds)) for count in counts]
    values = {
        "format": 1,
        "shape": SHAPE,
        "layers": given.layers,
        "recipe": RECIPE,
        "length": given.length,
        "seconds": given.seconds,
        "estimate": told,
        "rows": rows,
    }
    write_whole(given.out, json.dumps({**values, **provenance()}, indent=1) + "\n")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
