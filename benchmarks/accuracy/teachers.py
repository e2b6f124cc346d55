"""Teachers: the base fine-tuned on each task, its word table frozen if that is to stay public, measured in plain.

python -m benchmarks.accuracy.teachers --data FOLDER
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.accuracy.tasks import forget, measure, options, result

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_text.py"


def main() -> None:
    given = options(__doc__)
    for task in given.tasks:
        teacher = given.model(task, "teacher")
        if not teacher.is_dir():
            forget(task.name, "teacher")
            files = ["--train", given.file(task, "train"), "--eval", given.file(task, "dev")]
            resumed = ["--resume"] if teacher.with_name("teacher-training").is_dir() else []
            frozen = ["--freeze-table"] if task.table == "public" else []
            words = [*files, "--epochs", str(task.teacher_epochs), *frozen, *resumed, str(teacher)]
            subprocess.run([sys.executable, str(SCRIPT), "--model", given.base_of(task), *words], check=True)
        for file in task.files:
            name = result(task.name, "teacher", file)
            measure(name, teacher, given.file(task, file), "--engine", "plain", "--batch", "16")


if __name__ == "__main__":
    main()
