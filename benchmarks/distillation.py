"""What a step of distillation takes in float32 and in bfloat16, in turns: a BERT of random weights, 32 texts a step.

OMP_NUM_THREADS=2 python -m benchmarks.distillation [--layers 6] [--width 384] [--tokens 24] [--repeat 20]
        [--out FILE]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.verbs import keep
from mpcify.conversion.convert import convert
from mpcify.distillation.precision import PRECISIONS, native_precision
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer
from mpcify.measure.provenance import provenance

TEXTS, VOCABULARY = 32, 30_522


def trainer(layers: int, width: int, rows: list[dict[str, list[int]]], folder: str) -> DistillationTrainer:
    """A trainer of a `2quad-freediv` student of a teacher with random weights."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": width // 64 * 2}
    teacher = BertForSequenceClassification(BertConfig(intermediate_size=4 * width, **sizes))
    args = DistillationArguments(folder, use_cpu=True, precision="float32")
    made = DistillationTrainer(convert(teacher, "2quad-freediv"), teacher, args, rows)
    made.create_optimizer_and_scheduler(1000)
    made.model.train()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 6), ("width", 384), ("tokens", 24), ("repeat", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(VOCABULARY, (TEXTS, given.tokens), generator=random).tolist()
    rows = [{"input_ids": row, "attention_mask": [1] * given.tokens} for row in drawn]
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(given.layers, given.width, rows, folder)
        batch = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
        for _ in range(given.repeat + 1):
            for precision in PRECISIONS:
                made.args.precision = precision
                start = time.perf_counter()
                made.compute_loss(made.model, batch).backward()
                made.optimizer.step()
                made.optimizer.zero_grad()
                seconds[precision].append(time.perf_counter() - start)
    medians = {name: round(statistics.median(found[1:]), 4) for name, found in seconds.items()}
    result = {
        "shape": {"layers": given.layers, "width": given.width, "texts": TEXTS, "tokens": given.tokens},
        "threads": torch.get_num_threads(),
        "native": native_precision(torch.device("cpu")),
        "seconds": medians,
        "ratio": round(medians["float32"] / medians["bfloat16"], 2),
        **provenance(seed=0),
    }
    keep(result, given.out)


if __name__ == "__main__":
    main()
