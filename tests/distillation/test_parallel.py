"""`distill` in two processes, as torchrun starts them: one student, written once, and one error for all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from mpcify.conversion.convert import convert, load
from mpcify.data.files import read_examples
from mpcify.distillation.distill import arguments, distill
from mpcify.distillation.settings import Settings
from mpcify.distillation.trainer import DistillationTrainer
from mpcify.errors import MpcifyError
from mpcify.launch import Launch

# calibration leaves so small a student little to learn: whether training makes it better is chance
pytestmark = pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning")
SCRIPT = """
import hashlib, os, signal, sys
from mpcify.cli import main
from mpcify.conversion.rows import MixedRows
from mpcify.distillation.trainer import DistillationTrainer
from mpcify.errors import MpcifyError

def fail(trainer, *arguments, **options):
    if trainer.state.global_step == 3 and os.environ["RANK"] == "1":
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MpcifyError(602, "layer 1", "it diverged", "start again")
    return work(trainer, *arguments, **options)

def note(rows, epoch):
    draw(rows, epoch)
    with open(f"{sys.argv[3]}-{os.environ['RANK']}.txt", "a") as file:
        print(epoch, hashlib.sha256(repr(rows.pieces.encoded).encode()).hexdigest(), file=file)

draw, MixedRows.set_epoch = MixedRows.set_epoch, note
DistillationTrainer._load_best_model = lambda trainer: None  # what the last step left is compared
DistillationTrainer.start_is_best = lambda trainer: False
how, work = sys.argv[1], DistillationTrainer.compute_loss
if how != "whole":
    DistillationTrainer.compute_loss = fail
sys.argv = ["mpcify", *sys.argv[2:]]
main.quieten()
main.main()
"""


@pytest.fixture
def launch(teacher_of: Callable[..., PreTrainedModel], tokenizer: Any, texts: Callable, tmp_path: Path) -> Callable:
    """launch(how, out): `mpcify distill` of a small student in two processes; how one of them ends."""
    teacher = teacher_of()
    for name, model in (("teacher", teacher), ("student", convert(teacher, "2quad-freediv"))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "data.tsv").write_text("\n".join(["sentence", *texts().texts]))
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(how: str, out: str) -> subprocess.CompletedProcess[str]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        options = [
            "--teacher",
            "teacher",
            "--train",
            "data.tsv",
            "--eval",
            "data.tsv",
            "--epochs",
            "2",
            "--batch-size",
            "8",
        ]
        options += ["--device", "cpu", "--precision", "float32", "--format", "json"]
        command = [*torchrun, "script.py", how, "distill", "student", out, *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run


def test_two_processes_train_the_student_that_one_does(
    launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DistillationTrainer, "_load_best_model", lambda trainer: None)
    monkeypatch.setattr(DistillationTrainer, "start_is_best", lambda trainer: False)
    done = launch("whole", "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "it answers once"
    assert done.stderr.count("epoch 2/2 selection") == 1, "and shows progress once"
    assert not list(tmp_path.glob("*-training"))
    first, second = ((tmp_path / f"two-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second, "both see the same pieces"
    assert len(set(first.splitlines())) == 4, "two epochs, the part held out and calibration have their own"
    data = read_examples(tmp_path / "data.tsv")
    settings = Settings(epochs=2, batch_size=8, device="cpu", precision="float32")
    distill(tmp_path / "student", tmp_path / "teacher", data, data, tmp_path / "one", settings)
    one, two = (load(tmp_path / name).state_dict() for name in ("one", "two"))
    start = load(tmp_path / "student").state_dict()
    names = [name for name in one if "embeddings" in name]  # which calibration leaves as they are
    moved = sum(float((one[name] - start[name]).square().sum()) for name in names)
    apart = sum(float((one[name] - two[name]).square().sum()) for name in names)
    assert moved > 0
    # the same rows a step: a mean of two half batches weighs tokens a little otherwise than that of the whole
    assert apart < 0.05 * moved


@pytest.mark.parametrize(
    ("how", "line"), [("diverged", "MPC-602 layer 1: it diverged"), ("killed", "MPC-606 training: another process")]
)
def test_what_ends_one_process_ends_all_with_one_line(how: str, line: str, launch: Callable, tmp_path: Path) -> None:
    failed = launch(how, "out")
    said = [text for text in failed.stderr.splitlines() if text.startswith("MPC-")]
    assert failed.returncode != 0
    assert [text[: len(line)] for text in said] == [line]
    assert failed.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match="MPC-606 batch size"):
        arguments(Settings(epochs=1, batch_size=7), tmp_path / "out", Launch(0, 2))
