"""How near students stay to their teachers on texts unlike those they were distilled on: see sets.py.

    python -m benchmarks.accuracy.robustness --data FOLDER [--task NAME] [--recipe NAME] [--seed N]

Teacher and student both answer in floats.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.sets import sets_of
from benchmarks.accuracy.tasks import ROBUSTNESS, Options, Task, options, result
from mpcify.conversion.batches import model_inputs
from mpcify.conversion.convert import load_model
from mpcify.conversion.processors import read_processor
from mpcify.conversion.rows import LONGEST, collator, label_names, rows_of
from mpcify.data.files import Examples, check_labels, read_examples
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

BATCH = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Logits = dict[str, np.ndarray]  # by set: (N, labels)


@torch.no_grad()
def answers(folder: Path, sets: dict[str, Examples]) -> tuple[Logits, Sequence[str]]:
    """A model's logits of each set, and its labels' names; a text that is longer than the model reads is cut."""
    print(folder, file=sys.stderr, flush=True)
    model = load_model(folder).to(DEVICE)
    processor, collate = read_processor(folder, model), collator(model)

    def logits(examples: Examples) -> np.ndarray:
        rows: Any = rows_of(replace(examples, labels=None), model, processor, LONGEST, warn=False)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
        found = np.empty((len(rows), model.config.num_labels))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            found[places] = model(**model_inputs(model, collate([rows[i] for i in places]))).logits.float().cpu()
        return found

    return {name: logits(examples) for name, examples in sets.items()}, label_names(model)


def compared(teacher: np.ndarray, student: np.ndarray, labels: Sequence[int] | None) -> dict[str, Any]:
    """How near a student's logits (N, labels) are to its teacher's on one set.

    agreement: the share of equal answers. divergence: the mean of KL(teacher ‖ student) = Σ p (log p − log q), p and q
    = softmax of the teacher's and the student's logits. logit_difference: the mean over texts of max |difference|.
    accuracy: of both, None without labels.
    """
    ours, theirs = student.argmax(-1), teacher.argmax(-1)
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    given = {"teacher": theirs, "student": ours}
    return {
        "examples": len(teacher),
        "agreement": float(np.mean(ours == theirs)),
        "divergence": float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), -1))),
        "logit_difference": float(np.mean(np.abs(teacher - student).max(-1))),
        "accuracy": labels and {name: float(np.mean(found == np.asarray(labels))) for name, found in given.items()},
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log(exp(x) / Σ exp(x)) over the labels, in 64 bits."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def report(teacher: Logits, student: Logits, labels: dict[str, Sequence[int] | None]) -> dict[str, Any]:
    """Every set, and over those other than `dev` the mean share of equal answers, and the least of them."""
    sets = [{"set": name, **compared(teacher[name], student[name], labels[name])} for name in teacher]
    off_dev = [(row["agreement"], row["set"]) for row in sets if row["set"] != "dev"]
    worst, name = min(off_dev)
    return {
        "sets": sets,
        "mean_off_dev": float(np.mean([agreement for agreement, _ in off_dev])),
        "worst_off_dev": {"set": name, "agreement": worst},
    }


def missing(given: Options, task: Task) -> Iterator[tuple[str, str, int, Path]]:
    """Name, recipe, seed and result of each student that has no result."""
    students = [(f"{recipe}-s{seed}", recipe, seed) for recipe, seed in given.students(task)]
    students += [(f"{recipe}-calibrated", recipe, 0) for recipe in given.calibrated(task)]
    for name, recipe, seed in students:
        path = result(task.name, name, folder=ROBUSTNESS)
        if not path.is_file():
            yield name, recipe, seed, path


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        wanted = list(missing(given, task))
        if not wanted:
            continue
        sets = sets_of(task, lambda source, name: read_examples(given.texts(source, name)))
        teacher, classes = answers(given.model(task, "teacher"), sets)
        labels = {name: found.labels and check_labels(found, classes).labels for name, found in sets.items()}
        for name, recipe, seed, path in wanted:
            student, _ = answers(given.model(task, name), sets)
            found = report(teacher, student, labels)
            made = {"format": 1, "task": task.name, "student": name, "recipe": recipe, "seed": seed, "device": DEVICE}
            write_whole(path, json.dumps({**made, **found, **provenance(seed)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
