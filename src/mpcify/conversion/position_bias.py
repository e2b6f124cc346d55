"""Attention with a position bias, S = QKᵀ/√d + B: made to call what is registered, and B as the owner keeps it.

Which families have one, and under which names, stands in `families`. B (heads, n, n) is learned, and the same for every
layer and every text: B[h, i, j] depends on j − i alone, so that b (heads, 2N − 1), one number a distance, gives it for
every n up to the longest text N.
"""

from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mpcify.conversion.facts import longest_text
from mpcify.conversion.families import PositionBias, family_of
from mpcify.errors import MpcifyError


def adapt(model: PreTrainedModel) -> None:
    """Lets a model's attentions call the one that is registered, if its family's own do not; in place."""
    facts = family_of(model.config.model_type).position_bias
    if facts is None:
        return
    for module in model.modules():
        if type(module).__name__ == facts.attention:
            module.__class__ = registered(type(module), facts)  # type: ignore[arg-type]
            module.config = model.config


@cache
def registered(own: type[nn.Module], facts: PositionBias) -> type[nn.Module]:
    """An attention's class, under its own name and with its own parameters, that calls the registered attention."""

    class Attention(own):  # type: ignore[misc, valid-type]
        def forward(
            self,
            hidden_states: Tensor,
            attention_mask: Tensor | None = None,
            position_bias: Tensor | None = None,
            **terms: Any,
        ) -> tuple[Tensor, Tensor | None]:
            """W_O of the attention's output, (batch, n, H), and what the attention gives as scores."""
            query, key, value, output = (getattr(self, name) for name in facts.projections)
            shape = (*hidden_states.shape[:-1], -1, self.attention_head_size)
            q, k, v = (linear(hidden_states).view(shape).transpose(1, 2) for linear in (query, key, value))
            attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
            scaling = self.attention_head_size**-0.5
            context, scores = attend(self, q, k, v, attention_mask, scaling=scaling, score_bias=position_bias, **terms)
            return output(context.flatten(2)), scores

    Attention.__name__, Attention.__qualname__, Attention.__module__ = own.__name__, own.__qualname__, own.__module__
    return Attention


@torch.no_grad()
def position_bias(model: PreTrainedModel, length: int) -> Tensor | None:
    """B of a model at n tokens, (heads, n, n), on the CPU; None if its family has none."""
    facts = family_of(model.config.model_type).position_bias
    if facts is None:
        return None
    found: Tensor = attrgetter(facts.method)(model.base_model)(torch.zeros(1, length, 1, device=model.device))
    return found[0].cpu()


def bias_by_distance(model: PreTrainedModel) -> Tensor | None:
    """b (heads, 2N − 1), N the longest text: B[h, i, j] = b[h, N − 1 + j − i]; None if the model has no position bias.

    Raises MPC-204 if B depends on anything but the distance.
    """
    whole = position_bias(model, longest_text(model))
    if whole is None:
        return None
    found = torch.cat([whole[:, 1:, 0].flip(1), whole[:, 0]], 1)
    if not torch.equal(spread(found, whole.shape[-1]), whole):
        what = "its position bias depends on more than the distance between two tokens"
        raise MpcifyError(204, model.config.model_type, what, "use a model whose bias does not")
    return found


def spread(by_distance: Tensor, length: int) -> Tensor:
    """B (heads, n, n) of b (heads, 2N − 1)."""
    places = torch.arange(length)
    return by_distance[:, (by_distance.shape[1] - 1) // 2 + places[None] - places[:, None]]
