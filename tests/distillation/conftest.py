"""Tiny random teachers with tokenizers, and data for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from mpcify.data.files import Examples

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{index}" for index in range(28)))
SHAPE = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 40}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT |= {"image_size": 8, "patch_size": 2, "num_channels": 1}
FAMILIES: dict[str, Callable[..., PreTrainedModel]] = {
    "bert": lambda **more: BertForSequenceClassification(BertConfig(**SHAPE, **more)),
    "roberta": lambda **more: RobertaForSequenceClassification(RobertaConfig(**SHAPE, **more)),
    "electra": lambda **more: ElectraForSequenceClassification(ElectraConfig(**SHAPE, embedding_size=8, **more)),
    "distilbert": lambda **more: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=len(WORDS), **DISTILBERT, **more)
    ),
    "vit": lambda **more: ViTForImageClassification(ViTConfig(**VIT, **more)),
}


@pytest.fixture
def teacher_of() -> Callable[..., PreTrainedModel]:
    """A random teacher of a family, whose scores and activations are of ordinary size."""

    def make(family: str = "bert", **more: Any) -> PreTrainedModel:
        torch.manual_seed(0)
        model = FAMILIES[family](**more).eval()
        for weight in model.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.2)
        return model

    return make


@pytest.fixture
def rows_for() -> Callable[..., list[dict[str, Any]]]:
    """Random rows for a model: texts of 5 to 12 tokens, or images; with labels."""

    def make(model: PreTrainedModel, count: int = 40) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(1)
        if model.main_input_name == "pixel_values":
            images = torch.randn(count, 1, 8, 8, generator=generator)
            return [{"pixel_values": image, "labels": index % 2} for index, image in enumerate(images)]
        rows = []
        for index in range(count):
            ids = torch.randint(4, len(WORDS), (5 + index % 8,), generator=generator).tolist()
            rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
        return rows

    return make


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that treats pairs as BERT does."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)


@pytest.fixture
def texts() -> Callable[..., Examples]:
    """Random texts, or pairs, with labels."""

    def make(count: int = 40, seed: int = 0, pairs: bool = False, labels: bool = True) -> Examples:
        random = np.random.default_rng(seed)
        sentences = [" ".join(random.choice(WORDS[4:], 3 + index % 6)) for index in range(count)]
        items = [(text, text) for text in sentences] if pairs else sentences
        answers = [index % 2 for index in range(count)] if labels else None
        return Examples("pair" if pairs else "single", items, answers, f"data-{seed}.tsv")

    return make


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Examples]:
    """Random 8 × 8 images on disk, with labels."""

    def make(count: int = 12, seed: int = 0) -> Examples:
        random = np.random.default_rng(seed)
        paths = []
        for index in range(count):
            path = tmp_path / f"image-{seed}-{index}.png"
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
            paths.append(path)
        return Examples("image", paths, [index % 2 for index in range(count)], f"images-{seed}.tsv")

    return make


@pytest.fixture
def image_processor() -> ViTImageProcessorPil:
    """8 × 8 pixels of one channel."""
    return ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
