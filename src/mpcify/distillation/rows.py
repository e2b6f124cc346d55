"""Examples as the rows that a model is calibrated and trained on."""

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    default_data_collator,
)

from mpcify.conversion.facts import longest_text, takes_images
from mpcify.data.files import COLUMNS, Examples, check_labels
from mpcify.errors import MpcifyError, MpcifyWarning

Row = dict[str, Any]
Collate = Callable[[list[Row]], dict[str, Tensor]]
LONGEST = 512  # tokens of what ranges are measured on: what the largest bucket holds
AMONG = 50  # batches that are sorted together
MODES = {1: "L", 3: "RGB"}  # of images, by channels


def read_processor(source: str | Path, model: PreTrainedModel) -> Any:
    """The tokenizer, or the image processor, beside a checkpoint. Raises MPC-208."""
    kind, name = (AutoImageProcessor, "image processor") if takes_images(model) else (AutoTokenizer, "tokenizer")
    try:
        return kind.from_pretrained(str(source), config=model.config, trust_remote_code=False)
    except Exception as problem:
        raise MpcifyError(
            208, str(source), f"there is no {name} beside the model", f"save its {name} there with save_pretrained"
        ) from problem


def rows_of(examples: Examples, model: PreTrainedModel, processor: Any, max_length: int = 128) -> Dataset:
    """Examples as rows of a model's inputs, and `labels` where there are any.

    max_length: tokens; longer texts are cut, and a warning says how many. Raises MPC-103 and MPC-104 where the examples
    do not fit the model, MPC-107 (when a row is read) for an unreadable image.
    """
    images = takes_images(model)
    if (examples.kind == "image") != images:
        wanted = ", ".join(COLUMNS["image"]) if images else "sentence, or sentence1 and sentence2"
        raise MpcifyError(103, examples.source, "the examples are not what the model reads", f"give columns {wanted}")
    if examples.labels is not None:
        examples = check_labels(examples, label_names(model))
    if images:
        return ImageRows(examples, processor, MODES[model.config.num_channels])
    return TextRows(examples, processor, min(max_length, longest_text(model)))


def usable_labels(examples: Examples, model: PreTrainedModel) -> Examples:
    """The examples with labels as the model predicts them; without any, and with a warning, if one is not its own."""
    if examples.labels is None:
        return examples
    try:
        return check_labels(examples, label_names(model))
    except MpcifyError as problem:
        what = "the label is none of the model's: no label is used, and the teacher is not checked against them"
        warnings.warn(MpcifyWarning(f"{problem.where}: {what}"), stacklevel=2)
        return replace(examples, labels=None)


def label_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's labels, in its order."""
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


class BatchesOfLikeLength(Sampler[int]):
    """Rows so that each `size` in a row are of like length, and these batches come in random order.

    Rows are shuffled, those of at most 50 batches at a time are sorted by length and cut into batches, and all batches
    are shuffled; the rows left over come last. The order is torch's global random state's, which a checkpoint keeps.
    """

    def __init__(self, lengths: Sequence[int], size: int) -> None:
        self.lengths, self.size = torch.tensor(lengths), size

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.lengths))
        whole = len(order) // self.size * self.size
        batches = order[:whole].view(-1, self.size)
        groups = batches.tensor_split(max(math.ceil(len(batches) / AMONG), 1))
        ordered = [group.flatten()[self.lengths[group].flatten().argsort()].view(-1, self.size) for group in groups]
        yield from torch.cat(ordered)[torch.randperm(len(batches))].flatten().tolist()
        yield from order[whole:].tolist()


class TextRows(Dataset):
    """Tokenised texts."""

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int) -> None:
        texts = [[text] if isinstance(text, str) else list(text) for text in examples.texts]
        columns = [list(column) for column in zip(*texts, strict=True)]
        self.inputs = tokenizer(*columns, verbose=False)
        long = sum(len(ids) > max_length for ids in self.inputs["input_ids"])
        if long:
            self.inputs = tokenizer(*columns, truncation=True, max_length=max_length)
            count = f"{long} of {len(texts)} texts are longer than {max_length} tokens"
            warnings.warn(MpcifyWarning(f"{examples.source}: {count}, and were cut for training"), stacklevel=3)
        self.labels = examples.labels

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    def __getitem__(self, index: int) -> Row:
        row = {name: values[index] for name, values in self.inputs.items()}
        return row if self.labels is None else {**row, "labels": self.labels[index]}


class ImageRows(Dataset):
    """Images, read when they are asked for."""

    def __init__(self, examples: Examples, processor: Any, mode: str) -> None:
        self.examples, self.processor, self.mode = examples, processor, mode

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        pixels = np.atleast_3d(np.asarray(self.read(index)))  # height, width, channels
        values = self.processor(images=pixels, return_tensors="pt", input_data_format="channels_last")
        row = {"pixel_values": values["pixel_values"][0]}
        return row if self.examples.labels is None else {**row, "labels": self.examples.labels[index]}

    def read(self, index: int) -> Image.Image:
        """An image, upright and in the model's mode. Raises MPC-107."""
        image = self.examples.texts[index]
        try:
            if isinstance(image, Image.Image):
                return image.convert(self.mode)
            with Image.open(image) as opened:
                return ImageOps.exif_transpose(opened).convert(self.mode)
        except Exception as problem:  # PIL's readers raise whatever a broken file makes of them
            reason = f"the image cannot be read ({type(problem).__name__})"
            raise MpcifyError(107, self.examples.where(index), reason, "replace the file") from problem


def collator(processor: Any, model: PreTrainedModel) -> Collate:
    """What makes a batch of rows: texts are padded to the longest of them."""
    return default_data_collator if takes_images(model) else DataCollatorWithPadding(processor)


def pick(count: int, wanted: int, seed: int) -> list[int]:
    """Some of `count` rows, by seed."""
    return random.Random(seed).sample(range(count), min(wanted, count))


def calibration_batches(
    rows: Any, chosen: Sequence[int], collate: Collate, size: int = 32, labels: bool = False
) -> list[dict[str, Tensor]]:
    """Batches for `calibrate`: the chosen rows (without labels unless asked for), texts of like length together."""
    picked = [{name: value for name, value in rows[index].items() if labels or name != "labels"} for index in chosen]
    picked.sort(key=lambda row: len(row.get("input_ids", ())))
    return [collate(picked[start : start + size]) for start in range(0, len(picked), size)]


def batches_of(rows: Any, processor: Any, model: PreTrainedModel) -> list[dict[str, Tensor]]:
    """All rows as batches for `calibrate`."""
    return calibration_batches(rows, range(len(rows)), collator(processor, model))
