"""How narrow a ring may be: the student of SST-2 in integers mod 2^64 and 2^32, with its range report.

    python -m benchmarks.accuracy.fixed --data FOLDER

Runs with --force: what the range proof refuses is measured too.
"""

from benchmarks.accuracy.tasks import measure, options, result

NARROW = range(8, 14)  # fraction bits in ring 2^32


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        if task.name != "sst2":
            continue
        student = given.model(task, given.student)
        for file in task.files:
            for ring, bits in ((64, 18), *((32, bits) for bits in NARROW)):
                words = ["--engine", "fixed", "--batch", "16", "--force"]
                words += ["--ring", str(ring), "--fraction-bits", str(bits)]
                name = result(task.name, given.student, f"fixed{ring}", f"f{bits}", file)
                measure(name, student, given.file(task, file), *words)


if __name__ == "__main__":
    main()
