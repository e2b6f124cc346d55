"""Batches that a user gives: what of them a model is run on, and what no request could be."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.facts import columns, longest_text, skipped_token, takes_images
from mpcify.conversion.survey import sample_inputs
from mpcify.errors import MpcifyError

LABELS = ("labels", "label", "label_ids")


def kept_columns(model: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """The columns that a model is run on, labels left out; those that its `forward` does not name are dropped.

    Raises MPC-103 if there is none to read, or one that `forward` takes and no request has (position_ids, say).
    """
    names, wanted = list(names), columns(model)
    strange = set(names) & set(inspect.signature(model.forward).parameters) - {*wanted, *LABELS}
    if strange:
        raise wrong(f"there is a column {min(strange)}, which no request has", "leave it out")
    if wanted[0] not in names:
        raise wrong(f"there is no column {wanted[0]}", f"give rows of {', '.join(wanted)}")
    return [name for name in names if name in wanted]


def model_inputs(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a model is run on, of a batch of rows, on its device. Raises what `kept_columns` and the checks below do."""
    names = kept_columns(model, batch)
    try:
        inputs = {name: torch.as_tensor(batch[name]) for name in names}
    except (ValueError, TypeError, RuntimeError):
        raise wrong("a column is no table of numbers, of rows that are equally long", "pad them alike") from None
    if not len(next(iter(inputs.values()))):
        raise MpcifyError(108, "batch", "it has no rows", "leave empty batches out")
    if takes_images(model):
        expected = sample_inputs(model)["pixel_values"].shape[1:]
        if inputs["pixel_values"].shape[1:] != expected:
            shape = " × ".join(map(str, expected))
            raise wrong(f"the images are not {shape} numbers each", "prepare them with the model's image processor")
    else:
        real = check_tokens(model, inputs)
        inputs = {name: value[:, : int(real.sum(1).max())] for name, value in inputs.items()}
    return {name: value.to(model.device) for name, value in inputs.items()}


def check_tokens(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Which tokens are no padding, rows × tokens.

    Raises MPC-103 for columns of other shapes, or padding before a token; MPC-105 for a row of padding alone, MPC-106
    for more tokens than the model takes, MPC-111 for a token that it counts no position for, MPC-208 for numbers beyond
    its tables.
    """
    ids = inputs["input_ids"]
    if any(inputs[name].is_floating_point() for name in ("input_ids", "token_type_ids") if name in inputs):
        raise wrong("tokens or their types are decimals", "give whole numbers")
    real = inputs.get("attention_mask", torch.ones_like(ids)) > 0
    if ids.ndim != 2 or any(value.shape != ids.shape for value in inputs.values()):
        raise wrong("the columns are not all of one shape, rows × tokens", "pad them alike")
    if not real.any(1).all():
        raise MpcifyError(105, "batch", "a row has no tokens: its attention_mask is 0 everywhere", "leave it out")
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise wrong("padding stands before a token: requests pad on the right", 'pad with padding_side="right"')
    if (count := int(real.sum(1).max())) > longest_text(model):
        what = f"a row has {count} tokens, at most {longest_text(model)} fit"
        raise MpcifyError(106, "batch", what, "cut the text (truncation=True, max_length=…)")
    limits = {
        "input_ids": len(model.get_input_embeddings().weight),
        "token_type_ids": getattr(model.config, "type_vocab_size", 0) or 1,
    }
    for name, limit in limits.items():
        values = inputs.get(name, ids[:0])
        if ((values < 0) | (values >= limit)).any():
            what = f"{name} holds a number outside the model's 0 to {limit - 1}"
            raise MpcifyError(208, "tokenizer", what, "use the tokenizer that the model was trained with")
    if "token_type_ids" in inputs and (inputs["token_type_ids"][real] > 1).any():
        what = "it gives token types above 1, which no request has"
        raise MpcifyError(208, "tokenizer", what, "use a tokenizer of the types 0 and 1")
    if (skipped := skipped_token(model)) is not None and (ids[real] == skipped).any():
        what = f"a row holds the model's padding token ({skipped}), which counts no position"
        raise MpcifyError(111, "batch", what, "remove that token from the text")
    return real


def wrong(what: str, remedy: str) -> MpcifyError:
    """The error for columns that are not a model's."""
    return MpcifyError(103, "batch", what, remedy)
