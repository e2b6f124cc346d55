"""Small runs of `distill`, whole or interrupted."""

from collections.abc import Callable
from typing import Any

import pytest

from mpcify.distillation.settings import Settings
from mpcify.distillation.trainer import DistillationTrainer

SETTINGS = Settings(epochs=3, batch_size=8, device="cpu", calibration=30, precision="float32")


def interrupted(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any], step: int = 17) -> None:
    """Runs it until Ctrl-C at a step; an epoch of 30 of 40 texts and their pieces has 8."""
    loss = DistillationTrainer.compute_loss

    def interrupting(trainer: DistillationTrainer, *args: Any, **options: Any) -> Any:
        if trainer.state.global_step == step:
            raise KeyboardInterrupt
        return loss(trainer, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run()
