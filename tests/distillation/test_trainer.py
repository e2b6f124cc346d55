"""The trainer: every family trains, stages, chooses and resumes, and nothing but the student changes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import RandomSampler, Sampler
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
)

from mpcify import progress
from mpcify.conversion.convert import convert, load
from mpcify.conversion.rows import mixed_rows
from mpcify.conversion.student import ranges_of, set_ranges
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.lost import Growth
from mpcify.distillation.order import BatchesOfLikeLength
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer, held_out, hold_out
from mpcify.errors import MpcifyError

FAMILIES = ("bert", "roberta", "electra", "mpnet", "distilbert", "vit")
Make = Callable[..., Any]
# whether a few steps make so small a student better is chance
pytestmark = pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning")


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class Interrupt(TrainerCallback):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_with_every_loss_and_its_loss_falls(trainer_of: Make, family: str) -> None:
    trainer = trainer_of(family, "softmax-freediv", weights=LossWeights(1, 1, 1, 1), num_train_epochs=4)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_evaluation_loss"] < 0.9 * before["eval_evaluation_loss"]
    logged = {name for entry in trainer.state.log_history for name in entry if name.startswith("loss_")}
    names = ("embeddings", "hidden", "attention", "scores", "logits", "feed_forward_range", "score_range")
    assert logged == {f"loss_{name}" for name in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_measured_against_its_teacher_as_it_is(trainer_of: Make, family: str) -> None:
    trainer = trainer_of(family)
    assert trainer.evaluate()["eval_evaluation_loss"] > 0
    assert not hasattr(trainer.teacher.config, "mpcify")  # no converted one, as the loss of scores would need


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(trainer_of: Make, family: str) -> None:
    whole = trainer_of(family, folder="whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(family, folder="parts", callbacks=[Interrupt(7)]).train()  # of 15; the first epoch ends at 5
    resumed = trainer_of(family, folder="parts")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    found = weights_of(resumed.model)
    for name, value in weights_of(whole.model).items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize(("family", "sampler"), [("bert", BatchesOfLikeLength), ("vit", RandomSampler)])
def test_texts_come_in_batches_of_like_length_and_images_at_random(
    trainer_of: Make, family: str, sampler: type[Sampler]
) -> None:
    loader = trainer_of(family).get_train_dataloader()
    assert isinstance(loader.batch_sampler.sampler, sampler)


@pytest.mark.parametrize(
    "rows, held",
    [(2, 1), (5, 1), (20, 5), (40, 10), (64, 16), (319, 16), (320, 16), (400, 20), (30_000, 1000)],
)
def test_a_twentieth_is_held_out_and_of_few_rows_16_or_a_quarter(rows: int, held: int) -> None:
    assert held_out(rows) == held
    kept, chosen = hold_out(rows, DistillationArguments("unused", use_cpu=True))
    assert (len(kept), len(chosen)) == (rows - held, held)


def test_an_epoch_has_its_own_pieces_and_what_is_measured_has_the_same_ones_every_time(
    teacher_of: Make, tokenizer: Any, texts: Make, tmp_path: Path
) -> None:
    teacher, seen = teacher_of(), {"train": [], "selection": []}
    rows, selection = (mixed_rows(texts(16, seed), teacher, tokenizer, 16) for seed in (0, 1))
    for name, data in (("train", rows), ("selection", selection)):
        data.set_epoch = lambda epoch, name=name, own=data: (seen[name].append(epoch), type(own).set_epoch(own, epoch))
    trainer = DistillationTrainer(
        convert(teacher, "2quad-freediv"),
        teacher,
        DistillationArguments(str(tmp_path), num_train_epochs=3, use_cpu=True),
        rows,
        selection_dataset=selection,
    )
    trainer.train()
    assert sorted(set(seen["train"])) == [0, 1, 2]
    assert set(seen["selection"]) == {0}


def test_the_best_checkpoint_is_chosen_on_training_rows_that_are_held_out(trainer_of: Make, rows_for: Make) -> None:
    trainer = trainer_of(selection_share=0.25, selection_limit=20)
    kept, held = trainer.train_dataset.indices, trainer.eval_dataset["selection"].indices
    assert sorted([*kept, *held]) == list(range(40))
    assert len(held) == 10
    again, other = (trainer_of(selection_share=0.25, selection_limit=20, seed=seed) for seed in (42, 1))
    assert again.eval_dataset["selection"].indices == held
    assert other.eval_dataset["selection"].indices != held
    assert len(trainer_of(selection_share=0.25, selection_limit=3).eval_dataset["selection"]) == 3


def test_the_teacher_is_untouched_bit_for_bit(trainer_of: Make) -> None:
    trainer = trainer_of(num_train_epochs=1)
    before = copy.deepcopy(trainer.teacher.state_dict())
    trainer.train()
    assert not trainer.teacher.training
    assert all(weight.grad is None for weight in trainer.teacher.parameters())
    for name, value in trainer.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_c_and_gamma_do_not_decay(trainer_of: Make) -> None:
    trainer = trainer_of(weight_decay=0.1)
    trainer.create_optimizer()
    decaying, constant = trainer.optimizer.param_groups
    assert (decaying["weight_decay"], constant["weight_decay"]) == (0.1, 0.0)
    ids = {id(weight) for weight in constant["params"]}
    for layer in trainer.model.bert.encoder.layer:
        assert {id(layer.attention.self.c), id(layer.attention.self.log_gamma)} <= ids
        assert id(layer.attention.self.query.weight) not in ids


def test_logits_count_after_a_third_of_the_steps(trainer_of: Make) -> None:
    trainer = trainer_of()
    trainer.train()
    logged = [("loss_logits" in entry) for entry in trainer.state.log_history if "loss_hidden" in entry]
    assert logged == [False] * 5 + [True] * 10


def test_each_stage_has_its_learning_rate(trainer_of: Make) -> None:
    rates = []
    for rate in (1.0, 0.5):
        trainer = trainer_of(logits_rate=rate, folder=f"run{rate}")
        trainer.train()
        rates.append([entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry])
    plain, staged = rates
    assert staged == pytest.approx([value * (1 if step < 5 else 0.5) for step, value in enumerate(plain)])


def test_at_most_a_fifth_of_a_short_run_is_warm_up() -> None:
    args = DistillationArguments("unused", use_cpu=True)
    assert (args.get_warmup_steps(100), args.get_warmup_steps(10_000)) == (20, 200)


def test_the_student_trains_without_dropout(trainer_of: Make) -> None:
    trainer = trainer_of()
    assert {module.p for module in trainer.model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert trainer.model.config.hidden_dropout_prob == 0.1  # what stands in the checkpoint is the teacher's


def test_a_public_table_stays_frozen(trainer_of: Make, teacher_of: Make) -> None:
    student = convert(teacher_of(), "2quad-freediv")
    student.config.mpcify["base"] = {"name": "base", "sha256": "0" * 64}
    table = student.get_input_embeddings().weight.detach().clone()
    trainer = trainer_of(student=student, num_train_epochs=1)
    trainer.train()
    assert torch.equal(student.get_input_embeddings().weight, table)


def test_a_diverging_run_stops_names_the_layer_and_keeps_the_last_checkpoint(trainer_of: Make) -> None:
    class Break(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
            if state.global_step == 7:
                model.bert.encoder.layer[1].output.dense.weight.data.fill_(float("nan"))

    trainer = trainer_of(callbacks=[Break()])
    with pytest.raises(MpcifyError, match=r"MPC-602 bert\.encoder\.layer\.1: training diverged at step 7"):
        trainer.train()
    assert (Path(trainer.args.output_dir) / "checkpoint-5" / "model.safetensors").is_file()


def test_an_exploding_run_stops_names_the_layer_and_keeps_the_last_checkpoint(trainer_of: Make) -> None:
    class Spoil(TrainerCallback):
        """From a step on, a layer's output is finite and far off."""

        def on_step_end(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
            if state.global_step >= 52:
                model.bert.encoder.layer[1].output.LayerNorm.weight.data.mul_(2.0)

    trainer = trainer_of(callbacks=[Spoil()], num_train_epochs=30, logits_after=0.0)
    with pytest.raises(MpcifyError, match=r"MPC-602 bert\.encoder\.layer\.1: .*the loss has grown 10 times"):
        trainer.train()
    assert 52 < trainer.state.global_step < 100
    assert trainer.state.best_global_step <= 55  # the best checkpoint outlives the spoilt ones
    assert (Path(trainer.state.best_model_checkpoint) / "model.safetensors").is_file()


def test_a_loss_explodes_only_against_the_same_stage() -> None:
    growth = Growth()
    assert not any(growth.exploded(loss, False) for loss in [100.0] * 5 + [1.0] * 200)
    assert not any(growth.exploded(loss, True) for loss in [50.0] * 100)  # other losses count: no comparison
    assert not growth.exploded(500.0, True)  # one bad step is no divergence
    assert any(growth.exploded(loss, True) for loss in [2000.0] * 20)
    growth = Growth()  # of a student that already answers as its teacher does
    assert not any(growth.exploded(loss, False) for loss in [1e-7] * 50 + [1e-4] * 50)


def test_regression_is_measured_by_the_mean_square(
    teacher_of: Make, rows_for: Make, tokenizer: Any, tmp_path: Path
) -> None:
    teacher = teacher_of(num_labels=1)
    rows = [{**row, "labels": index / 7} for index, row in enumerate(rows_for(teacher))]
    args = DistillationArguments(str(tmp_path), num_train_epochs=1, use_cpu=True)
    collate = DataCollatorWithPadding(tokenizer)
    trainer = DistillationTrainer(convert(teacher, "2quad-freediv"), teacher, args, rows, rows, data_collator=collate)
    trainer.train()
    measured = trainer.evaluate()
    assert {"eval_evaluation_pearson", "eval_evaluation_spearman", "eval_evaluation_divergence"} <= set(measured)


def test_rows_without_labels_train_and_are_measured_against_the_teacher(
    teacher_of: Make, rows_for: Make, tokenizer: Any, tmp_path: Path
) -> None:
    teacher = teacher_of()
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in rows_for(teacher)]
    args = DistillationArguments(str(tmp_path), num_train_epochs=1, use_cpu=True)
    collate = DataCollatorWithPadding(tokenizer)
    trainer = DistillationTrainer(convert(teacher, "2quad-freediv"), teacher, args, rows, data_collator=collate)
    trainer.train()
    measured = trainer.evaluate()
    assert "eval_selection_agreement" in measured
    assert "eval_selection_accuracy" not in measured


