"""bfloat16 multiplies matrices in training alone; attention and what is measured stay in float32."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpcify.conversion.convert import convert
from mpcify.distillation.distill import distill
from mpcify.distillation.precision import native_precision
from mpcify.distillation.settings import Settings
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer
from mpcify.replacements import modules

Make = Callable[..., Any]
# whether a few steps make so small a student better is chance
pytestmark = pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, torch.dtype, torch.dtype]]:
    """Of each attention of a student: whether a gradient is taken, the type it is given and that it computes in."""
    calls: list[tuple[bool, torch.dtype, torch.dtype]] = []
    narrow, attend = modules.of_float32, modules.attend
    given: list[torch.dtype] = []

    def noted(values: torch.Tensor) -> torch.Tensor:
        given.append(values.dtype)
        return narrow(values)

    def watched(kind: Any, query: torch.Tensor, *rest: Any) -> Any:
        calls.append((torch.is_grad_enabled(), given[-1], query.dtype))
        return attend(kind, query, *rest)

    monkeypatch.setattr(modules, "of_float32", noted)
    monkeypatch.setattr(modules, "attend", watched)
    return calls


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv"])
def test_training_alone_is_narrow_and_attention_never(
    precision: Any, recipe: str, teacher_of: Make, rows_for: Make, tmp_path: Path, seen: list[Any]
) -> None:
    teacher = teacher_of()
    rows = rows_for(teacher)
    options = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "use_cpu": True, "precision": precision}
    args = DistillationArguments(str(tmp_path / "run"), **options)
    DistillationTrainer(convert(teacher, recipe), teacher, args, rows, rows[:8]).train()
    trained = {given for training, given, _ in seen if training}
    measured = {given for training, given, _ in seen if not training}
    assert trained == {getattr(torch, precision)}
    assert measured == {torch.float32}
    assert {computed for *_, computed in seen} == {torch.float32}


def test_a_student_of_either_precision_is_as_near_its_teacher(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path
) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = Settings(epochs=3, batch_size=8, device="cpu", calibration=30, precision=precision)  # type: ignore[arg-type]
        result = distill(*folders, texts(labels=False), texts(20, seed=1, labels=False), tmp_path / precision, settings)
        losses[precision] = result.epochs[-1]["selection_loss"]
        assert f"| matrix products | {precision} in training" in (tmp_path / precision / "README.md").read_text()
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-3)
    assert losses["bfloat16"] != losses["float32"]


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "avx512_f"])
def test_the_default_is_what_the_processor_multiplies(feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=lambda: {feature: True}))
    expected = "float32" if feature == "avx512_f" else "bfloat16"
    assert native_precision(torch.device("cpu")) == expected
    assert native_precision(torch.device("mps")) == "float32"


def test_a_run_that_goes_on_keeps_its_precision() -> None:
    before = {"epochs": 4.0, "precision": "bfloat16"}
    assert Settings().resumed(before) == Settings(epochs=4.0, precision="bfloat16")
    assert Settings(precision="float32").resumed(before).precision == "float32", "and is refused then"
