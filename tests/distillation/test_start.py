"""The student before training: it is measured, kept if nothing is better, and what became worse than it is said."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, TrainerCallback

from mpcify.conversion.student import student_config, update_config
from mpcify.errors import MpcifyWarning
from tests.distillation.test_trainer import weights_of

Make = Callable[..., Any]
# whether a few steps make so small a student better is chance
pytestmark = pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning")


class Worse(TrainerCallback):
    """Each epoch after some leaves the student worse."""

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
        if state.epoch > self.after:
            for weight in model.parameters():
                weight.data.mul_(1.5)


def test_the_start_is_measured_kept_and_what_remains_if_nothing_is_better(trainer_of: Make) -> None:
    trainer, again = (trainer_of(callbacks=[Worse()]) for _ in range(2))
    update_config(trainer.model, taught={24: 7})
    before = weights_of(trainer.model)
    trainer.train()
    assert student_config(trainer.model).taught == {24: 7}, "what taught the start"
    measured = [entry for entry in trainer.state.log_history if "eval_selection_loss" in entry]
    assert (measured[0]["step"], measured[0]["epoch"]) == (0, 0)
    assert trainer.state.best_global_step == 0
    assert trainer.state.best_metric == measured[0]["eval_selection_loss"]
    assert all(torch.equal(value, before[name]) for name, value in weights_of(trainer.model).items())
    assert trainer.evaluate()["eval_selection_loss"] == pytest.approx(measured[0]["eval_selection_loss"], rel=1e-6)
    again.train(resume_from_checkpoint=True)  # a run that is resumed knows its start too
    assert again.state.best_global_step == 0
    assert all(torch.equal(value, before[name]) for name, value in weights_of(again.model).items())


@pytest.mark.parametrize(
    "loss, divergence, kept", [(1.1, 0.2, False), (0.9, 0.6, False), (1.1, 0.6, True), (1.0, 0.5, True)]
)
def test_the_start_is_kept_if_training_brought_neither_losses_nor_answers_nearer(
    loss: float, divergence: float, kept: bool, trainer_of: Make
) -> None:
    trainer = trainer_of()
    measured = {0: (1.0, 0.5), 5: (loss, divergence)}
    trainer.state.log_history = [
        {"step": step, f"eval_selection_{name}": value}
        for step, values in measured.items()
        for name, value in zip(("loss", "divergence"), values, strict=True)
    ]
    trainer.state.best_global_step = 5
    assert trainer.start_is_best() is kept


def test_a_checkpoint_that_is_worse_than_the_start_is_said_with_its_numbers(trainer_of: Make) -> None:
    trainer = trainer_of()
    names = ("selection_loss", "selection_divergence", "evaluation_agreement", "evaluation_accuracy")
    trainer.state.best_global_step, measured = 5, {0: (0.6559, 0.065, 0.95, 0.717)}
    for found, said in {
        (0.5, 0.06, 0.95, 0.717): [],
        (0.6599, 0.06, 0.96, 0.72): ["loss on the rows held out 0.6559 → 0.6599"],
        (0.5, 0.081, 0.96, 0.72): ["divergence on the rows held out 0.065 → 0.081"],
        (0.5, 0.06, 0.9, 0.633): [
            "answers equal to .* 0.95 → 0.9",
            "accuracy on the evaluation examples 0.717 → 0.633",
        ],
    }.items():
        trainer.state.log_history = [
            {"step": step, f"eval_{name}": value}
            for step, values in {**measured, 5: found}.items()
            for name, value in zip(names, values, strict=True)
        ]
        what = "the checkpoint that is kept is worse than the student before training: "
        assert re.fullmatch(what + ", ".join(said) if said else "", trainer.setback())


def test_a_run_warns_of_a_checkpoint_that_is_worse_than_its_start(
    trainer_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(num_train_epochs=1, callbacks=[Worse()])
    monkeypatch.setattr(trainer, "start_is_best", lambda: False)
    with pytest.warns(MpcifyWarning, match="training: the checkpoint that is kept is worse .*; try a lower"):
        trainer.train()
    assert student_config(trainer.model).taught == {16: 38}


def test_a_run_that_chooses_no_checkpoint_keeps_no_start(trainer_of: Make) -> None:
    trainer = trainer_of(load_best_model_at_end=False, num_train_epochs=1, eval_on_start=True)
    trainer.train()
    assert not (Path(trainer.args.output_dir) / "start").exists()
    assert trainer.state.log_history[0]["step"] == 0, "it was asked to measure all the same"


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_best_checkpoint_is_what_remains(trainer_of: Make, family: str) -> None:
    trainer = trainer_of(family, num_train_epochs=4, callbacks=[Worse(after=2)])
    trainer.train()
    assert trainer.state.best_global_step in (5, 10)
    measured = [
        (entry["eval_selection_loss"], entry["step"])
        for entry in trainer.state.log_history
        if "eval_selection_loss" in entry
    ]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == min(measured)
    assert trainer.evaluate()["eval_selection_loss"] == pytest.approx(min(measured)[0], rel=1e-6)
