"""What the range penalty changes: two students of SST-2, alike but for it, in floats and in integers mod 2^32.

    python -m benchmarks.accuracy.penalty --data FOLDER

Both learn from the same 8,000 texts for three epochs, so each is weaker than the student of the whole file.
"""

from dataclasses import replace

from benchmarks.accuracy.tasks import measure, options, result
from mpcify.conversion.convert import convert, load_model
from mpcify.data.files import read_examples
from mpcify.distillation.distill import distill
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.settings import Settings
from mpcify.inference import declare_ranges

TEXTS = 8000
BITS = (9, 10, 11)
WEIGHTS = {"penalty": LossWeights(), "no-penalty": LossWeights(feed_forward_range=0.0, score_range=0.0)}


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2":
            continue
        source, evaluation = given.model(task, "teacher"), read_examples(given.file(task, "dev"))
        train = read_examples(given.file(task, "train"), limit=TEXTS)
        for name, weights in WEIGHTS.items():
            student = given.model(task, name)
            if not student.is_dir():
                teacher = load_model(source)
                settings = Settings(epochs=3, base=given.base, weights=weights)
                distill(
                    convert(teacher, "2quad-freediv"),
                    source,
                    replace(train, labels=None),
                    evaluation,
                    student,
                    settings,
                    finish=lambda model, items, source=source: declare_ranges(model, source, items),
                    resume=any(student.with_name(f"{student.name}-training").glob("checkpoint-*")),
                )
            for bits in BITS:
                words = ["--engine", "fixed", "--batch", "16", "--force", "--ring", "32", "--fraction-bits", str(bits)]
                measure(result(task.name, name, "fixed32", f"f{bits}", "dev"), student, given.file(task, "dev"), *words)


if __name__ == "__main__":
    main()
