"""The attentions: exact softmax, and those that secure computation does without division or comparison.

Shapes: query, key, value (batch, heads, n, d); mask M (batch, 1, 1, n), 1 for a real key and 0 for padding, or None
if every key is real; c and γ one a head; B, a model's bias on scores, (1 or batch, heads, n, n) or None. m = ΣM,
S = Q Kᵀ · scaling + B.

`2quad` is MPCFormer's (Li et al. 2023, section 4). The two freeDiv attentions carry the names of Liu et al. 2024
(10.7544/issn1000-1239.202330966), whose formulas are not public: these are a reconstruction.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcify.replacements.forms import FORMS, Form


@dataclass(frozen=True)
class AttentionKind:
    """Which attention a layer computes: its form's name, whether keys are centred, t of exp_t, the factor on QKᵀ."""

    name: str
    centre_keys: bool
    t: int
    scaling: float

    @property
    def form(self) -> Form:
        """The form of that name."""
        return FORMS[self.name]


def exp_t(x: Tensor, t: int) -> Tensor:
    """(1 + x/2ᵗ)^(2ᵗ), by t squarings. Near eˣ for |x| ≪ 2ᵗ; rises again below −2ᵗ. Never clipped."""
    y = 1 + x / 2**t
    for _ in range(t):
        y = y * y
    return y


def real_share(mask: Tensor) -> Tensor:
    """Mⱼ/m, (batch, 1, n, 1): each real key's share, a row a key."""
    return (mask / mask.sum(-1, keepdim=True)).transpose(2, 3)


def raw_scores(kind: AttentionKind, query: Tensor, key: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
    """S = Q Kᵀ · scaling + B, (batch, heads, n, n); with centred keys, K − Σⱼ (Mⱼ/m) Kⱼ takes the place of K.

    B is added as it is: its mean over real keys depends on the mask, and a centred B would be no weight.
    """
    if kind.centre_keys:
        key = key - (real_share(mask) * key).sum(2, keepdim=True)
    scores = query @ key.transpose(2, 3) * kind.scaling
    return scores if bias is None else scores + bias


def shifted_square(scores: Tensor, c: Tensor | None, _: int) -> Tensor:
    """(S + c)²."""
    return (scores if c is None else scores + c.view(1, -1, 1, 1)) ** 2


# A power's name: its formula, from the scores, c and t.
WEIGHTS: dict[str, Callable[[Tensor, Tensor | None, int], Tensor]] = {
    "square": shifted_square,
    "relu": lambda scores, c, t: scores.relu(),
    "exp_t": lambda scores, c, t: exp_t(scores, t),
}


def score_weights(kind: AttentionKind, scores: Tensor, c: Tensor | None) -> Tensor:
    """What each key weighs before mask, γ and division: (S+c)², exp_t(S) or ReLU(S). Not for softmax."""
    return WEIGHTS[kind.form.power.name](scores, c, kind.t)


def attend(
    kind: AttentionKind,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    c: Tensor | None,
    log_gamma: Tensor | None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The attention's output (batch, heads, n, d), and the raw scores S (batch, heads, n, n).

    softmax: Σⱼ softmaxⱼ(Sᵢⱼ) Vⱼ over real keys. 2quad, 2relu: Σⱼ Mⱼ wᵢⱼ Vⱼ / (Σⱼ Mⱼ wᵢⱼ [+ 2⁻¹⁰ for 2relu]).
    freeDiv: Σⱼ wᵢⱼ · γ · (Mⱼ/m) · Vⱼ. w is (S+c)², ReLU(S) or exp_t(S).
    """
    if mask is None:
        mask = torch.ones(query.shape[0], 1, 1, key.shape[2], dtype=query.dtype, device=query.device)
    mask = mask.to(query.dtype)
    scores = raw_scores(kind, query, key, mask, bias)
    if kind.form.exact:
        return scores.masked_fill(mask == 0, float("-inf")).softmax(-1) @ value, scores
    weights = score_weights(kind, scores, c)
    if log_gamma is not None:
        return weights @ (log_gamma.exp().view(1, -1, 1, 1) * real_share(mask) * value), scores
    weights = weights * mask
    return weights @ value / (weights.sum(-1, keepdim=True) + kind.form.floor), scores
