"""The image example as the verbs a user types: a small ViT on scikit-learn's digits, converted, distilled, private.

    python -m benchmarks.digits --work build/digits

Stages whose models or results are there already are not run again; remove a result to make it anew.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.verbs import RESULTS, stage, verb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/digits"))
    work = parser.parse_args().work
    if not work.is_dir():
        script = Path(__file__).parents[1] / "examples" / "digits_vit.py"
        subprocess.run([sys.executable, str(script), str(work)], check=True)
    teacher, converted, student = (str(work / name) for name in ("teacher", "converted", "student"))
    train, test = (str(work / name) for name in ("train.tsv", "test.tsv"))
    stage(RESULTS / "digits-check.json", "check", teacher)
    if not Path(converted).is_dir():
        verb("convert", teacher, converted, "--recipe", "2quad-freediv")
    files = ["--teacher", teacher, "--train", train, "--eval", test, "--epochs", "20"]
    stage(RESULTS / "digits-distill.json", "distill", converted, student, *files)
    for name, model, settings in (
        ("digits-teacher-plain", teacher, ["--engine", "plain", "--batch", "16"]),
        ("digits-student-plain", student, ["--engine", "plain", "--batch", "16"]),
        ("digits-student-private", student, ["--engine", "spu", "--limit", "64"]),
    ):
        stage(RESULTS / f"{name}.json", "evaluate", model, "--data", test, *settings)


if __name__ == "__main__":
    main()
