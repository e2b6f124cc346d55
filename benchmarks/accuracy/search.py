"""Which way of training brings a student nearest to its teacher: every variant on one part of one task's training data.

    python -m benchmarks.accuracy.search --teacher build/accuracy/sst2/teacher --base BASE --train FILE [VARIANT ...]

Trains on 8,000 texts or pairs, or as many as there are, and measures on 3,000 others, at most a seventh, all of them
drawn from the training file: no variant is chosen on dev or test. What counts is how near the student comes to its
teacher: Kullback-Leibler divergence, and the share of equal answers (the teacher has seen these texts, so that accuracy
would say little). A variant that has a result is not run again.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, set_seed

import mpcify
from mpcify.conversion.convert import load_model
from mpcify.conversion.processors import read_processor
from mpcify.conversion.rows import calibration_batches, collator, pick, rows_of
from mpcify.data.files import Examples, read_examples
from mpcify.distillation.base import freeze_base
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance
from mpcify.recipe import Recipe, read_recipe

RESULTS = Path(__file__).parents[1] / "results" / "accuracy"
TRAINED, SELECTED, SHORTEST = 8000, 3000, 8  # texts, texts (at most a seventh), words in a text to measure on
EPOCHS = 3


@dataclass(frozen=True)
class Stage:
    """One training of a student: which recipe, how many of the epochs, how it is calibrated before."""

    recipe: Recipe
    epochs: float = EPOCHS
    calibrated: str = "refit"  # or "gamma", or "none"
    weights: LossWeights = field(default_factory=LossWeights)
    arguments: dict[str, Any] = field(default_factory=dict)


def once(
    recipe: str = "2quad-freediv", calibrated: str = "refit", weights: dict[str, float] | None = None, **arguments: Any
) -> list[Stage]:
    """A variant of one stage."""
    return [
        Stage(read_recipe(recipe), calibrated=calibrated, weights=LossWeights(**(weights or {})), arguments=arguments)
    ]


def staged(*recipes: tuple[str, str], calibrated: str = "refit") -> list[Stage]:
    """A variant of several stages of equal length, each (attention, activation); logits count in the last third."""
    count = len(recipes)
    stages = []
    for index, (attention, activation) in enumerate(recipes):
        last = index == count - 1
        arguments = {"logits_after": 1 / 3 if last else 1.0}
        recipe = Recipe(attention=attention, activation=activation)
        stages.append(Stage(recipe, EPOCHS / count, "refit" if index == 0 else calibrated, arguments=arguments))
    return stages


VARIANTS: dict[str, Callable[[], list[Stage]]] = {
    "default": once,
    "no refit": lambda: once(calibrated="gamma"),
    "not calibrated": lambda: once(calibrated="none"),
    "logits from the start": lambda: once(logits_after=0.0),
    "logits from the middle": lambda: once(logits_after=0.5),
    "logits alone": lambda: once(weights={"hidden": 0.0}, logits_after=0.0),
    "no logits": lambda: once(weights={"logits": 0.0}),
    "attention output 1": lambda: once(weights={"attention": 1.0}),
    "scores 1": lambda: once(weights={"scores": 1.0}),
    "scores 0.1": lambda: once(weights={"scores": 0.1}),
    "embeddings 1": lambda: once(weights={"embeddings": 1.0}),
    "no ranges": lambda: once(weights={"feed_forward_range": 0.0, "score_range": 0.0}),
    "hidden 0.3": lambda: once(weights={"hidden": 0.3}),
    "hidden 3": lambda: once(weights={"hidden": 3.0}),
    "rate 3e-5": lambda: once(learning_rate=3e-5),
    "rate 2e-4": lambda: once(learning_rate=2e-4),
    "rate 4e-4": lambda: once(learning_rate=4e-4),
    "cosine": lambda: once(lr_scheduler_type="cosine"),
    "batch 16": lambda: once(per_device_train_batch_size=16),
    "gelu, then quad": lambda: staged(("2quad-freediv", "gelu"), ("2quad-freediv", "quad")),
    "2quad, then freeDiv": lambda: staged(("2quad", "quad"), ("2quad-freediv", "quad")),
    "2quad, freeDiv, quad": lambda: staged(("2quad", "gelu"), ("2quad-freediv", "gelu"), ("2quad-freediv", "quad")),
    "centred keys": lambda: [Stage(Recipe(attention="2quad-freediv", activation="quad", centre_keys=True))],
    "softmax-freediv": lambda: once("softmax-freediv"),
    "softmax-freediv, t = 4": lambda: [Stage(replace(read_recipe("softmax-freediv"), t=4))],
    "softmax-freediv, t = 2": lambda: [Stage(replace(read_recipe("softmax-freediv"), t=2))],
    "softmax-freediv, rate 2e-4": lambda: once("softmax-freediv", learning_rate=2e-4),
    "mpcformer": lambda: once("mpcformer"),
}


def split(examples: Examples) -> tuple[Examples, Examples]:
    """The texts to train on, and those to measure on: never the same text twice."""
    texts = sorted(set(examples.texts))
    random.Random(0).shuffle(texts)
    long = [text for text in texts if words(text) >= SHORTEST]
    measured = dict.fromkeys(long[: min(SELECTED, len(long) // 7)])
    kept = [text for text in texts if text not in measured and words(text) >= SHORTEST // 2][:TRAINED]
    return tuple(  # type: ignore[return-value]
        Examples(examples.kind, part, None, examples.source) for part in (kept, list(measured))
    )


def words(text: str | tuple[str, str]) -> int:
    """How many words a text has, or a pair."""
    return len((text if isinstance(text, str) else " ".join(text)).split())


def train(
    stages: list[Stage], teacher_path: str, base: str, data: tuple[Examples, Examples], seed: int
) -> dict[str, Any]:
    """Trains a student stage by stage; how far it is from its teacher."""
    set_seed(seed)
    began, teacher = time.monotonic(), load_model(teacher_path)
    student: PreTrainedModel = teacher
    work = Path("build/accuracy/search")
    for stage in stages:
        student = mpcify.convert(student, stage.recipe)
        tokenizer = read_processor(teacher_path, student)
        freeze_base(student, base, tokenizer)
        rows, measured = (rows_of(part, student, tokenizer, 128) for part in data)
        collate = collator(student)
        if stage.calibrated != "none":
            batches = calibration_batches(rows, pick(len(rows), 1000, seed), collate)
            mpcify.calibrate(student, batches, teacher if stage.calibrated == "refit" else None)
        arguments = DistillationArguments(
            output_dir=str(work),
            num_train_epochs=stage.epochs,
            seed=seed,
            save_strategy="no",
            eval_strategy="no",
            load_best_model_at_end=False,
            selection_limit=1,
            **stage.arguments,
        )
        trainer = DistillationTrainer(
            student, teacher, arguments, rows, measured, weights=stage.weights, data_collator=collate
        )
        if stage is stages[0]:
            start = trainer.evaluate(trainer.eval_dataset["evaluation"], metric_key_prefix="start")
        trainer.train()
    end = trainer.evaluate(trainer.eval_dataset["evaluation"], metric_key_prefix="end")
    shutil.rmtree(work, ignore_errors=True)
    last = [entry for entry in trainer.state.log_history if "loss_hidden" in entry][-1:]
    return {
        "start": {name: start[f"start_{name}"] for name in ("divergence", "agreement")},
        "end": {name: end[f"end_{name}"] for name in ("divergence", "agreement")},
        "losses": {name: value for entry in last for name, value in entry.items() if name.startswith("loss_")},
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", default=list(VARIANTS))
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"search-{Path(options.train).resolve().parent.name}.json"
    data = split(read_examples(options.train))
    for name in options.variants:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"format": 1, "variants": {}}
        key = name if options.seed == 0 else f"{name}, seed {options.seed}"
        if key in found["variants"]:
            continue
        result = train(VARIANTS[name](), options.teacher, options.base, data, options.seed)
        print(key, json.dumps(result), file=sys.stderr, flush=True)
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else found
        found["variants"][key] = {**result, **provenance(seed=options.seed)}
        write_whole(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
