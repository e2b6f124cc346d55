"""A bag of words as its parties hold it, and exported folders of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from mpcify.engines.plain import PlainEngine, measure_ranges
from mpcify.graph.about import About, Classification, TextFacts
from mpcify.graph.build import Builder
from mpcify.graph.exported import Exported, file_digest, write
from mpcify.graph.graph import Graph
from mpcify.graph.index import INDEX, Index
from mpcify.graph.ranges import declare
from mpcify.inference import PrivateModel

WORDS = ["[UNK]", "a", "good", "bad", "film"]
WIDTH, LABELS, LENGTHS = 6, ("bad", "good"), (4, 8)
FACTS = TextFacts(len(WORDS), 8, False, truncation="right", longest=8, types=0, skipped=None)
ABOUT = About("a notice", "model", "bert", Classification("classification", LABELS), "exact", "client", FACTS)


def export(model: Exported, out: Path) -> Path:
    """A new exported folder of all roles."""
    out.mkdir()
    write(model, LENGTHS, out)
    return out


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    return made


@dataclass
class Bag(Exported):
    """A bag of words: the sum of embeddings, through one linear layer."""

    about: About = ABOUT
    batch: int = 2
    lengths: tuple[int, ...] | None = None
    declared: bool = False
    uncalibrated: bool = True
    taught_texts: Mapping[int, int] | None = None
    table: np.ndarray | None = None
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        self.table = draw.standard_normal((len(WORDS), WIDTH)).astype(np.float32)
        self.tokenizer = tokenizer()
        weight, bias = draw.standard_normal((WIDTH, len(LABELS))), draw.standard_normal(len(LABELS))
        self.owned = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}

    def graph(self, length: int) -> Graph:
        builder = Builder(self.batch, length)
        x = builder.input("embeddings", "client", (self.batch, length, WIDTH))
        summed = builder.emit("sum", "sum", (x,), axis=1)
        flat = builder.emit("flat", "reshape", (summed,), shape=(self.batch, WIDTH))
        w, b = (builder.weight(name, array) for name, array in self.owned.items())
        return builder.finish(None, [builder.emit("logits", "linear", (flat, w, b))], self.about)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return self.owned

    @property
    def public_table(self) -> bool:
        return True

    @property
    def digest(self) -> str:
        return "0" * 64


@dataclass
class Calibrated(Bag):
    """A bag of words that declares what its numbers reach on random texts."""

    batch: int = 1
    declared: bool = True

    def graph(self, length: int) -> Graph:
        graph = super().graph(length)
        assert self.table is not None
        texts = np.random.default_rng(1).integers(len(WORDS), size=(50, self.batch, length))
        requests = [{"embeddings": self.table[text]} for text in texts]
        return graph.with_ranges(declare(graph, measure_ranges(graph, self.owned, requests)))


def answers(model: Exported) -> np.ndarray:
    with PrivateModel(model, PlainEngine()) as private:
        return private(["a good film", "a bad film film film film", "good"])[0]


def reindex(folder: Path, **fields: Any) -> None:
    """Writes a folder's index anew, with the digests of its files as they are: what a forger would do."""
    path = folder / INDEX
    index = Index.from_text(path.read_text(), path)
    files = {item.name: file_digest(item) for item in folder.iterdir() if item.name != INDEX}
    path.write_text(replace(index, **{"files": files, **fields}).text())
