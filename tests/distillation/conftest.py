"""Tiny random teachers with tokenizers, and data for them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    ViTImageProcessorPil,
    default_data_collator,
)

from mpcify.conversion.convert import convert
from mpcify.data.files import Examples
from mpcify.distillation.losses import LossWeights
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer
from tests.makers import NUMBERED, make_calm_teacher, make_fast_tokenizer, make_images, make_rows, make_texts


@pytest.fixture
def teacher_of() -> Callable[..., PreTrainedModel]:
    """A random teacher of a family, whose scores and activations are of ordinary size."""
    return make_calm_teacher


@pytest.fixture
def rows_for() -> Callable[..., list[dict[str, Any]]]:
    """Random rows for a model: texts of 5 to 12 tokens, or images; with labels."""
    return make_rows


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that treats pairs as BERT does."""
    return make_fast_tokenizer(NUMBERED)


@pytest.fixture
def texts() -> Callable[..., Examples]:
    """Random texts, or pairs, with labels."""
    return make_texts


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Examples]:
    """Random 8 × 8 images on disk, with labels."""
    return partial(make_images, tmp_path)


@pytest.fixture
def image_processor() -> ViTImageProcessorPil:
    """8 × 8 pixels of one channel."""
    return ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])


@pytest.fixture
def folders(teacher_of: Callable[..., PreTrainedModel], tokenizer: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A student's folder and its teacher's."""
    teacher = teacher_of()
    for name, model in (("teacher", teacher), ("student", convert(teacher, "2quad-freediv"))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return tmp_path / "student", tmp_path / "teacher"


@pytest.fixture
def trainer_of(
    teacher_of: Callable[..., PreTrainedModel], rows_for: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> Callable[..., DistillationTrainer]:
    """A trainer for a fresh student; more: DistillationArguments."""

    def make(
        family: str = "bert",
        recipe: str = "2quad-freediv",
        folder: str = "run",
        weights: LossWeights | None = None,
        student: PreTrainedModel | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **more: Any,
    ) -> DistillationTrainer:
        teacher = teacher_of(family)
        rows = rows_for(teacher)
        settings = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1}
        settings["selection_limit"] = 2  # 38 rows are taught: five steps an epoch
        return DistillationTrainer(
            convert(teacher, recipe) if student is None else student,
            teacher=teacher,
            args=DistillationArguments(str(tmp_path / folder), use_cpu=True, **{**settings, **more}),
            train_dataset=rows,
            eval_dataset=rows[:8],
            weights=weights,
            data_collator=default_data_collator if family == "vit" else DataCollatorWithPadding(tokenizer),
            callbacks=callbacks,
        )

    return make


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What remains is what the last step left, however good: to compare what trainings do."""
    monkeypatch.setattr(DistillationTrainer, "_load_best_model", lambda trainer: None)
    monkeypatch.setattr(DistillationTrainer, "start_is_best", lambda trainer: False)
