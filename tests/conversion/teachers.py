"""Random teachers and batches that calibration is tested on."""

from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.makers import make_calm_teacher

FAMILIES = ("bert", "roberta", "electra", "mpnet", "distilbert", "vit")
make = partial(make_calm_teacher, vocabulary=50)


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
