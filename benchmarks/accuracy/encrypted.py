"""Encrypted accuracy: dev sentences of SST-2 under SPU (ABY3, ring 2^64), by students and teacher (as `puma`).

    python -m benchmarks.accuracy.encrypted --data FOLDER

Every sentence with MiniLM; with MPNet-base the first 128, and a profile of one request. Hours on two cores if the
machine does other work; what is answered is kept, and the same command goes on from it.
"""

from benchmarks.accuracy.tasks import forget, measure, options, result, stage, verb

STUDENTS = ("2quad-freediv", "softmax-freediv")
ENGINE = ("--engine", "spu", "--accept-embedding-leak")


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.encrypted is None:
            continue
        names = {recipe: f"{recipe}-s{given.seed or 0}" for recipe in STUDENTS} | {"puma": "puma"}
        for recipe, name in names.items():
            if given.recipe not in (None, recipe):
                continue
            model = given.model(task, name)
            if recipe == "puma" and not model.is_dir():
                forget(task.name, name)
                folders = str(given.model(task, "teacher")), str(model)
                verb("convert", *folders, "--recipe", recipe, "--calibration", given.file(task, "train"))
            limit = [] if task.encrypted.limit is None else ["--limit", str(task.encrypted.limit)]
            measure(result(task.name, name, "private"), model, given.file(task, "dev"), *ENGINE, *limit)
            if (length := task.encrypted.length) is not None:
                words = ["profile", str(model), *ENGINE, "--length", str(length)]
                stage(result(task.name, name, "profile"), *words, seed=given.seed or 0)


if __name__ == "__main__":
    main()