def test_stdout_stays_clean(trainer_of: Make, capfd: pytest.CaptureFixture[str]) -> None:
    trainer_of(num_train_epochs=1).train()
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 1/1 selection: divergence" in err
    assert "distillation, steps" not in err  # too short for that


def test_steps_are_told_now_and_then_where_nobody_watches(
    trainer_of: Make, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    made = trainer_of(num_train_epochs=1)
    made.train()
    steps = made.state.max_steps
    assert f"distillation, steps: {steps} of {steps}" in capfd.readouterr().err


def test_a_checkpoint_holds_no_arguments_and_loads_as_a_student(trainer_of: Make) -> None:
    trainer = trainer_of("vit", num_train_epochs=1)
    trainer.train()
    folder = Path(trainer.args.output_dir) / "checkpoint-5"
    assert not (folder / "training_args.bin").exists()
    found = weights_of(load(folder))
    assert all(torch.equal(value, found[name]) for name, value in weights_of(trainer.model).items())


def test_another_teacher_is_refused(teacher_of: Make, rows_for: Make, tmp_path: Path) -> None:
    student, other = convert(teacher_of("bert"), "2quad-freediv"), teacher_of("electra")
    with pytest.raises(MpcifyError, match="MPC-604"):
        DistillationTrainer(student, other, DistillationArguments(str(tmp_path), use_cpu=True), rows_for(other))


def test_one_row_is_too_few(teacher_of: Make, rows_for: Make, tmp_path: Path) -> None:
    teacher = teacher_of()
    args = DistillationArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(MpcifyError, match="MPC-108"):
        DistillationTrainer(convert(teacher, "2quad-freediv"), teacher, args, rows_for(teacher, 1))


def test_usual_training_arguments_keep_what_was_set(
    teacher_of: Make, rows_for: Make, tokenizer: Any, tmp_path: Path
) -> None:
    teacher = teacher_of("bert")
    student, rows = convert(teacher, "2quad-freediv"), rows_for(teacher)
    set_ranges(student, {"logits": {"value": (-1, 1)}})
    assert ranges_of(student)
    trainer = DistillationTrainer(
        student,
        teacher=teacher,
        args=TrainingArguments(str(tmp_path / "run"), num_train_epochs=1, weight_decay=0.01, use_cpu=True),
        train_dataset=rows,
        eval_dataset=rows[:8],
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    args = trainer.args
    assert (args.num_train_epochs, args.weight_decay, args.learning_rate) == (1, 0.01, 1e-4)
    assert args.output_dir == str(tmp_path / "run")
    trainer.train()
    found = ranges_of(student)
    assert "logits" in found, "those of the trained student"
    assert found["logits"]["value"] != (-1, 1)
