"""Students: each teacher converted and distilled, by recipe and seed, and compared with it in plain.

    python -m benchmarks.accuracy.students --data FOLDER [--task NAME] [--recipe NAME] [--seed N] [--epochs N]

Distills with the defaults of `mpcify distill`, but for --epochs where it is given. The student without distillation is
calibrated alone.
"""

from pathlib import Path

from benchmarks.accuracy.tasks import Options, Task, forget, measure, options, result, stage, verb


def distill(given: Options, task: Task, recipe: str, seed: int) -> Path:
    """The folder of a distilled student."""
    teacher = given.model(task, "teacher")
    converted, student = given.model(task, f"{recipe}-converted"), given.model(task, f"{recipe}-s{seed}")
    if not converted.is_dir():
        verb("convert", str(teacher), str(converted), "--recipe", given.named(recipe))
    words = ["--teacher", str(teacher), "--train", given.file(task, "train"), "--eval", given.file(task, "dev")]
    words += ["--seed", str(seed), *(["--base", given.base_of(task)] if task.table != "own" else [])]
    words += ["--epochs", str(given.epochs)] if given.epochs is not None else []
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


def calibrate(given: Options, task: Task, recipe: str) -> Path:
    """The folder of a student calibrated alone."""
    student = given.model(task, f"{recipe}-calibrated")
    if not student.is_dir():
        forget(task.name, recipe, "calibrated")
        words = ["--recipe", given.named(recipe), "--calibration", given.file(task, "train")]
        verb("convert", str(given.model(task, "teacher")), str(student), *words)
    return student


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        settings = ["--engine", "plain", "--batch", "16", "--compare", str(given.model(task, "teacher"))]
        for recipe, seed in given.students(task):
            student = distill(given, task, recipe, seed)
            for file in task.files:
                measure(result(task.name, recipe, f"s{seed}", file), student, given.file(task, file), *settings)
        for recipe in given.calibrated(task):
            student = calibrate(given, task, recipe)
            for file in task.files:
                measure(result(task.name, recipe, "calibrated", file), student, given.file(task, file), *settings)


if __name__ == "__main__":
    main()
