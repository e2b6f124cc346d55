"""A transformers.Trainer that makes a student match its teacher."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Sampler, Subset
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mpcify.conversion.batches import model_inputs
from mpcify.conversion.blocks import find_blocks
from mpcify.conversion.calibrate import refuse_other
from mpcify.conversion.convert import convert, extra_parameters, task_of
from mpcify.conversion.rows import calibration_batches, collator, lengths_taught, pick
from mpcify.conversion.student import student_config, update_config
from mpcify.distillation.bars import EpochProgress, without_bars
from mpcify.distillation.kept import changes
from mpcify.distillation.losses import LossWeights, answer_loss, losses, observe
from mpcify.distillation.lost import EXPLODED, Growth, furthest, not_finite
from mpcify.distillation.order import BatchesOfLikeLength, SameOrder
from mpcify.distillation.precision import Precision, native_precision
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.extras import require
from mpcify.graph.about import Task
from mpcify.lowering.calibrate import declare_ranges

START = "start"  # in the training folder: the student before training
DIVERGENCE = "eval_selection_divergence"
MEASURED = 1000  # rows that ranges are declared on
SHARE, FLOOR, LIMIT = 0.05, 16, 1000  # of the training data held out: a share, but rows at least and at most


@dataclass
class DistillationArguments(TrainingArguments):
    """transformers' TrainingArguments, with distillation's defaults and a few fields more.

    logits_after: the share of the steps on representations alone. logits_rate: the learning rate's factor from then on.
    selection_share, selection_limit: how much of the training data is held out to choose the best checkpoint on (see
    `held_out`), and how many rows at most. student_dropout: the student's, in training. precision: of the matrix
    products in training; `native_precision` if None. What is measured is measured in float32. Of a short run at most a
    fifth is warm-up.
    """

    learning_rate: float = 1e-4
    num_train_epochs: float = 6.0
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 64
    warmup_steps: float = 200
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    train_sampling_strategy: str = "group_by_length"
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "eval_selection_loss"
    greater_is_better: bool | None = False
    logging_steps: float = 50
    dataloader_pin_memory: bool = False
    disable_tqdm: bool | None = False
    use_cpu: bool = False
    report_to: str | list[str] | None = "none"
    logits_after: float = field(default=1 / 3, metadata={"help": "Share of the steps on representations alone."})
    logits_rate: float = field(default=1.0, metadata={"help": "Learning rate's factor once the logits count."})
    selection_share: float = field(default=SHARE, metadata={"help": "Share of the training data held out."})
    selection_limit: int = field(default=LIMIT, metadata={"help": "Most rows held out."})
    student_dropout: float = field(default=0.0, metadata={"help": "The student's dropout in training."})
    precision: Precision | None = field(default=None, metadata={"help": "Of the matrix products in training."})

    def __post_init__(self) -> None:
        require("accelerate")
        # processes meet on CPUs only if the arguments say so
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        self._n_gpu = min(self.n_gpu, 1)  # DataParallel's replicas hide the modules that the losses watch
        self.precision = self.precision or native_precision(self.device)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """The steps in which the learning rate rises."""
        return min(super().get_warmup_steps(num_training_steps), num_training_steps // 5)


def with_defaults(args: TrainingArguments) -> DistillationArguments:
    """DistillationArguments as they are; of other TrainingArguments what was set, the rest as distillation has it."""
    if isinstance(args, DistillationArguments):
        return args
    usual = TrainingArguments(output_dir=args.output_dir)
    names = [item.name for item in fields(TrainingArguments) if item.init]
    chosen = {name: getattr(args, name) for name in names if getattr(args, name) != getattr(usual, name)}
    return DistillationArguments(**{"output_dir": args.output_dir, **chosen})


class DistillationTrainer(Trainer):
    """Trains a student on the losses of `LossWeights`; labels are used for reports alone.

    The first `logits_after` of the steps count representations, the rest the logits too. Before training and after each
    epoch the student is measured on `selection_dataset` and on `eval_dataset`. What is kept is the checkpoint after an
    epoch with the least loss on the former, all losses counted: the representations of all its tokens say more than a
    few hundred answers; or the start, if that checkpoint has neither less loss nor less divergence there. A warning
    says that the start is kept, or in what the checkpoint is worse than it. Nothing is chosen on `eval_dataset`.
    config.json then says what a checkpoint that is kept was taught on (`taught`); of the start it says what it said. A
    checkpoint can be resumed: `train(resume_from_checkpoint=True)`. The teacher is put into evaluation mode and on the
    student's device, and not changed otherwise. `compute_metrics` gets the student's logits as predictions and (the
    teacher's logits, labels if there are any) as label_ids.

    datasets: rows as dicts of `input_ids`, `attention_mask` … or `pixel_values`, and perhaps `labels`; one with a
    method `set_epoch` may have other rows each epoch, if a selection_dataset is given. selection_dataset: if None, a
    part of the training data, by seed, which is then held out. range_dataset: what the student's ranges are declared on
    once it is trained; 1,000 rows of the training data if None.
    Raises MPC-204 and MPC-604 for models that do not fit, MPC-602, with the layer's name, if the loss is
    not finite or explodes.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        args: TrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        weights: LossWeights | None = None,
        range_dataset: Dataset | None = None,
        selection_dataset: Dataset | None = None,
        **options: Any,
    ) -> None:
        refuse_other(teacher, student)
        args = with_defaults(args)
        self.weights = LossWeights() if weights is None else weights
        self.layers = find_blocks(student)
        self.task = task_of(student.config, type(student).__name__)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = args.student_dropout
        if student_config(student).base is not None:
            student.get_input_embeddings().weight.requires_grad_(False)
        if student.main_input_name != "input_ids":
            args = copy.copy(args)  # images are all of one length
            args.train_sampling_strategy = "random"
        rows: Any = train_dataset
        if selection_dataset is None:
            kept, held = hold_out(len(rows), args)
            rows, selection_dataset = Subset(rows, kept), Subset(rows, held)
        evaluated = eval_dataset if isinstance(eval_dataset, Mapping) else {"evaluation": eval_dataset}
        evaluated = {
            "selection": selection_dataset,
            **{name: data for name, data in evaluated.items() if data is not None},
        }
        super().__init__(
            student,
            args,
            train_dataset=rows,
            eval_dataset=evaluated,
            **{"compute_metrics": self.metrics_of, "data_collator": collator(student), **options},
        )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        if not args.disable_tqdm and args.process_index == 0:
            self.add_callback(EpochProgress)
        # only an exact student gives raw scores; without them the teacher runs as it is, which is faster
        self.teacher = convert(teacher, "exact") if self.weights.scores else teacher
        self.teacher.eval().to(self.args.device)
        self.model_accepts_loss_kwargs = False  # our losses are means over a batch
        self.sums: dict[str, Tensor] = {}
        self.sum_count = 0
        self.growth = Growth()
        drawn = Subset(rows, pick(len(rows), MEASURED, args.seed))
        self.range_dataset = drawn if range_dataset is None else range_dataset
        self.asked_to_measure = args.eval_on_start

    def train(self, *args: Any, **options: Any) -> Any:
        """Trains as Trainer does, and records what the student was taught on, and the ranges of its values."""
        taught = lengths_taught(self.train_dataset)
        start = Path(self.args.output_dir) / START
        begins = not (options.get("resume_from_checkpoint") or (args and args[0]))
        keeps = begins and self.args.load_best_model_at_end
        self.args.eval_on_start = keeps or self.asked_to_measure
        if keeps and self.args.process_index == 0:
            self._save(str(start))
        result = super().train(*args, **options)
        if self.args.load_best_model_at_end and self.start_is_best():
            self._load_from_checkpoint(str(start))
            self.state.best_global_step = 0
            self.state.best_metric = self.measured_at(0)[str(self.args.metric_for_best_model)]
        else:
            update_config(self.model, taught=taught)
        if self.args.load_best_model_at_end and (said := self.setback()):
            warnings.warn(MpcifyWarning(f"training: {said}; try a lower learning rate, or more texts"), stacklevel=2)
        rows: Any = self.range_dataset
        collate = self._get_collator_with_removed_columns(self.data_collator)
        declare_ranges(self.model, calibration_batches(rows, range(len(rows)), collate))
        return result

    def measured_at(self, step: int | None) -> dict[str, float]:
        """All that was measured after a step."""
        return {
            name: value for entry in self.state.log_history if entry["step"] == step for name, value in entry.items()
        }

    def setback(self) -> str:
        """What a warning says if training made the student worse: that the start is kept, or what suffered; or ""."""
        if self.state.best_global_step == 0:
            return "no checkpoint has less loss on the rows held out than the student before training, which is kept"
        start, best = (
            {name.removeprefix("eval_"): value for name, value in self.measured_at(step).items()}
            for step in (0, self.state.best_global_step)
        )
        worse = ", ".join(words for words, worse in changes(start, best) if worse)
        return worse and f"the checkpoint that is kept is worse than the student before training: {worse}"

    def start_is_best(self) -> bool:
        """Whether the best checkpoint has neither less loss nor less divergence than the student before training.

        Calibration fits the hidden states, training the answers too: it may end with less divergence and larger losses.
        """
        start, best = self.measured_at(0), self.measured_at(self.state.best_global_step)
        rising = bool(self.args.greater_is_better)
        names = {str(self.args.metric_for_best_model): rising, DIVERGENCE: False}
        known = [(start[name], best[name], up) for name, up in names.items() if name in start and name in best]
        return bool(known) and not any(after > before if up else after < before for before, after, up in known)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum of the losses that count at this step; with the student's and the teacher's logits if asked."""
        inputs = model_inputs(self.model, inputs)
        narrow = model.training and self.args.precision == "bfloat16"
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=narrow):
            with torch.no_grad():
                theirs = observe(self.teacher, self.teacher, self.layers, inputs)
            ours = observe(model, self.model, self.layers, inputs)
        real = inputs.get("attention_mask", torch.ones(ours.hidden[0].shape[:2], device=ours.logits.device)) > 0
        terms = losses(self.weights, ours, theirs, real, self.task)
        if model.training and self.state.global_step < self.args.logits_after * self.state.max_steps and len(terms) > 1:
            terms.pop("logits", None)
        loss = torch.stack(list(terms.values())).sum()
        if model is not self.model:  # processes that train together wait for every gradient, the head's too
            loss = loss + 0 * ours.logits.sum()
        if not torch.isfinite(loss):
            raise self.diverged(not_finite(ours, real), "values are not finite")
        if model.training and self.growth.exploded(float(loss.detach()), "logits" in terms):
            raise self.diverged(furthest(ours, theirs, real), f"the loss has grown {EXPLODED:g} times")
        if model.training:
            for name, term in terms.items():
                self.sums[name] = self.sums.get(name, torch.zeros_like(loss)) + term.detach()
            self.sum_count += 1
        return (loss, {"logits": ours.logits, "teacher": theirs.logits}) if return_outputs else loss

    def diverged(self, call: int | None, why: str) -> MpcifyError:
        """The error for a run that diverges. call: which call of an encoder layer is to blame."""
        paths = [blocks.site.layer for blocks in self.layers for _ in range(blocks.calls)]
        return MpcifyError(
            602,
            "the loss" if call is None else paths[call],
            f"training diverged at step {self.state.global_step}: {why}",
            f"start again with a lower learning rate; {self.args.output_dir} keeps its checkpoints",
        )

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, Any, Any]:
        """The loss, the student's logits, and what they are measured against: the teacher's logits, and labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        labels = inputs.get("labels")
        targets = (outputs["teacher"],) if labels is None else (outputs["teacher"], labels)
        return loss.detach(), outputs["logits"].detach(), targets

    def metrics_of(self, prediction: EvalPrediction) -> dict[str, float]:
        """Divergence and agreement with the teacher, and the metrics against the labels if there are any."""
        ours = np.asarray(prediction.predictions)
        theirs, *labels = prediction.label_ids
        found: dict[str, float | None] = {
            "divergence": float(divergence(torch.tensor(ours), torch.tensor(theirs), self.task)),
            "agreement": self.task.agreement(ours, theirs),
        }
        if labels:
            found |= self.task.metrics(ours, labels[0]).to_json()
        return {name: value for name, value in found.items() if value is not None}

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Batches of like length in random order: Trainer's own come by falling length, and the student forgets."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        sampler = BatchesOfLikeLength(dataset, together)
        return sampler if self.args.world_size == 1 else SameOrder(sampler, self.args.device)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Which weights decay; c and log γ never do: they barely leave the values that calibration gives them."""
        own = extra_parameters(model)
        return [name for name in super().get_decay_parameter_names(model) if name not in own]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the arguments, times `logits_rate` once the logits count."""
        fresh = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if fresh and self.args.logits_rate != 1 and isinstance(scheduler, LambdaLR):
            stage, rate = self.args.logits_after * num_training_steps, self.args.logits_rate

            def staged(factor: Callable[[int], float]) -> Callable[[int], float]:
                return lambda step: factor(step) * (rate if step >= stage else 1.0)

            scheduler.lr_lambdas = [staged(factor) for factor in scheduler.lr_lambdas]
        return scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds each loss's mean since the last log, as `loss_hidden` and so on."""
        if "loss" in logs and self.sum_count:
            logs |= {f"loss_{name}": float(term) / self.sum_count for name, term in self.sums.items()}
            self.sums, self.sum_count = {}, 0
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Writes a checkpoint under the names that Trainer loads it by: ViT's older names would restore nothing."""
        folder = Path(output_dir or self.args.output_dir)
        with without_bars():
            self.model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)


def held_out(count: int, share: float = SHARE, limit: int = LIMIT) -> int:
    """How many of so many rows are held out: min(max(share · count, min(16, count/4), 1), limit)."""
    return min(max(int(count * share), min(FLOOR, count // 4), 1), limit)


def hold_out(count: int, args: DistillationArguments) -> tuple[list[int], list[int]]:
    """The rows to train on, and those to choose the best checkpoint on. Raises MPC-108 for fewer than two rows."""
    if count < 2:
        raise MpcifyError(108, "the training data", f"{count} rows are too few to hold one out", "give more rows")
    held = held_out(count, args.selection_share, args.selection_limit)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(args.seed)).tolist()
    return sorted(order[held:]), sorted(order[:held])


def divergence(ours: Tensor, theirs: Tensor, task: Task) -> Tensor:
    """How much larger the loss of the answers is than the teacher's own would be: KL(teacher ‖ student), or the MSE."""
    loss = answer_loss(task)
    return loss(ours, theirs) - loss(theirs, theirs)
