"""What each party's machine needs for a converted BERT-base, by padded length, as `estimate` says of a checkpoint.

    python -m benchmarks.reliability.sizing [--lengths 32,64,128,256,512] [--calibration FILE]

Nothing is shared but for the calibration, in which SPU runs for some seconds.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.verbs import RESULTS
from mpcify.bench.benchmark import model_of, sample_inputs
from mpcify.conversion.convert import convert
from mpcify.engines.plain import measure_ranges
from mpcify.engines.spu.config import SpuConfig
from mpcify.files import write_whole
from mpcify.graph.ranges import declare
from mpcify.lowering.passes import lower
from mpcify.lowering.streams import scale_streams
from mpcify.lowering.trace import trace_graph
from mpcify.measure.provenance import provenance
from mpcify.measure.sizing import sizing
from mpcify.measure.speed import Machine, Speed, calibrated

SHAPE, RECIPE = "bert-base", "2quad-freediv"


def row(student: Any, length: int, speed: Speed) -> dict[str, Any]:
    """The sizing for a length; ranges are made up, as the weights are."""
    graph, weights = lower(*trace_graph(student, 1, length, "client"))
    graph = graph.with_ranges(declare(graph, measure_ranges(graph, weights, [sample_inputs(graph)])))
    graph, _ = scale_streams(graph, weights)
    rules = SpuConfig().rules()
    graph = rules.fit(graph)
    return {"length": length, **sizing(graph, rules.work(graph), Machine(speed, rules)).to_json()}


def table(values: dict[str, Any]) -> str:
    """The table of docs/how-to/scale.md."""
    lines = [
        "| length | seconds of one core | requests/s a core | Gbit | GiB: helper, client | GiB: owner |",
        "|---|---|---|---|---|---|",
    ]
    for row in values["rows"]:
        seconds, pace, memory = row["cpu_seconds"], row["requests_per_second_per_core"], row["memory_gib"]
        cells = (row["length"], f"{seconds:.1f}", f"{pace:.3f}", f"{row['gigabits']:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} | {memory['helper']:.1f} | {memory['owner']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="32,64,128,256,512")
    parser.add_argument("--calibration", type=Path, help="as of `mpcify estimate`")
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "sizing.json")
    given = parser.parse_args()
    lengths, load = [int(length) for length in given.lengths.split(",")], os.getloadavg()[0]
    speed = calibrated(SpuConfig(), given.calibration)
    student = convert(model_of(SHAPE, None, max(lengths)), RECIPE)
    rows = [row(student, length, speed) for length in lengths]
    values = {"format": 1, "shape": SHAPE, "recipe": RECIPE, "speed": vars(speed), "load_average": load, "rows": rows}
    write_whole(given.out, json.dumps({**values, **provenance()}, indent=1) + "\n")
    print(table(values), end="")


if __name__ == "__main__":
    main()
