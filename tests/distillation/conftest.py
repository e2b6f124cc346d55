"""Tiny random teachers with tokenizers, and data for them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ViTImageProcessorPil

from mpcify.conversion.convert import convert
from mpcify.data.files import Examples
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
