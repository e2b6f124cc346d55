"""The activations: exact GeLU, its two usual approximations, and Quad, which is one square."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def quad(x: Tensor) -> Tensor:
    """0.125x² + 0.25x + 0.5 (MPCFormer, Li et al. 2023)."""
    return 0.125 * x * x + 0.25 * x + 0.5


def gelu_poly(x: Tensor) -> Tensor:
    """PUMA's piecewise GeLU (Dong et al.

    2023): 0 below −4, a cubic to −1.95, a sextic to 3, x above; error below 0.02.
    """
    x2 = x * x
    x3, x4, x6 = x2 * x, x2 * x2, x2 * x2 * x2
    low = -0.011034134030615728 * x3 - 0.11807612951181953 * x2 - 0.42226581151983866 * x - 0.5054031199708174
    high = (
        0.0018067462606141187 * x6
        - 0.037688200365904236 * x4
        + 0.3603292692789629 * x2
        + 0.5 * x
        + 0.008526321541038084
    )
    inner = torch.where(x < -1.95, low, high)
    return torch.where(x < -4, torch.zeros_like(x), torch.where(x > 3, x, inner))


def gelu_tanh(x: Tensor) -> Tensor:
    """x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))."""
    return F.gelu(x, approximate="tanh")


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": gelu_tanh,
    "gelu-poly": gelu_poly,
    "quad": quad,
    "relu": F.relu,
}
