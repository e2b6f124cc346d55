"""Muon: matrices change by orthogonal updates, in all directions alike, and not most where gradients are largest."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

ROWS = 128  # of a block: the work grows with its square
MOMENTUM = 0.95
CUBIC, STEPS = (3.4445, -4.7750, 2.0315), 5
SIZE = 0.4  # the root mean square of an update at rate 1; that of Adam is about 0.2


class Muon(AdamW):
    """AdamW, but for groups with `orthogonal`: their matrices take steps of Muon, each by blocks of 128 rows.

    With a gradient G, M ← 0.95 M + 0.05 G and U = 0.95 M + 0.05 G, a block B of rows of U gives the update
    0.4 · √(max(rows, columns)) · `polar`(B), whose root mean square is 0.4 whatever the shape: one rate suits both.
    K. Jordan et al., *Muon: an optimizer for hidden layers in neural networks*, 2024; the size is of J. Liu et al.,
    *Muon is scalable for LLM training*, 2025. products: in what `polar` multiplies.
    """

    def __init__(
        self, params: Iterable[Mapping[str, Any]], products: torch.dtype = torch.float32, **options: Any
    ) -> None:
        super().__init__([{"orthogonal": False, **group} for group in params], **options)
        self.products = products

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; what Muon has moved has no gradient any more, and AdamW leaves it."""
        for group in self.param_groups:
            for parameter in group["params"] if group["orthogonal"] else ():
                if parameter.grad is not None:
                    self.turn(parameter, group["lr"], group["weight_decay"])
        return super().step(closure)

    def turn(self, parameter: nn.Parameter, rate: float, decay: float) -> None:
        """A step of Muon."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state |= {"momentum": torch.zeros_like(gradient), "step": torch.tensor(0.0)}  # AdamW reads the steps
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        blocks = gradient.lerp(momentum, MOMENTUM).split(ROWS)
        update = torch.cat([SIZE * max(block.shape) ** 0.5 * polar(block.to(self.products)) for block in blocks])
        parameter.mul_(1 - rate * decay).sub_(update, alpha=rate)


def polar(matrix: Tensor) -> Tensor:
    """Nearly U Vᵀ of a matrix U S Vᵀ: five steps X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, which take each singular value
    towards 1 (0.7 to 1.2).
    """
    a, b, c = CUBIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def muon(model: nn.Module, layers: Collection[str], decaying: Collection[str], args: Any) -> Muon:
    """Muon for the matrices of some layers of a model, AdamW for all else that is trained.

    layers: their paths. decaying: the names of the parameters whose weights decay. args: `DistillationArguments`.
    """
    inside = tuple(f"{layer}." for layer in layers)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = name.startswith(inside) and parameter.ndim == 2, name in decaying
            groups.setdefault(kind, []).append(parameter)
    return Muon(
        (
            {"params": parameters, "orthogonal": orthogonal, "weight_decay": args.weight_decay if decays else 0.0}
            for (orthogonal, decays), parameters in groups.items()
        ),
        products=getattr(torch, args.precision),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
    )
