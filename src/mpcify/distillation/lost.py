"""Whether a training is lost, and which layer is to blame."""

import math

import torch
from torch import Tensor

from mpcify.distillation.losses import Representations, relative_error, tokens_of

EXPLODED = 10.0  # times the least loss: such a run is lost
SMALL = 1e-2  # a loss of which ten times as much is no loss of the run
SMOOTHED = 20  # steps


class Growth:
    """Whether a loss explodes: its running mean comes to `EXPLODED` times the least that it has been in this stage, or
    times `SMALL` if it has been less.

    The running mean is over about 20 steps; the first 20 of a stage only fill it.
    """

    def __init__(self) -> None:
        self.begin(False)

    def begin(self, stage: bool) -> None:
        """A stage: other losses count from here on."""
        self.stage, self.steps, self.mean, self.least = stage, 0, 0.0, math.inf

    def exploded(self, loss: float, stage: bool) -> bool:
        """Takes in a step's loss."""
        if stage != self.stage:
            self.begin(stage)
        self.steps += 1
        self.mean += (loss - self.mean) / min(self.steps, SMOOTHED)
        if self.steps >= SMOOTHED:
            self.least = min(self.least, self.mean)
        return self.mean > EXPLODED * max(self.least, SMALL)


def not_finite(ours: Representations, real: Tensor) -> int | None:
    """The first call of a layer whose output is not finite."""
    return next((call for call, hidden in enumerate(ours.hidden) if not torch.isfinite(hidden[real]).all()), None)


@torch.no_grad()
def furthest(ours: Representations, theirs: Representations, real: Tensor) -> int:
    """The call of a layer whose output is furthest from the teacher's, by MSE ÷ variance."""
    tokens = tokens_of(real)
    errors = [float(relative_error(mine, his, tokens)) for mine, his in zip(ours.hidden, theirs.hidden, strict=True)]
    return errors.index(max(errors))
