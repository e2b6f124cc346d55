"""The order in which a training sees its rows: batches of like length, alike in every process."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

AMONG = 50  # batches that are sorted together


class BatchesOfLikeLength(Sampler[int]):
    """Rows so that each `size` in a row are of like length, and these batches come in random order.

    rows: of `input_ids`; their lengths are taken anew whenever an order is made, as each epoch may have other rows.
    Rows are shuffled, those of at most 50 batches at a time are sorted by length and split into batches, and all
    batches are shuffled; the rows left over come last. The order is torch's global random state's, which a checkpoint
    keeps.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        lengths = torch.tensor([len(self.rows[index].get("input_ids", ())) for index in range(len(self))])
        order = torch.randperm(len(self))
        whole = len(order) // self.size * self.size
        batches = order[:whole].view(-1, self.size)
        groups = batches.tensor_split(max(math.ceil(len(batches) / AMONG), 1))
        ordered = [group.flatten()[lengths[group].flatten().argsort()].view(-1, self.size) for group in groups]
        yield from torch.cat(ordered)[torch.randperm(len(batches))].flatten().tolist()
        yield from order[whole:].tolist()


class SameOrder(Sampler[int]):
    """A sampler whose order is that of the first process in every process, which each takes its part of."""

    def __init__(self, sampler: Sampler[int], device: torch.device) -> None:
        self.sampler, self.device = sampler, device

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        from accelerate.utils import broadcast

        torch.set_rng_state(broadcast(torch.get_rng_state().to(self.device)).cpu())
        yield from self.sampler
