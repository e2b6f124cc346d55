"""From a converted student to a distilled one, in one call: calibrate, train, choose the best, save."""

import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.calibrate import calibrate_layers, refuse_other
from mpcify.conversion.convert import load, load_model, task_of
from mpcify.conversion.facts import model_digest, takes_images
from mpcify.conversion.folder import copy_companions
from mpcify.conversion.processors import processor_digest, read_processor
from mpcify.conversion.rows import batches_of, collator, lengths_taught
from mpcify.conversion.student import recipe_name, recipe_of, student_config, update_config
from mpcify.data.files import Examples
from mpcify.distillation.bars import without_bars
from mpcify.distillation.base import freeze_base
from mpcify.distillation.card import card
from mpcify.distillation.data import Data, prepare
from mpcify.distillation.resume import look, take_up, training_folder
from mpcify.distillation.settings import Distilled, Settings
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer, held_out
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.files import new_folder, refuse_taken
from mpcify.launch import Launch, read_launch
from mpcify.lowering.prove import prove_equal

SIGMAS = 2.33  # of the normal distribution: one of a hundred lies below

Model: TypeAlias = str | Path | PreTrainedModel


@contextmanager
def together() -> Iterator[None]:
    """While open, a connection to another process of the launch that breaks is MPC-606: that process has ended."""
    try:
        yield
    except RuntimeError as problem:
        broken = isinstance(problem, torch.distributed.DistError) or "gloo" in str(problem)
        if not broken or read_launch().size == 1:
            raise
        remedy = "look for its error, and start the run again with --resume"
        raise MpcifyError(606, "training", "another process of the run ended", remedy) from problem


