"""From a converted student to a distilled one, in one call: calibrate, train, choose the best, save."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.calibrate import fit_layers, refuse_other
from mpcify.conversion.convert import encoder_layers, load, load_model, recipe_of, task_of
from mpcify.conversion.facts import weights_digest
from mpcify.conversion.folder import copy_companions, new_folder
from mpcify.conversion.processors import read_processor
from mpcify.data.files import Examples
from mpcify.data.metrics import agreement, metrics
from mpcify.distillation.base import freeze_base
from mpcify.distillation.card import card
from mpcify.distillation.rows import LONGEST, calibration_batches, collator, pick, rows_of, usable_labels
from mpcify.distillation.settings import Distilled, Settings
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer, without_bars
from mpcify.errors import MpcifyError
from mpcify.proof import prove_equal

RUN = "distillation.json"  # in the training folder: what a run that is resumed must share
SIGMAS = 2.33  # of the normal distribution: one of a hundred lies below
STATE = "trainer_state.json"  # Trainer writes it last, so a checkpoint that has it is whole

Model: TypeAlias = str | Path | PreTrainedModel


def distill(
    student: Model,
    teacher: Model,
    train: Examples,
    evaluation: Examples,
    out: str | Path,
    settings: Settings | None = None,
    *,
    processor: Any = None,
    resume: bool = False,
    command: str | None = None,
) -> Distilled:
    """Distills a student from its teacher, and writes it to OUT, whole or not at all.

    Takes over the base's table, calibrates unless config.json says that it is done, trains, takes the checkpoint of
    least loss on a part of the training data held out, declares the ranges that it meets, and writes model, tokenizer
    or image processor, and card. Labels of `train` only check the teacher, if they are the model's. Checkpoints live in
    OUT-training until OUT is written; `resume` goes on from the last whole one, and ends with the weights of an
    uninterrupted run. A student that is given as a model is trained in place.

    processor: the tokenizer or image processor, where not the one beside the student. command: for the card.
    Raises MPC-109 where OUT is taken, MPC-208 without a processor, MPC-601 where a run cannot be resumed, MPC-901 for a
    device that is not there, and what `freeze_base`, `calibrate`, `rows_of`, `refuse_chance` and
    DistillationTrainer raise.
    """
    began, out = time.monotonic(), Path(out)
    settings = (settings or Settings()).for_rows(len(train))
    refuse_taken(out)
    source, teacher_source = (name_of(model) for model in (student, teacher))
    student = load(student) if isinstance(student, str | Path) else student
    teacher = load_model(teacher) if isinstance(teacher, str | Path) else teacher
    encoder_layers(student)
    refuse_other(teacher, student)
    processor = read_processor(source, student) if processor is None else processor
    train = usable_labels(train, student)
    rows, evaluation_rows = (rows_of(data, student, processor, settings.max_length) for data in (train, evaluation))
    args = arguments(settings, out)
    run = fingerprint(student, teacher, train, settings)
    if settings.base is not None:
        freeze_base(student, settings.base, processor)
    prove_equal(student, processor=processor)
    checkpoint = take_up(Path(args.output_dir), run, resume)
    collate, chosen = collator(student), pick(len(train), settings.calibration, settings.seed)
    if checkpoint is not None:
        student.config.mpcify = {**student.config.mpcify, "calibrated": True, "refit": True}
    else:
        refuse_chance(teacher.to(args.device), train.source, calibration_batches(rows, chosen, collate, labels=True))
    if not (student.config.mpcify["calibrated"] and student.config.mpcify.get("refit")):
        device = "cpu" if args.device.type == "mps" else args.device  # mps has no float64, which the refit needs
        student.to(device), teacher.to(device)
        fit_layers(student, calibration_batches(rows, chosen, collate), teacher)
    trainer = DistillationTrainer(
        student,
        teacher,
        args,
        rows,
        evaluation_rows,
        weights=settings.weights,
        range_dataset=rows_of(train.select(chosen), student, processor, LONGEST),
        data_collator=collate,
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    result = measure(trainer, train, evaluation, evaluation_rows, str(out), short(teacher_source), began)
    student.to("cpu").eval()
    versions = {package: version(package) for package in ("mpcify", "torch", "transformers")}
    with new_folder(out) as folder, without_bars():
        student.save_pretrained(folder)
        if Path(source).is_dir():
            copy_companions(source, folder)
        else:
            processor.save_pretrained(folder)
        text = card(result, settings, recipe_of(student), versions, command)
        (folder / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(args.output_dir, ignore_errors=True)
    return result


def measure(
    trainer: DistillationTrainer,
    train: Examples,
    evaluation: Examples,
    evaluation_rows: Any,
    model: str,
    teacher_model: str,
    began: float,
) -> Distilled:
    """What came of a training. began: when, by `time.monotonic`."""
    student = trainer.model
    predicted = trainer.predict(evaluation_rows)
    theirs, *labels = predicted.label_ids
    teacher_metrics, student_metrics = (
        metrics(logits, labels[0], trainer.regression).to_json() if labels else {}
        for logits in (theirs, predicted.predictions)
    )
    return Distilled(
        model=model,
        recipe=recipe_of(student).name,
        task=task_of(student.config, type(student).__name__),
        teacher_model=teacher_model,
        teacher=teacher_metrics,
        student=student_metrics,
        agreement=agreement(predicted.predictions, theirs, trainer.regression),
        examples=len(evaluation),
        evaluation_source=short(evaluation.source),
        train_examples=len(train),
        train_source=short(train.source),
        held_out=len(trainer.eval_dataset["selection"]),
        best_epoch=best_epoch(trainer),
        epochs=measured_epochs(trainer),
        base=student.config.mpcify.get("base"),
        seconds=time.monotonic() - began,
    )


@torch.no_grad()
def refuse_chance(teacher: PreTrainedModel, source: str, batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Raises MPC-605 where a teacher is worse than chance on labelled training examples: its labels mean another thing.

    Worse than chance is an accuracy below p − 2.33 √(p(1 − p)/N), p = 1/labels, or for regression a Pearson correlation
    below −2.33/√N: by chance so low in one of a hundred cases.
    """
    if "labels" not in batches[0]:
        return
    teacher.eval()
    labels = np.concatenate([batch["labels"].numpy() for batch in batches])
    inputs = ({name: value for name, value in batch.items() if name != "labels"} for batch in batches)
    answers = (teacher(**{name: value.to(teacher.device) for name, value in batch.items()}).logits for batch in inputs)
    logits = np.concatenate([values.float().cpu().numpy() for values in answers])
    regression = task_of(teacher.config, type(teacher).__name__) == "regression"
    found = metrics(logits, labels, regression)
    share = 1 / teacher.config.num_labels
    spread = SIGMAS * math.sqrt((1.0 if regression else share * (1 - share)) / len(labels))
    name, value, least = (
        ("correlation", found.pearson, -spread) if regression else ("accuracy", found.accuracy, share - spread)
    )
    if value is not None and value < least:
        what = f"the teacher's {name} on {len(labels)} of these examples is {value:.3f}, worse than chance"
        raise MpcifyError(605, source, what, "check that the labels are numbered as the teacher numbers them")


