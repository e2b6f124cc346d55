"""Examples as the rows that a model is calibrated and trained on."""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, Dataset
from transformers import PreTrainedModel

from mpcify.conversion.batches import LABELS, kept_columns
from mpcify.conversion.facts import columns, takes_images
from mpcify.conversion.processors import backend_of, input_facts
from mpcify.data.files import COLUMNS, Examples, check_labels
from mpcify.data.mix import Mix, is_unspaced
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.requests.images import ImageRequests
from mpcify.requests.text import Encoded, Text, TextRequests, bucket_of

Row = dict[str, Any]
Collate = Callable[[list[Row]], dict[str, Tensor]]
WORD_STARTS = ("Ġ", "▁")  # what tokens that begin a word begin with, if a tokenizer marks them
MARKED = 0.05  # of a tokenizer's tokens at least begin so, if it marks them
LONGEST = 512  # tokens of what ranges are measured on: what the largest bucket holds


def rows_of(
    examples: Examples, model: PreTrainedModel, processor: Any, max_length: int = 128, *, warn: bool = True
) -> Dataset:
    """Examples as rows of a model's inputs, and `labels` if there are any.

    processor: the model's tokenizer or image processor. max_length: tokens; longer texts are cut, and a warning says
    how many, unless `warn` is false. Raises MPC-103 and MPC-104 for examples that do not fit the model, MPC-107 for an
    unreadable image (what its header does not tell, when the row is read), MPC-208 for a processor that does not fit,
    and as `encode` does.
    """
    images = takes_images(model)
    if (examples.kind == "image") != images:
        wanted = ", ".join(COLUMNS["image"]) if images else "sentence, or sentence1 and sentence2"
        raise MpcifyError(103, examples.source, "the examples are not what the model reads", f"give columns {wanted}")
    if examples.labels is not None:
        examples = check_labels(examples, label_names(model))
    if images:
        return ImageRows(examples, ImageRequests(input_facts(model, processor)))
    requests = text_requests(model, processor)
    encoded = requests.encode(examples.texts, truncate=True, longest=max_length, where=examples.where)
    if (long := sum(item.truncated for item in encoded)) and warn:
        count = f"{long} of {len(encoded)} texts are longer than {min(max_length, requests.longest)} tokens"
        warnings.warn(MpcifyWarning(f"{examples.source}: {count}, and were cut, in what is measured too"), stacklevel=2)
    return TextRows(encoded, columns(model), examples.labels)


