"""From items (texts, pairs of texts, images) to groups of one padded length, and to what their client shares."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph


@dataclass(frozen=True)
class Group:
    """Items of one padded length. places: theirs among all. encoded: what their client makes of each."""

    length: int
    places: tuple[int, ...]
    encoded: list[Any]


class Requests(ABC):
    """Items to client inputs.

    items: what errors call a list of them. columns: of a data file that may hold them. lengths: the padded lengths
    that there are, from the shortest; (0,) for items that are all of one size. longest: the most tokens of an item.
    """

    items: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    lengths: tuple[int, ...]
    longest: int

    @abstractmethod
    def encode(self, items: Sequence[Any], truncate: bool = False, longest: int | None = None) -> list[Any]:
        """What a client makes of every item. truncate, longest: of texts alone. Raises MPC-1xx, TypeError."""

    @abstractmethod
    def padded_length(self, encoded: Any, length: int | None) -> int:
        """The padded length of an item. length: what all texts are padded to; None: the smallest."""

    @abstractmethod
    def is_cut(self, encoded: Any) -> bool:
        """Whether an item was cut to fit."""

    @abstractmethod
    def inputs(self, encoded: Sequence[Any], graph: Graph) -> dict[str, np.ndarray]:
        """The client's inputs of a graph by name, float32, for 1 to B items: see `filled`."""

    @abstractmethod
    def sample(self, graph: Graph) -> list[Any]:
        """B made-up items that fill a graph's length, encoded."""

    def is_list(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape is a list of items, and neither one item nor a table of columns."""
        return len(shape) == 1

    def bucket_for(self, count: int) -> int:
        """The public padded length: the smallest that holds `count` tokens. Raises MPC-106 if none does."""
        if count > self.longest:
            remedy = "shorten the text, or pass --truncate to cut it"
            raise MpcifyError(106, "text", f"it has {count} tokens, at most {self.longest} fit", remedy)
        return next(length for length in self.lengths if length >= count)

    def groups(self, items: Any, truncate: bool = False, length: int | None = None) -> list[Group]:
        """Items by their padded lengths, shortest first. truncate, length: see `encode` and `padded_length`.

        Raises MPC-102 for what is no list of items, MPC-108 for an empty one, and what `encode` raises.
        """
        listed = (
            hasattr(items, "__getitem__") and hasattr(items, "__len__") and self.is_list(getattr(items, "shape", (1,)))
        )
        if isinstance(items, str | bytes | Mapping) or not listed:
            what = f"it is one {type(items).__name__}"
            raise MpcifyError(102, "request", what, f"give a list of {self.items}")
        if not len(items):
            raise MpcifyError(108, "request", "there is nothing to answer", "give at least one text or image")
        try:
            encoded = self.encode(items, truncate, length)
        except TypeError:  # its text may quote the input
            what = "an input is of a type that is not read"
            raise MpcifyError(102, "request", what, f"give a list of {self.items}") from None
        places: dict[int, list[int]] = {}
        for place, item in enumerate(encoded):
            places.setdefault(self.padded_length(item, length), []).append(place)
        return [Group(size, tuple(places[size]), [encoded[at] for at in places[size]]) for size in sorted(places)]


def filled(encoded: Sequence[Any], batch: int) -> list[Any]:
    """1 to B items as B: if there are fewer, the first is asked again, as its values stay in the ranges of real ones.

    Drop the results of those.
    """
    if not 0 < len(encoded) <= batch:
        raise ValueError(f"{len(encoded)} items for a batch of {batch}")
    return [*encoded, *[encoded[0]] * (batch - len(encoded))]
