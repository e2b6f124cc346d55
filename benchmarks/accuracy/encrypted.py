"""Encrypted accuracy: every dev sentence of SST-2 under SPU (ABY3, ring 2^64), by students and teacher (as `puma`).

    python -m benchmarks.accuracy.encrypted --data FOLDER

Hours on two cores if the machine does other work; what is answered is kept, and the same command goes on from it.
"""

from benchmarks.accuracy.tasks import forget, measure, options, result, verb

STUDENTS = ("2quad-freediv", "softmax-freediv")


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2":
            continue
        names = {recipe: f"{recipe}-s{given.seed or 0}" for recipe in STUDENTS} | {"puma": "puma"}
        for recipe, name in names.items():
            if given.recipe not in (None, recipe):
                continue
            if recipe == "puma" and not given.model(task, name).is_dir():
                forget(task.name, name)
                folders = str(given.model(task, "teacher")), str(given.model(task, name))
                verb("convert", *folders, "--recipe", recipe, "--calibration", given.file(task, "train"))
            words = ["--engine", "spu", "--accept-embedding-leak"]
            measure(result(task.name, name, "private"), given.model(task, name), given.file(task, "dev"), *words)


if __name__ == "__main__":
    main()
