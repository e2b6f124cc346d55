"""The replacements as transformers sees them: an attention function, a mask function and activation modules.

While a model is exported, each replacement is one node of the trace (`mpcify::attention`, `mpcify::activation`), so
that the graph's passes meet it whole and need not recognise it among a dozen products.
"""

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function

from mpcify.errors import MpcifyError
from mpcify.replacements.activation import FUNCTIONS
from mpcify.replacements.attention import AttentionKind, attend
from mpcify.replacements.forms import FORMS

# Whether this thread exports a model (torch's own flag is the whole process's, and other threads may be training).
EXPORTING: ContextVar[bool] = ContextVar("exporting", default=False)
IMPLEMENTATION = "mpcify"  # the name under which transformers finds both functions


@torch.library.custom_op("mpcify::attention", mutates_args=())
def traced_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    score_bias: Tensor | None,
    c: Tensor | None,
    log_gamma: Tensor | None,
    name: str,
    centre_keys: bool,
    t: int,
    scaling: float,
) -> Tensor:
    """`attend` as one node of a trace; its output only."""
    kind = AttentionKind(name, centre_keys, t, scaling)
    return attend(kind, query, key, value, mask, c, log_gamma, score_bias)[0].contiguous()


@traced_attention.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return query.new_empty(query.shape)


@torch.library.custom_op("mpcify::activation", mutates_args=())
def traced_activation(x: Tensor, name: str) -> Tensor:
    """An activation as one node of a trace."""
    return FUNCTIONS[name](x).clone()


@traced_activation.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


class Activation(nn.Module):
    """One of the recipe's activations, by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """The activation of x, element by element."""
        if EXPORTING.get():
            return torch.ops.mpcify.activation(x, self.name)
        return FUNCTIONS[self.name](x)

    def extra_repr(self) -> str:
        """The activation's name, as `print(model)` shows it."""
        return self.name


def install_attention(module: nn.Module, name: str, heads: int, *, centre_keys: bool, t: int) -> None:
    """Gives an attention module its function, and the parameters that it trains: c and log γ, one a head, if any."""
    module.mpcify_attention = name  # type: ignore[assignment]
    module.mpcify_centre_keys, module.mpcify_t = centre_keys, t  # type: ignore[assignment]
    form = FORMS[name]
    shift = None if form.shift is None else torch.full((heads,), form.shift)
    log_gamma = None if form.first_gamma is None else torch.full((heads,), form.first_gamma).log()
    for parameter, value in (("c", shift), ("log_gamma", log_gamma)):
        module.register_parameter(parameter, None if value is None else nn.Parameter(value))


def refuse_unknown_terms(terms: dict[str, Any]) -> None:
    """Raises MPC-203 if a model hands its attention what ours would ignore: a bias, or a sliding window."""
    if terms.get("sliding_window") is not None or terms.get("is_causal"):
        raise MpcifyError(203, "attention", "it uses a sliding or causal window", "use a model with full attention")
    extra = sorted(name for name, term in terms.items() if isinstance(term, Tensor) and name != "position_ids")
    if extra:
        raise MpcifyError(
            203,
            "attention",
            f"it takes further terms ({', '.join(extra)})",
            "use a model with plain dot-product attention",
        )


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    score_bias: Tensor | None = None,
    **terms: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: output (batch, n, heads, d), and raw scores unless a model is exported.

    score_bias: B, added to the scores, (1 or batch, heads, n, n); none of transformers' own modules gives it.
    """
    refuse_unknown_terms(terms)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind = AttentionKind(module.mpcify_attention, module.mpcify_centre_keys, module.mpcify_t, scaling)  # type: ignore[arg-type]
    if EXPORTING.get():
        output = torch.ops.mpcify.attention(
            query,
            key,
            value,
            attention_mask,
            score_bias,
            module.c,
            module.log_gamma,
            kind.name,
            kind.centre_keys,
            kind.t,
            scaling,
        )
        return output.transpose(1, 2), None
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = (of_float32(part) for part in (query, key, value))
        output, scores = attend(kind, query, key, value, attention_mask, module.c, module.log_gamma, score_bias)  # type: ignore[arg-type]
    return output.transpose(1, 2).contiguous(), scores


def of_float32(values: Tensor) -> Tensor:
    """At least float32: exp_t raises a number near 1 to the 64th power, and bfloat16 keeps 8 bits of it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def key_mask(*_: Any, attention_mask: Tensor | None = None, mask_function: Any = None, **__: Any) -> Tensor | None:
    """transformers' mask interface: a mask (batch, n) of 0 and 1 to (batch, 1, 1, n), or None. No large negatives.

    Raises MPC-203 for any mask but the plain bidirectional one: a causal or sliding one would be silently wrong.
    """
    if mask_function is not None and mask_function is not bidirectional_mask_function:
        raise MpcifyError(
            203,
            "attention mask",
            "the model masks more than padding",
            "use an encoder with full bidirectional attention",
        )
    return None if attention_mask is None else attention_mask[:, None, None, :].float()


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, key_mask)
