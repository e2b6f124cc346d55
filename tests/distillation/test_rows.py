"""Batches of like length."""

import numpy as np
import torch

from mpcify.distillation.rows import BatchesOfLikeLength


def test_batches_of_like_length_come_in_random_order_and_hold_every_row_once() -> None:
    torch.manual_seed(1)
    lengths = torch.randint(3, 60, (410,)).tolist()
    sampler = BatchesOfLikeLength(lengths, 8)
    torch.manual_seed(0)
    order, other = list(sampler), list(sampler)
    assert sorted(order) == sorted(other) == list(range(len(sampler)))
    assert order != other
    torch.manual_seed(0)
    assert list(sampler) == order
    batches = [[lengths[row] for row in order[start : start + 8]] for start in range(0, 408, 8)]
    assert np.mean([max(batch) - min(batch) for batch in batches]) < 57 / 10
    longest = np.array([max(batch) for batch in batches])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.5  # by falling length it would be near -1
    assert list(BatchesOfLikeLength([5, 4], 8)) in ([0, 1], [1, 0])
