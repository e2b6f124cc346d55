"""Random teachers and batches that calibration is tested on."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

SHAPE = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 40}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SHAPE)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**SHAPE, embedding_size=8)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40)
    ),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=8,
            patch_size=2,
            num_channels=1,
        )
    ),
}


def make(family: str = "bert", scale: float = 0.2) -> PreTrainedModel:
    """A random teacher whose scores and activations are of ordinary size."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=scale)
    return model


def make_batches(model: PreTrainedModel, count: int = 4, size: int = 16) -> list[dict[str, Tensor]]:
    """Random texts, half of them padded, or random images."""
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        return [{"pixel_values": torch.randn(size, 1, 8, 8, generator=generator)} for _ in range(count)]
    mask = torch.ones(size, 12, dtype=torch.long)
    mask[::2, 7:] = 0
    return [
        {"input_ids": torch.randint(5, 50, (size, 12), generator=generator), "attention_mask": mask}
        for _ in range(count)
    ]
