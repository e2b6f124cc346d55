"""What the range penalty changes: students of SST-2, alike but for its weight, in plain and in integers mod 2^32.

    python -m benchmarks.accuracy.penalty --data FOLDER

Each learns from the same 8,000 texts for three epochs, so it is weaker than the student of the whole file.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.accuracy.tasks import Options, Task, forget, measure, options, result
from mpcify.conversion.convert import convert, load_model
from mpcify.data.files import read_examples
from mpcify.distillation.distill import distill
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.settings import Settings

TEXTS = 8000
WEIGHTS = (0.0, 0.1, 1.0)
BITS = (8, 9, 10, 11)


def train(given: Options, task: Task, student: Path, weight: float) -> None:
    """Distills a student whose loss has the range penalty with this weight, unless its folder is there."""
    if student.is_dir():
        return
    forget(task.name, student.name)
    source, evaluation = given.model(task, "teacher"), read_examples(given.file(task, "dev"))
    texts = replace(read_examples(given.file(task, "train"), limit=TEXTS), labels=None)
    distill(
        convert(load_model(source), "2quad-freediv"),
        source,
        texts,
        evaluation,
        student,
        Settings(epochs=3, base=given.base_of(task), weights=LossWeights(feed_forward_range=weight)),
        resume=any(student.with_name(f"{student.name}-training").glob("checkpoint-*")),
    )


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2" or given.recipe is not None or given.seed is not None:
            continue  # one student was asked for
        file = given.file(task, "dev")
        for weight in WEIGHTS:
            name = f"2quad-freediv-{TEXTS}-texts-range-{weight:g}"
            student = given.model(task, f"{name}-s0")
            train(given, task, student, weight)
            words = ["--engine", "plain", "--batch", "16", "--compare", str(given.model(task, "teacher"))]
            measure(result(task.name, name, "s0", "dev"), student, file, *words)
            for bits in BITS:
                words = ["--engine", "fixed", "--batch", "16", "--force", "--ring", "32", "--fraction-bits", str(bits)]
                measure(result(task.name, name, "s0", "fixed32", f"f{bits}", "dev"), student, file, *words)


if __name__ == "__main__":
    main()
