"""Students: each teacher converted and distilled, by recipe and seed, and compared with it in plain.

    python -m benchmarks.accuracy.students --data FOLDER [--task NAME] [--recipe NAME] [--seed N]

Distills with the defaults of `mpcify distill`. The student without distillation is calibrated alone.
"""

import json
from pathlib import Path

from benchmarks.accuracy.tasks import Options, Task, forget, measure, options, result, stage, verb

RECIPES = {"2quad-freediv-gelu": {"version": 1, "attention": "2quad-freediv", "activation": "gelu"}}


def named(recipe: str, work: Path) -> str:
    """A recipe as `convert` takes it: its name, or a file with it."""
    if recipe not in RECIPES:
        return recipe
    path = work / f"{recipe}.json"
    path.write_text(json.dumps(RECIPES[recipe]), encoding="utf-8")
    return str(path)


def distill(given: Options, task: Task, recipe: str, seed: int) -> Path:
    """The folder of a distilled student."""
    teacher = given.model(task, "teacher")
    converted, student = given.model(task, f"{recipe}-converted"), given.model(task, f"{recipe}-s{seed}")
    if not converted.is_dir():
        verb("convert", str(teacher), str(converted), "--recipe", named(recipe, teacher.parent))
    words = ["--teacher", str(teacher), "--train", given.file(task, "train"), "--eval", given.file(task, "dev")]
    words += ["--seed", str(seed), *(["--base", given.base] if task.public else [])]
    resumed = ["--resume"] if list(student.with_name(f"{student.name}-training").glob("checkpoint-*")) else []
    if not student.is_dir():
        forget(task.name, recipe, f"s{seed}")
        stage(
            result(task.name, recipe, f"s{seed}", "distill"),
            "distill",
            str(converted),
            str(student),
            *words,
            *resumed,
            seed=seed,
        )
    return student


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        teacher = given.model(task, "teacher")
        for recipe, seed in given.students(task):
            student = distill(given, task, recipe, seed)
            for file in task.files:
                settings = ["--engine", "plain", "--batch", "16", "--compare", str(teacher)]
                measure(result(task.name, recipe, f"s{seed}", file), student, given.file(task, file), *settings)
        calibrated = given.model(task, "2quad-freediv-calibrated")
        if not calibrated.is_dir():
            forget(task.name, "2quad-freediv", "calibrated")
            settings = ["--recipe", "2quad-freediv", "--calibration", given.file(task, "train")]
            verb("convert", str(teacher), str(calibrated), *settings)
        for file in task.files:
            settings = ["--engine", "plain", "--batch", "16", "--compare", str(teacher)]
            measure(
                result(task.name, "2quad-freediv", "calibrated", file), calibrated, given.file(task, file), *settings
            )


if __name__ == "__main__":
    main()