def refuse_taken(out: Path) -> None:
    """Raises MPC-109 where something stands under a name that is to be written: before hours of training, not after."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MpcifyError(109, str(out), "something is there already", "name a new folder")


def name_of(model: Model) -> str:
    """A model's folder or hub name."""
    return str(model) if isinstance(model, str | Path) else str(model.name_or_path or type(model).__name__)


def short(source: str) -> str:
    """A hub name or a data set's as it is, a path's last part: a card tells nothing of the machine."""
    return Path(source).resolve().name if Path(source).exists() else source


def arguments(settings: Settings, out: Path) -> DistillationArguments:
    """The trainer's arguments. Raises MPC-901 for a device that is not there."""
    assert settings.epochs is not None, "for_rows says how many"
    args = DistillationArguments(
        output_dir=f"{out.resolve()}-training",
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        seed=settings.seed,
        use_cpu=settings.device == "cpu",
    )
    if settings.device not in (None, args.device.type):
        where = f"device {settings.device}"
        raise MpcifyError(901, where, "it is not there", f"leave it out, or use {args.device.type}")
    return args


def fingerprint(
    student: PreTrainedModel, teacher: PreTrainedModel, train: Examples, settings: Settings
) -> dict[str, Any]:
    """What decides the weights that a run ends with: settings, and digests of the models and of the training data."""
    digests = {"student": weights_digest(student), "teacher": weights_digest(teacher)}
    texts = "\0".join(str(text) if isinstance(text, str | tuple | Path) else "" for text in train.texts)
    digests["training data"] = hashlib.sha256(texts.encode()).hexdigest()
    return digests | {name: value for name, value in settings.to_json().items() if name != "device"}


def take_up(folder: Path, run: dict[str, Any], resume: bool) -> Path | None:
    """Prepares the training folder; the last whole checkpoint in it where the run is resumed and has one.

    Raises MPC-601 where there is nothing to resume, another run's checkpoints, or a run left unfinished that is not to
    be resumed; MPC-109 where the folder holds something else.
    """
    record = folder / RUN
    if not record.is_file():
        refuse_taken(folder)
        if resume:
            raise MpcifyError(601, str(folder), "there is no run to resume", "start it without --resume")
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(run), encoding="utf-8")
        return None
    found = sorted(folder.glob(f"checkpoint-*/{STATE}"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not resume and found:
        raise MpcifyError(601, str(folder), "a run was left unfinished there", "add --resume, or remove the folder")
    before = json.loads(record.read_text(encoding="utf-8")) if found else run
    changed = [name for name in run if before.get(name) != json.loads(json.dumps(run[name]))]
    if found and changed:
        remedy = "resume with what the run was started with, or remove the folder"
        raise MpcifyError(601, str(folder), f"the run was started with another {changed[0]}", remedy)
    record.write_text(json.dumps(run), encoding="utf-8")
    return found[-1].parent if found else None


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
