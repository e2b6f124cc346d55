"""`distill` in two processes, as torchrun starts them: one student, written once, and one error for all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from mpcify.conversion.convert import convert, load

SCRIPT = """
import os, signal, sys
from mpcify.cli import main
from mpcify.distillation.trainer import DistillationTrainer
from mpcify.errors import MpcifyError

def fail(trainer, *arguments, **options):
    if trainer.state.global_step == 3 and os.environ["RANK"] == "1":
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MpcifyError(602, "layer 1", "it diverged", "start again")
    return work(trainer, *arguments, **options)

how, work = sys.argv[1], DistillationTrainer.compute_loss
if how != "whole":
    DistillationTrainer.compute_loss = fail
sys.argv = ["mpcify", *sys.argv[2:]]
main.quieten()
main.main()
"""


@pytest.fixture
def launch(teacher_of: Callable[..., PreTrainedModel], tokenizer: Any, texts: Callable, tmp_path: Path) -> Callable:
    """launch(processes, how, out, *words): `mpcify distill` of a small student, in several processes; how one fails."""
    teacher = teacher_of()
    for name, model in (("teacher", teacher), ("student", convert(teacher, "2quad-freediv"))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = "".join(f"{text}\t{label}\n" for text, label in zip(texts().texts, texts().labels, strict=True))
    (tmp_path / "data.tsv").write_text("sentence\tlabel\n" + rows)
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(processes: int, how: str, out: str, *words: str) -> subprocess.CompletedProcess[str]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        options = "--teacher teacher --train data.tsv --eval data.tsv --epochs 2 --batch-size 8 --device cpu"
        command = [*torchrun, "script.py", how, "distill", "student", out, *options.split(), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run


def test_two_processes_train_the_student_that_one_does(launch: Callable, tmp_path: Path) -> None:
    done = {count: launch(count, "whole", f"of-{count}", "--format", "json") for count in (1, 2)}
    for count, outcome in done.items():
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.count("\n") == 1, f"{count} processes answer once"
        assert outcome.stderr.count("epoch 2/2 selection") == 1, "and show progress once"
    assert not list(tmp_path.glob("*-training"))
    one, two = (load(tmp_path / f"of-{count}").state_dict() for count in (1, 2))
    start = load(tmp_path / "student").state_dict()
    moved = sum(float((one[name] - start[name]).square().sum()) for name in one)
    apart = sum(float((one[name] - two[name]).square().sum()) for name in one)
    assert moved > 0
    # the same rows a step: a mean of two half batches weighs tokens a little otherwise than that of the whole
    assert apart < 0.05 * moved


@pytest.mark.parametrize(
    ("how", "line"), [("diverged", "MPC-602 layer 1: it diverged"), ("killed", "MPC-606 training: another process")]
)
def test_what_ends_one_process_ends_all_with_one_line(how: str, line: str, launch: Callable, tmp_path: Path) -> None:
    failed = launch(2, how, "out")
    said = [text for text in failed.stderr.splitlines() if text.startswith("MPC-")]
    assert failed.returncode != 0
    assert [text[: len(line)] for text in said] == [line]
    assert failed.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_batch_that_does_not_divide_is_refused_once(launch: Callable) -> None:
    failed = launch(2, "whole", "out", "--batch-size", "7")
    assert [text[:19] for text in failed.stderr.splitlines() if text.startswith("MPC-")] == ["MPC-606 batch size:"]
