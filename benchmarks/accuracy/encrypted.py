"""Encrypted accuracy: every dev sentence of SST-2 under SPU (ABY3, ring 2^64), by student and teacher (as `puma`).

    python -m benchmarks.accuracy.encrypted --data FOLDER

Hours on two cores where the machine does other work; what is answered is kept, and the same command goes on from it.
"""

from benchmarks.accuracy.tasks import measure, options, result, verb


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2":
            continue
        teacher, puma = given.model(task, "teacher"), given.model(task, "puma")
        if not puma.is_dir():
            verb("convert", str(teacher), str(puma), "--recipe", "puma")
        for name, model in ((given.student, given.model(task, given.student)), ("puma", puma)):
            words = ["--engine", "spu", "--accept-embedding-leak"]
            measure(result(task.name, name, "private"), model, given.file(task, "dev"), *words)


if __name__ == "__main__":
    main()
