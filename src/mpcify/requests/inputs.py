"""From texts to what their client shares: tokenise, bucket, look up, mask. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Input

BUCKETS = (16, 32, 64, 128, 256, 512)
SCALE = 16.0  # μ = 16·M/m: M/m itself would lose log₂ m bits in fixed point

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """A text's token ids and token types, special tokens included; whether it was cut to fit."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class TextRequests:
    """Texts to client inputs.

    tokenizer: of the checkpoint; its own padding and truncation are ignored. about: `graph.about` (positions,
    vocabulary). table: the public embedding table (V, E), for graphs whose input is `embeddings`.
    """

    def __init__(self, tokenizer: Tokenizer, about: Mapping[str, Any], table: np.ndarray | None = None) -> None:
        self.tokenizer = bare(tokenizer)
        self.about = about
        self.table = table
        self.longest = min(BUCKETS[-1], about["positions"])

    def encode(self, texts: Sequence[Text], truncate: bool = False, longest: int | None = None) -> list[Encoded]:
        """The tokens of every text, or (text, text) pair.

        longest: the largest number of tokens; where None, or above it, what the model and the largest bucket take.
        truncate: cut longer texts (the longer of a pair first; special tokens stay) instead of refusing them.
        Raises MPC-102 (not Unicode), 105 (empty), 106 (too long), 208 (the tokenizer is another model's).
        """
        if isinstance(texts, str):
            raise TypeError("texts is one str: give a list of texts")
        limit = self.longest if longest is None else min(longest, self.longest)
        for index, text in enumerate(texts):
            check_text(text, index)
        encodings = self.tokenizer.encode_batch(list(texts))
        cutter = bare(self.tokenizer)
        cutter.enable_truncation(limit, strategy="longest_first")
        encoded = []
        for index, encoding in enumerate(encodings):
            tokens, truncated = len(encoding.ids), len(encoding.ids) > limit
            if truncated and truncate:
                encoding = cutter.encode_batch([texts[index]])[0]
            if len(encoding.ids) > limit:  # the tokenizer leaves a text whole where not even its special tokens fit
                remedy = "shorten the text, give a larger --length, or pass --truncate to cut it"
                raise MpcifyError(106, f"text {index + 1}", f"it has {tokens} tokens, at most {limit} fit", remedy)
            encoded.append(self.checked(Encoded(tuple(encoding.ids), tuple(encoding.type_ids), truncated), index))
        return encoded

    def checked(self, encoded: Encoded, index: int) -> Encoded:
        """The same tokens, if there are any and the model has them all. Raises MPC-105 and 208."""
        if not encoded.ids:
            raise MpcifyError(105, f"text {index + 1}", "the text has no tokens", "remove it, or give it a text")
        if max(encoded.ids) >= self.about["vocabulary"]:
            what = f"it gives token numbers beyond the model's {self.about['vocabulary']}"
            raise MpcifyError(208, "tokenizer", what, "use the tokenizer that the model was trained with")
        return encoded

    def bucket_for(self, count: int) -> int:
        """The public padded length: the smallest bucket that holds `count` tokens, never above what the model takes.

        Raises MPC-106 where none does.
        """
        if count > self.longest:
            remedy = "shorten the text, or pass --truncate to cut it"
            raise MpcifyError(106, "text", f"it has {count} tokens, at most {self.longest} fit", remedy)
        return bucket(count, self.longest)

    def inputs(self, encoded: Sequence[Encoded], graph: Graph) -> dict[str, np.ndarray]:
        """The client's inputs of a graph: see `client_inputs`."""
        return client_inputs(encoded, graph, self.table)


def client_inputs(encoded: Sequence[Encoded], graph: Graph, table: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The client's inputs of a graph (B, n, ·), float32, for 1 to B texts of at most n tokens.

    embeddings: the tokens' rows of the public table | tokens: one-hot rows. segment: token types. mask: M, 1 at
    tokens. share: μ = 16·M/m, m the number of tokens. All are 0 beyond the tokens. Where texts are fewer than B,
    the first is asked again, as its values stay in the ranges that real text has; drop those results.
    """
    if not 0 < len(encoded) <= graph.batch:
        raise ValueError(f"{len(encoded)} texts for a batch of {graph.batch}")
    ids, segment, mask = (np.zeros((graph.batch, graph.length), np.int64) for _ in range(3))
    for row, item in enumerate([*encoded, *[encoded[0]] * (graph.batch - len(encoded))]):
        ids[row, : len(item)] = item.ids
        segment[row, : len(item)] = item.types
        mask[row, : len(item)] = 1
    return {item.name: client_input(item, table, ids, segment, mask) for item in graph.role("client")}


def client_input(
    item: Input, table: np.ndarray | None, ids: np.ndarray, segment: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """One client input by its name; ids, segment, mask are (B, n). Raises MPC-404 for a name that is none."""
    if item.name == "embeddings" and table is not None:
        return table[ids].astype(np.float32, copy=False) * mask[..., None].astype(np.float32)
    if item.name == "tokens":
        rows = np.zeros(item.shape, np.float32)
        np.put_along_axis(rows, ids[..., None], mask[..., None].astype(np.float32), axis=-1)
        return rows
    if item.name == "segment":
        return segment[..., None].astype(np.float32)
    if item.name == "mask":
        return mask[..., None].astype(np.float32)
    if item.name == "share":
        return (SCALE * mask / mask.sum(axis=1, keepdims=True))[..., None].astype(np.float32)
    what = "there is no embedding table for it" if item.name == "embeddings" else "no request has it"
    raise MpcifyError(404, f"client input {item.name}", what, "export the model again with this version of mpcify")


def bucket(count: int, longest: int) -> int:
    """The smallest bucket that holds `count` tokens, but never more than a model takes."""
    return min(next((length for length in BUCKETS if length >= count), longest), longest)


def bare(tokenizer: Tokenizer) -> Tokenizer:
    """A copy without padding and truncation."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def check_text(text: Any, index: int) -> None:
    """Raises MPC-105 for an empty text, MPC-102 for one that is not Unicode, TypeError for what is no text."""
    parts = text if isinstance(text, tuple) else (text,)
    if len(parts) > 2 or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"text {index + 1} is neither a str nor a pair of them")
    if not all(part.strip() for part in parts):
        raise MpcifyError(105, f"text {index + 1}", "the text is empty", "remove it, or give it a text")
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        raise MpcifyError(102, f"text {index + 1}", "the text is not Unicode", "give it as UTF-8") from None