def mixed_rows(
    examples: Examples,
    model: PreTrainedModel,
    processor: Any,
    max_length: int = 128,
    *,
    general: Sequence[str] = (),
    repeats: int = 1,
    seed: int = 0,
    warn: bool = True,
) -> Dataset:
    """Examples without their labels, as `rows_of` gives them, and pieces of them: see `mix`. Images have no pieces.

    general, repeats: as `Mix` takes them, texts that `readable` lets pass, as the examples are. max_length: of pieces
    too. Raises what `rows_of` raises.
    """
    rows = rows_of(replace(examples, labels=None), model, processor, max_length, warn=warn)
    if not isinstance(rows, TextRows):
        return ConcatDataset([rows] * repeats)
    requests = text_requests(model, processor)
    longest = max(min(max_length, requests.longest) * 3 // 4, 1)  # a word is about 4/3 tokens
    mix = Mix(examples.texts, general, vocabulary(requests.tokenizer), longest, repeats, seed)

    def encode(pieces: Sequence[Text]) -> TextRows:
        where = f"a piece of {examples.source}"
        found = requests.encode(pieces, truncate=True, longest=max_length, where=lambda _: where)
        return TextRows(found, rows.names)

    return MixedRows(rows, mix, encode)


def readable(examples: Examples, model: PreTrainedModel, processor: Any) -> Examples:
    """The same examples, any piece of which a student can read; what is no text for it is left to `rows_of`.

    Raises with the row what `TextRequests.check` raises.
    """
    if examples.kind != "image" and not takes_images(model):
        text_requests(model, processor).check(examples.texts, examples.where)
    return examples


def text_requests(model: PreTrainedModel, processor: Any) -> TextRequests:
    """How a model's texts become tokens."""
    return TextRequests(backend_of(processor), input_facts(model, processor))


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The words that a tokenizer has a token for, in their order: of letters only, the longer ones if there are any.

    In writing without spaces each letter is a word. If a tokenizer marks what begins a word, nothing else is one; no
    special token is.
    """
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokens = [token for token in tokenizer.get_vocab(with_added_tokens=False) if token not in special]
    marked = [token for token in tokens if token.startswith(WORD_STARTS)]
    if len(marked) > MARKED * len(tokens):  # a tokenizer of letters may know the marks as such
        marked = [token for token in marked if not any(mark in token[1:] for mark in WORD_STARTS)]
        decoder = tokenizer.decoder  # of bytes it makes letters
        texts = [token[1:] if decoder is None else decoder.decode([token]).strip() for token in marked]
        tokens = [*texts, *filter(is_unspaced, tokens)]
    words = sorted({word for word in tokens if word.isalpha()})
    return [word for word in words if len(word) > 2 or is_unspaced(word)] or words


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


class TextRows(Dataset):
    """Texts as requests encode them: `input_ids`, `attention_mask`, and `token_type_ids` if the model takes them."""

    def __init__(self, encoded: Sequence[Encoded], names: Sequence[str], labels: Sequence[Any] | None = None) -> None:
        self.encoded, self.names, self.labels = encoded, names, labels

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> Row:
        item = self.encoded[index]
        columns = {"input_ids": item.ids, "attention_mask": (1,) * len(item), "token_type_ids": item.types}
        row: Row = {name: list(columns[name]) for name in self.names}
        return row if self.labels is None else {**row, "labels": self.labels[index]}


class MixedRows(Dataset):
    """An epoch of a mix: its texts, then its pieces. `set_epoch` draws those of another epoch."""

    def __init__(self, texts: TextRows, mix: Mix, encode: Callable[[Sequence[Text]], TextRows]) -> None:
        self.texts, self.mix, self.encode = texts, mix, encode
        self.epoch = -1
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Trainer's loaders call it when an epoch begins."""
        if epoch != self.epoch:
            self.epoch, self.pieces = epoch, self.encode(self.mix.pieces(epoch))

    def __len__(self) -> int:
        return len(self.mix)

    def __getitem__(self, index: int) -> Row:
        place = range(len(self))[index] - len(self.pieces)
        return self.pieces[place] if place >= 0 else self.texts[place % len(self.texts)]


class ImageRows(Dataset):
    """Images as requests read them, when they are asked for; what a file's header tells is refused at once."""

    def __init__(self, examples: Examples, requests: ImageRequests) -> None:
        self.examples, self.requests = examples, requests
        for index, image in enumerate(examples.texts):
            requests.check(image, examples.where(index))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        pixels = self.requests.pixels(self.examples.texts[index], self.examples.where(index))
        row = {"pixel_values": torch.from_numpy(np.ascontiguousarray(pixels))}
        return row if self.examples.labels is None else {**row, "labels": self.examples.labels[index]}


def lengths_taught(rows: Any) -> dict[int, int]:
    """How many rows each bucket has, by their own tokens: what a student is taught on. {} for images.

    A text of a mix counts once, however often it comes in an epoch.
    """
    rows = ConcatDataset([rows.texts, rows.pieces]) if isinstance(rows, MixedRows) else rows
    if not len(rows) or "input_ids" not in rows[0]:
        return {}
    found = Counter(bucket_of(own_tokens(rows[index])) for index in range(len(rows)))
    return dict(sorted(found.items()))


def own_tokens(row: Row) -> int:
    """How many tokens of a row are not padding."""
    mask = row.get("attention_mask")
    return len(row["input_ids"]) if mask is None else int(np.count_nonzero(mask))


def collator(model: PreTrainedModel) -> Collate:
    """What makes a batch of rows: the columns that a model is run on, texts padded on the right, and labels.

    It raises MPC-103 for rows of other columns than the first, or than the model's, MPC-108 for none.
    """

    def collate(rows: list[Row]) -> dict[str, Tensor]:
        if not rows:
            raise MpcifyError(108, "batch", "it has no rows", "leave empty batches out")
        names = kept_columns(model, rows[0])
        labels = next((name for name in LABELS if name in rows[0]), None)
        if any(name not in row for row in rows for name in (*names, *filter(None, [labels]))):
            raise MpcifyError(103, "batch", "its rows have different columns", "give every row the same columns")
        if takes_images(model):
            batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in names}
        else:
            names += [] if "attention_mask" in names else ["attention_mask"]
            batch = {name: padded_column(name, rows, model.config.pad_token_id or 0) for name in names}
        return batch if labels is None else {**batch, "labels": torch.as_tensor([row[labels] for row in rows])}

    return collate


def padded_column(name: str, rows: Sequence[Row], padding: int) -> Tensor:
    """A column of texts, rows × the longest of them."""
    values = [torch.as_tensor(row.get(name, [1] * len(row["input_ids"])), dtype=torch.long) for row in rows]
    return pad_sequence(values, batch_first=True, padding_value=padding if name == "input_ids" else 0)


def pick(count: int, wanted: int, seed: int) -> list[int]:
    """Some of `count` rows, by seed."""
    return random.Random(seed).sample(range(count), min(wanted, count))


def calibration_batches(
    rows: Any, chosen: Sequence[int], collate: Collate, size: int = 32, labels: bool = False
) -> list[dict[str, Tensor]]:
    """Batches for `calibrate`: the chosen rows (without labels unless asked for), texts of like length together."""
    picked = [{name: value for name, value in rows[index].items() if labels or name not in LABELS} for index in chosen]
    picked.sort(key=lambda row: len(row.get("input_ids", ())))
    return [collate(picked[start : start + size]) for start in range(0, len(picked), size)]


def batches_of(rows: Any, model: PreTrainedModel, labels: bool = False) -> list[dict[str, Tensor]]:
    """All rows as batches for `calibrate`, with their labels if asked for."""
    return calibration_batches(rows, range(len(rows)), collator(model), labels=labels)
