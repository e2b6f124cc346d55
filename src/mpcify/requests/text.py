"""From texts to what their client shares: tokenise, bucket, look up, mask. Needs no torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from mpcify.data.files import COLUMNS
from mpcify.errors import MpcifyError, gave_up
from mpcify.graph.about import AGAIN, TextFacts
from mpcify.graph.graph import Graph, Input
from mpcify.graph.inputs import MASK_SCALE
from mpcify.requests.requests import Requests, filled

BUCKETS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

Text = str | tuple[str, str]
Where = Callable[[int], str]


def bucket_of(count: int) -> int:
    """The smallest bucket that holds `count` tokens; the last one for more than it holds."""
    return next((bucket for bucket in BUCKETS if bucket >= count), BUCKETS[-1])


def text_place(index: int) -> str:
    """What an error calls a text, by its place among those of a request."""
    return f"text {index + 1}"


@dataclass(frozen=True)
class Encoded:
    """A text's token ids and token types, special tokens included; whether it was cut to fit."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bucket(self) -> int:
        """The bucket of its own tokens, whatever it is padded to."""
        return bucket_of(len(self))


class TextRequests(Requests):
    """Texts to client inputs.

    tokenizer: of the checkpoint; its own padding and truncation are ignored. facts: how the model reads texts. table:
    the public embedding table (V, E), for graphs whose input is `embeddings`. lengths: the padded lengths that there
    are; None: every bucket, as far as model and tokenizer go.
    Raises MPC-208 for a tokenizer that fails, or puts into every text a token that the model counts no position for.
    """

    items = "texts, or of (text, text) pairs"
    columns = (*COLUMNS["single"], *COLUMNS["pair"])

    def __init__(
        self,
        tokenizer: Tokenizer,
        facts: TextFacts,
        table: np.ndarray | None = None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.tokenizer, self.facts, self.table = bare(tokenizer), facts, table
        most = min(BUCKETS[-1], facts.positions, facts.longest)
        buckets = (*(length for length in BUCKETS if length < most), most)
        self.lengths = buckets if lengths is None else tuple(lengths)
        self.longest, self.most = min(most, self.lengths[-1]), most
        with tokenizing():
            always = {*self.tokenizer.encode("").ids, *self.tokenizer.encode("", "").ids}
        if facts.skipped in always:
            what = f"it puts token {facts.skipped} into every text, and the model counts no position for it"
            remedy = "use the tokenizer and the pad_token_id (config.json) that the model was trained with"
            raise MpcifyError(208, "tokenizer", what, remedy)

    def encode(
        self, texts: Sequence[Text], truncate: bool = False, longest: int | None = None, where: Where = text_place
    ) -> list[Encoded]:
        """The tokens of every text, or (text, text) pair.

        longest: the largest number of tokens; if None, or above it, what the model, its tokenizer and the largest
        bucket take. truncate: cut longer texts, on the tokenizer's side (the longer of a pair first; special tokens
        stay), instead of refusing them. where: what errors call a text, by its place.
        Raises MPC-102 (not Unicode, a NUL), 105 (empty), 106 (too long), 111 (the padding token inside), 208 (the
        tokenizer fails, or is another model's).
        """
        if isinstance(texts, str):
            raise TypeError("texts is one str: give a list of texts")
        texts = list(texts)  # what a table's column calls 0 may not stand first
        limit = self.longest if longest is None else min(longest, self.longest)
        for index, text in enumerate(texts):
            check_text(text, where(index))
        with tokenizing():
            encodings = self.tokenizer.encode_batch(list(texts))
        long = [index for index, encoding in enumerate(encodings) if len(encoding.ids) > limit]
        found = dict(enumerate(encodings))
        if truncate and long:
            cutter = bare(self.tokenizer)
            cutter.enable_truncation(limit, strategy="longest_first", direction=self.facts.truncation)
            with tokenizing():
                found.update(zip(long, cutter.encode_batch([texts[index] for index in long]), strict=True))
        for index in long:  # the tokenizer leaves a text whole if not even its special tokens fit
            if len(found[index].ids) > limit:
                what = f"it has {len(encodings[index].ids)} tokens, at most {limit} fit"
                raise MpcifyError(106, where(index), what, self.shortened(limit, truncate))
        cut = set(long)
        return [self.checked(found[index], index in cut, where(index)) for index in range(len(texts))]

    def shortened(self, limit: int, truncate: bool) -> str:
        """What helps a text that is longer than a limit."""
        helps = ["shorten the text"]
        if limit < self.most:
            larger = "give a larger --length (of a training, --max-length)"
            helps.append(larger if limit < self.longest else "export a larger --length")
        if not truncate:
            helps.append("pass --truncate to cut it")
        return ", or ".join(helps)

    def check(self, texts: Sequence[Text], where: Where = text_place) -> None:
        """Raises what `encode` raises for any part of a text, however long: what it leaves out where it cuts, too."""
        for index, text in enumerate(texts):
            check_text(text, where(index))
        with tokenizing():
            encodings = self.tokenizer.encode_batch(list(texts))
        for index, encoding in enumerate(encodings):
            self.checked(encoding, False, where(index))

    def checked(self, encoding: Encoding, truncated: bool, where: str) -> Encoded:
        """A text's tokens, if there are any and the model has them all. Raises MPC-105, 111 and 208."""
        ids, types = tuple(encoding.ids), tuple(encoding.type_ids) if self.facts.types else (0,) * len(encoding.ids)
        if not ids:
            raise MpcifyError(105, where, "the text has no tokens", "remove it, or give it a text")
        if self.facts.skipped in ids:
            what = f"it holds the model's padding token ({self.facts.skipped}), which counts no position"
            raise MpcifyError(111, where, what, "remove that token from the text")
        beyond = "token" if max(ids) >= self.facts.vocabulary else "token type" if max(types) > self.last_type else None
        if beyond:
            limit = self.facts.vocabulary if beyond == "token" else self.last_type + 1
            what = f"it gives {beyond} numbers beyond the model's {limit}"
            raise MpcifyError(208, "tokenizer", what, "use the tokenizer that the model was trained with")
        return Encoded(ids, types, truncated)

    @property
    def last_type(self) -> int:
        """The largest token type that a text may have."""
        return max(self.facts.types - 1, 0)

    def padded_length(self, encoded: Encoded, length: int | None) -> int:
        return length or self.bucket_for(len(encoded))

    def is_cut(self, encoded: Encoded) -> bool:
        return encoded.truncated

    def inputs(self, encoded: Sequence[Encoded], graph: Graph) -> dict[str, np.ndarray]:
        """The client's inputs of a graph: see `client_inputs`."""
        return client_inputs(encoded, graph, self.table)

    def sample(self, graph: Graph) -> list[Encoded]:
        """Random tokens of type 0."""
        ids = np.random.default_rng(0).integers(self.facts.vocabulary, size=(graph.batch, graph.length))
        return [Encoded(tuple(map(int, row)), (0,) * graph.length) for row in ids]


def client_inputs(encoded: Sequence[Encoded], graph: Graph, table: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The client's inputs of a graph (B, n, ·), float32, for 1 to B texts of at most n tokens (see `filled`).

    embeddings: the tokens' rows of the public table | tokens: one-hot rows. segment: token types. mask: M, 1 at
    tokens. share: μ = 16·M/m, m the number of tokens. All are 0 beyond the tokens.
    """
    ids, segment, mask = padded(filled(encoded, graph.batch), graph.length)
    return {item.name: client_input(item, table, ids, segment, mask) for item in graph.held_by("client")}


def padded(encoded: Sequence[Encoded], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, token types and mask, (texts, n) each: 0 beyond the tokens, which always stand first."""
    ids, segment, mask = (np.zeros((len(encoded), length), np.int64) for _ in range(3))
    for row, item in enumerate(encoded):
        ids[row, : len(item)] = item.ids
        segment[row, : len(item)] = item.types
        mask[row, : len(item)] = 1
    return ids, segment, mask


def client_input(
    item: Input, table: np.ndarray | None, ids: np.ndarray, segment: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """One client input by its name; ids, segment, mask are (B, n). Raises MPC-404 for any other name."""
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
        return (MASK_SCALE * mask / mask.sum(axis=1, keepdims=True))[..., None].astype(np.float32)
    what = "there is no embedding table for it" if item.name == "embeddings" else "no request has it"
    raise MpcifyError(404, f"client input {item.name}", what, AGAIN)


@contextmanager
def tokenizing() -> Iterator[None]:
    """Turns whatever a tokenizer fails with into MPC-208, and says nothing of the text."""
    try:
        yield
    except BaseException as error:
        if not gave_up(error):
            raise
        what = f"it fails on a text ({type(error).__name__})"
        raise MpcifyError(208, "tokenizer", what, "use the tokenizer that the model was trained with") from None


def bare(tokenizer: Tokenizer) -> Tokenizer:
    """A copy without padding and truncation."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def check_text(text: Any, where: str) -> None:
    """Raises MPC-105 for an empty text, MPC-102 for one that is not Unicode or holds a NUL, TypeError for no text."""
    parts = text if isinstance(text, tuple) else (text,)
    if isinstance(text, tuple) and len(text) != 2:
        raise TypeError(f"{where} is a tuple of {len(text)}")
    if not all(isinstance(part, str) for part in parts):
        raise TypeError(f"{where} is neither a str nor a pair of them")
    if not all(part.strip() for part in parts):
        raise MpcifyError(105, where, "the text is empty", "remove it, or give it a text")
    if any("\0" in part for part in parts):
        raise MpcifyError(102, where, "the text holds a NUL", "remove that character")
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        raise MpcifyError(102, where, "the text is not Unicode", "give it as UTF-8") from None
