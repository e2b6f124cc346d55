"""Encrypted accuracy: every dev sentence of SST-2 under SPU (ABY3, ring 2^64), by students and teacher (as `puma`).

    python -m benchmarks.accuracy.encrypted --data FOLDER

Hours on two cores where the machine does other work; what is answered is kept, and the same command goes on from it.
"""

from benchmarks.accuracy.tasks import measure, options, result, verb

PRIVATE = ("2quad-freediv", "softmax-freediv")


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2":
            continue
        teacher, puma = given.model(task, "teacher"), given.model(task, "puma")
        if not puma.is_dir():
            verb("convert", str(teacher), str(puma), "--recipe", "puma")
        students = [f"{recipe}-s{given.seed or 0}" for recipe in PRIVATE if given.recipe in (None, recipe)]
        for name in (*students, "puma"):
            words = ["--engine", "spu", "--accept-embedding-leak"]
            measure(result(task.name, name, "private"), given.model(task, name), given.file(task, "dev"), *words)


if __name__ == "__main__":
    main()
