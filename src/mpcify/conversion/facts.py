"""What a model takes: tokens or pixels, how many, and the table that its tokens are looked up in."""

import hashlib
import inspect
import json

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel


def takes_images(model: PreTrainedModel) -> bool:
    """Whether a model reads pixels instead of tokens."""
    return model.main_input_name == "pixel_values"


def columns(model: PreTrainedModel) -> tuple[str, ...]:
    """The columns of a batch that a model is run on, and that a request has too: those that its `forward` names."""
    wanted = ("pixel_values",) if takes_images(model) else ("input_ids", "attention_mask", "token_type_ids")
    return tuple(name for name in wanted if name in inspect.signature(model.forward).parameters)


def takes_segments(model: PreTrainedModel) -> bool:
    """Whether a model knows a pair's first text from its second by token types."""
    return "token_type_ids" in columns(model) and (getattr(model.config, "type_vocab_size", 0) or 0) > 1


def longest_text(model: PreTrainedModel) -> int:
    """The most tokens a model takes: its positions, less those it keeps for padding (RoBERTa's first two)."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", 512))


def skipped_token(model: PreTrainedModel) -> int | None:
    """The token number that a model counts no position for (RoBERTa's pad_token_id); None if it counts every token."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.padding_idx
    return None


def word_table(model: PreTrainedModel) -> np.ndarray:
    """The table that a client looks its tokens up in, (vocabulary, width), float32."""
    return model.get_input_embeddings().weight.detach().float().cpu().numpy()


def model_digest(model: PreTrainedModel) -> str:
    """SHA-256 of all weights and settings: two models with the same digest give the same answers to the same inputs."""
    told = model.config.to_dict().items()
    settings = {name: value for name, value in told if name not in ("_name_or_path", "transformers_version")}
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(f"{weights_digest(model)} {text}".encode()).hexdigest()


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 of all weights."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def table_digest(table: np.ndarray) -> str:
    """SHA-256 of a table's float32 values, little-endian, row by row."""
    return hashlib.sha256(np.ascontiguousarray(table, "<f4").tobytes()).hexdigest()