@together()
def distill(
    student: Model,
    teacher: Model,
    train: Examples,
    evaluation: Examples,
    out: str | Path,
    settings: Settings | None = None,
    *,
    texts: Examples | None = None,
    processor: Any = None,
    resume: bool = False,
    command: str | None = None,
) -> Distilled:
    """Distills a student from its teacher, and writes it to OUT, whole or not at all.

    Takes over the base's table, calibrates unless config.json says that it is done, trains on the training texts and on
    pieces of them (see `mixed_rows`), keeps the checkpoint of least loss on a part of both held out, or the calibrated
    student (see `DistillationTrainer`), declares the ranges of its values, and writes model, tokenizer or image
    processor, and card. Labels of `train`, if they are the model's, else of `evaluation`, check the teacher.
    Checkpoints live in OUT-training until OUT is written; `resume` goes on from the last whole one, and ends with the
    weights of an uninterrupted run. A student that is given as a model is trained in place.

    Started by torchrun or accelerate launch, all processes train together, each on its part of every batch (of
    `settings.batch_size` rows in all) and to the same weights; the first of them writes. All need the same folders.

    texts: others, of the domain or general: half of the pieces come from them. processor: the tokenizer or image
    processor, if not the one beside the student. command: for the card.
    Raises MPC-109 if OUT is taken, MPC-208 without a processor, MPC-601 if a run cannot be resumed, MPC-606 for a
    parallel run that no launcher started or that lost a process, MPC-901 for a device that is not there, and what
    `freeze_base`, `calibrate_layers`, `rows_of`, `refuse_chance` and DistillationTrainer raise.
    """
    began, out, launch = time.monotonic(), Path(out), read_launch()
    refuse_taken(out)
    source, teacher_source = (name_of(model) for model in (student, teacher))
    before, found = look(training_folder(out), resume)
    student = load(student) if isinstance(student, str | Path) else student
    teacher = load_model(teacher) if isinstance(teacher, str | Path) else teacher
    student_config(student)  # it is a student
    refuse_other(teacher, student)
    rows = (len(train) - held_out(len(train))) * (1 if takes_images(student) else 2)  # pieces counted
    settings = (settings or Settings()).resumed(before).for_rows(rows)
    processor = read_processor(source, student) if processor is None else processor
    args = arguments(settings, out, launch)
    settings = replace(settings, precision=args.precision)
    data = prepare(train, texts, evaluation, student, processor, settings, args)
    run = fingerprint(student, teacher, processor, train, texts, settings) | {"number of rows held out": data.held_out}
    calibrated = student_config(student).calibrated
    if settings.base is not None:
        freeze_base(student, settings.base, processor)
    prove_equal(student, processor=processor)
    if found is None:
        refuse_chance(teacher.to(args.device), data.asked.source, batches_of(data.labelled, student, labels=True))
        if calibrated and not student_config(student).calibrated:
            what = "its word table takes the place of the student's, which was calibrated: that is done again"
            warnings.warn(MpcifyWarning(f"{settings.base}: {what}"), stacklevel=2)
    checkpoint = take_up(Path(args.output_dir), run, resume, write=launch.rank == 0)
    calibrate(student, teacher, data, args.device, done=checkpoint is not None)
    trainer = DistillationTrainer(
        student,
        teacher,
        args,
        data.taught,
        data.measured,
        weights=settings.weights,
        range_dataset=data.ranges,
        selection_dataset=data.selection,
        data_collator=collator(student),
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    result = outcome(trainer, data, settings, str(out), short(teacher_source), began)
    student.to("cpu").eval()
    if launch.rank == 0:
        write(out, student, source, processor, lambda: card(result, settings, recipe_of(student), versions(), command))
        shutil.rmtree(args.output_dir, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return result


def calibrate(
    student: PreTrainedModel, teacher: PreTrainedModel, data: Data, device: torch.device, done: bool = False
) -> None:
    """Brings a student near its teacher before it is trained, unless config.json says that it is done.

    done: whether the run that goes on has done it, so that the weights are in its checkpoint.
    """
    if student_config(student).calibrated and student_config(student).refit:
        return
    if not done:
        where = "cpu" if device.type == "mps" else device  # mps has no float64, which regression needs
        student.to(where), teacher.to(where)
        calibrate_layers(student, batches_of(data.calibration, student), teacher)
    update_config(student, calibrated=True, refit=True, taught=lengths_taught(data.calibration))


def write(out: Path, student: PreTrainedModel, source: str, processor: Any, text: Callable[[], str]) -> None:
    """Writes a student, what stands beside it and its card (`text`), whole or not at all."""
    with new_folder(out) as folder, without_bars():
        student.save_pretrained(folder)
        if Path(source).is_dir():
            copy_companions(source, folder)
        else:
            processor.save_pretrained(folder)
        (folder / "README.md").write_text(text(), encoding="utf-8")


def versions() -> dict[str, str]:
    """What made a student."""
    return {package: version(package) for package in ("mpcify", "torch", "transformers")}


def outcome(
    trainer: DistillationTrainer, data: Data, settings: Settings, model: str, teacher_model: str, began: float
) -> Distilled:
    """What came of a training. began: when, by `time.monotonic`."""
    student = trainer.model
    predicted = trainer.predict(data.measured)
    theirs, *labels = predicted.label_ids
    teacher_metrics, student_metrics = (
        trainer.task.metrics(logits, labels[0]).to_json() if labels else {}
        for logits in (theirs, predicted.predictions)
    )
    return Distilled(
        model=model,
        recipe=recipe_name(student),
        task=trainer.task,
        teacher_model=teacher_model,
        teacher=teacher_metrics,
        student=student_metrics,
        agreement=trainer.task.agreement(predicted.predictions, theirs),
        examples=len(data.evaluation),
        evaluation_source=short(data.evaluation.source),
        train_examples=len(data.train),
        train_source=short(data.train.source),
        held_out=data.held_out,
        general_texts=0 if data.texts is None else len(data.texts),
        best_epoch=best_epoch(trainer) * settings.repeats,
        epochs=[{**entry, "epoch": entry["epoch"] * settings.repeats} for entry in measured_epochs(trainer)],
        base=student_config(student).base,
        seconds=time.monotonic() - began,
    )


@torch.no_grad()
def refuse_chance(teacher: PreTrainedModel, source: str, batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Raises MPC-605 if a teacher is worse than chance on labelled examples: its labels mean another thing.

    Worse than chance is an accuracy below p − 2.33 √(p(1 − p)/N), p = 1/labels, or for regression a Pearson correlation
    below −2.33/√N: by chance so low in one of a hundred cases. Up to p + 2.33 √(p(1 − p)/N), p the share of the most
    frequent label (or 2.33/√N), guessing is not excluded, and a warning says so.
    """
    if "labels" not in batches[0]:
        return
    teacher.eval()
    labels = np.concatenate([batch["labels"].numpy() for batch in batches])
    inputs = ({name: value for name, value in batch.items() if name != "labels"} for batch in batches)
    answers = (teacher(**{name: value.to(teacher.device) for name, value in batch.items()}).logits for batch in inputs)
    logits = np.concatenate([values.float().cpu().numpy() for values in answers])
    task = task_of(teacher.config, type(teacher).__name__)
    name, value, (even, spread), (most, width) = task.guessed(task.metrics(logits, labels), labels)
    if value is None:
        return
    sigmas = SIGMAS / len(labels) ** 0.5
    what = f"the teacher's {name} on {len(labels)} of these examples is {value:.3f}"
    if value < even - spread * sigmas:
        what = f"{what}, worse than chance"
        raise MpcifyError(605, source, what, "check that the labels are numbered as the teacher numbers them")
    if value <= most + width * sigmas:
        what = f"{what}, no more than guessing may give (about {most:.3f})"
        what = f"{what}: if it guesses, a student learns nothing of use from it"
        warnings.warn(MpcifyWarning(f"{source}: {what}"), stacklevel=2)


def name_of(model: Model) -> str:
    """A model's folder or hub name."""
    return str(model) if isinstance(model, str | Path) else str(model.name_or_path or type(model).__name__)


def short(source: str) -> str:
    """A hub name or a data set's as it is, a path's last part: a card says nothing of the machine."""
    return Path(source).resolve().name if Path(source).exists() else source


def arguments(settings: Settings, out: Path, launch: Launch) -> DistillationArguments:
    """The trainer's arguments; the processes of a launch meet here.

    Raises MPC-606 for a batch that does not divide among them, MPC-901 for a device that is not there.
    """
    assert settings.epochs is not None, "for_rows says how many"
    if settings.batch_size % launch.size:
        what = f"a batch of {settings.batch_size} does not divide among {launch.size} processes"
        raise MpcifyError(606, "batch size", what, f"use a multiple of {launch.size}")
    with mortal() if launch.size > 1 else nullcontext():
        args = DistillationArguments(
            output_dir=str(training_folder(out)),
            num_train_epochs=settings.epochs / settings.repeats,
            learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size // launch.size,
            seed=settings.seed,
            use_cpu=settings.device == "cpu",
            precision=settings.precision,
        )
    if args.world_size != launch.size:
        what = f"{launch.size} processes were launched, and {args.world_size} train together on {args.device.type}"
        raise MpcifyError(606, "environment", what, "start one process, or use --device cpu")
    if settings.device not in (None, args.device.type):
        where = f"device {settings.device}"
        raise MpcifyError(901, where, "it is not there", f"leave it out, or use {args.device.type}")
    return args


@contextmanager
def mortal() -> Iterator[None]:
    """While open, signals end the process at once: it waits for its peers deaf to Python, and has written nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    before = {name: handler for name, handler in before.items() if callable(handler)}  # not those ignored
    for name in before:
        signal.signal(name, signal.SIG_DFL)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def fingerprint(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    processor: Any,
    train: Examples,
    texts: Examples | None,
    settings: Settings,
) -> dict[str, Any]:
    """What decides the weights that a run ends with: settings, and digests of models, inputs and training data."""
    digests = {"student": model_digest(student), "teacher": model_digest(teacher)}
    digests["image processor" if takes_images(student) else "tokenizer"] = processor_digest(student, processor)
    digests["training data"] = train.digest() if texts is None else f"{train.digest()} {texts.digest()}"
    return digests | {name: value for name, value in settings.to_json().items() if name != "device"}


def best_epoch(trainer: DistillationTrainer) -> float:
    """The epoch whose checkpoint was chosen."""
    best = trainer.state.best_global_step
    epochs = [entry["epoch"] for entry in trainer.state.log_history if entry["step"] == best]
    return float(epochs[0]) if epochs else float(trainer.state.epoch or 0)


def measured_epochs(trainer: DistillationTrainer) -> list[dict[str, float]]:
    """What was measured after each epoch, on the rows held out and on the evaluation examples."""
    epochs: dict[float, dict[str, float]] = {}
    for entry in trainer.state.log_history:
        values = {
            name.removeprefix("eval_"): value
            for name, value in entry.items()
            if name.startswith("eval_") and not name.endswith(("runtime", "per_second", "time"))
        }
        if values:
            epochs.setdefault(entry["epoch"], {"epoch": entry["epoch"]}).update(values)
    return list(epochs.values())
