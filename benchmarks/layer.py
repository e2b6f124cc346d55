"""Encoder layers of BERT-base's shape under SPU, recipes in turn (A B A B), in one run.

    python benchmarks/layer.py --recipes puma,2quad-freediv --layers 1 --length 128 --repeat 3 --out FILE.json

Weights are random (the cost does not depend on them), parties are simulated on this machine, the encoder layers run
alone.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
from transformers import BertConfig, BertForSequenceClassification

from mpcify.conversion.convert import convert
from mpcify.engines import engine_named
from mpcify.graph.parts import encoder_layers
from mpcify.graph.passes import lower
from mpcify.graph.trace import trace_graph
from mpcify.measure.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="puma,2quad-freediv")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--protocol", default="aby3")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    teacher = BertForSequenceClassification(BertConfig(num_hidden_layers=options.layers)).eval()
    generator = np.random.default_rng(0)
    sessions, requests, costs = {}, {}, {}
    for recipe in options.recipes.split(","):
        graph, weights = lower(*trace_graph(convert(teacher, recipe), 1, options.length))
        graph = encoder_layers(graph)
        weights = {item.name: weights[item.name].astype(np.float32) for item in graph.role("owner")}
        real = np.ones((1, options.length, 1))
        masks = {"mask": real, "share": 16 * real / options.length}
        requests[recipe] = {
            item.name: masks.get(item.name, generator.standard_normal(item.shape)) for item in graph.role("client")
        }
        sessions[recipe] = engine_named("spu", protocol=options.protocol).compile(graph).load(weights)
        costs[recipe] = []
    for turn in range(options.repeat + 1):
        for recipe, session in sessions.items():
            _, cost = session.run(requests[recipe])
            print(turn, recipe, f"{cost.seconds:.2f} s", cost.bytes, cost.rounds, file=sys.stderr)
            if turn:  # the first turn warms up
                costs[recipe].append(cost)
    for session in sessions.values():
        session.close()
    medians = {recipe: statistics.median(cost.seconds for cost in turns) for recipe, turns in costs.items()}
    first = next(iter(medians))
    result = {
        "format": 1,
        "layers": options.layers,
        "length": options.length,
        "protocol": options.protocol,
        "rows": [
            {
                "recipe": recipe,
                "seconds": [cost.seconds for cost in turns],
                "median_seconds": medians[recipe],
                "bytes": turns[0].bytes,
                "rounds": statistics.median(cost.rounds for cost in turns),
                "times_faster_than_first": medians[first] / medians[recipe],
                "times_fewer_bytes_than_first": costs[first][0].bytes / turns[0].bytes,
            }
            for recipe, turns in costs.items()
        ],
        **provenance(seed=0),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
