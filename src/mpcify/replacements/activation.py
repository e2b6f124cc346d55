"""The activations: exact GeLU, its two usual approximations, and Quad, which is one square."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mpcify.replacements.forms import GELU_POLY_HIGH, GELU_POLY_LOW


def quad(x: Tensor) -> Tensor:
    """0.125x² + 0.25x + 0.5 (MPCFormer, Li et al. 2023)."""
    return 0.125 * x * x + 0.25 * x + 0.5


def gelu_poly(x: Tensor) -> Tensor:
    """PUMA's piecewise GeLU: 0 below −4, a cubic to −1.95, a sextic to 3, x above; error below 0.02.

    Source: Dong et al. 2023.
    """
    x2 = x * x
    x3, x4, x6 = x2 * x, x2 * x2, x2 * x2 * x2
    p, q = GELU_POLY_LOW, GELU_POLY_HIGH
    low = p[3] * x3 + p[2] * x2 + p[1] * x + p[0]
    high = q[6] * x6 + q[4] * x4 + q[2] * x2 + q[1] * x + q[0]
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
