"""What a student is trained to match: its teacher's representations first, and its answers.

All means are over real tokens (or real pairs of query and key): padding has no influence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from mpcify.conversion.blocks import Call, LayerBlocks, watching
from mpcify.graph.about import Classification, Regression, Task
from mpcify.replacements.forms import FORMS

FEED_FORWARD_LIMIT = 32.0  # of |W₂ f + b|: keeps LayerNorm's variance inside what fixed point can hold
SCORE_HIGH = 8.0  # of scores under exp_t; e⁸ is 3,000
SCORE_LOW = -0.75  # times 2ᵗ; exp_t is 0 at −2ᵗ and rises below it


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss; a loss of weight 0 is not computed.

    embeddings, hidden, attention, scores: Σ over layers of MSE ÷ the target's variance, for what enters the first
    layer, what leaves each layer, each attention's output before W_O, and the raw scores S (of both centred over real
    keys if the student centres its keys; this undoes the scale that calibration gives scores under exp_t).
    logits: soft cross-entropy −Σ p_teacher log p_student, or the MSE for regression. feed_forward_range: Σ over
    layers of mean ReLU(|W₂ f + b| − 32)². score_range, for exp_t: Σ over layers of mean ReLU(−0.75·2ᵗ − S)² +
    ReLU(S − 8)².
    """

    embeddings: float = 0.0
    hidden: float = 1.0
    attention: float = 0.0
    scores: float = 0.0
    logits: float = 1.0
    feed_forward_range: float = 0.1
    score_range: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"the weight of the loss {field.name} is negative")


@dataclass(frozen=True)
class Representations:
    """What a model computes on the way, one entry a call of an encoder layer (ALBERT calls one layer many times).

    embeddings, hidden, attention, feed_forward: (batch, n, ·). scores: (batch, heads, n, n); raw only in a student.
    attentions: the modules that computed them.
    """

    embeddings: Tensor
    hidden: Sequence[Tensor]
    attention: Sequence[Tensor]
    feed_forward: Sequence[Tensor]
    scores: Sequence[Tensor]
    attentions: Sequence[nn.Module]
    logits: Tensor


def observe(
    model: nn.Module, inside: PreTrainedModel, layers: Sequence[LayerBlocks], inputs: Mapping[str, Tensor]
) -> Representations:
    """Runs a model and keeps what the losses compare. inside: the model itself, if `model` is wrapped."""
    watched: dict[nn.Module, str] = {}
    for blocks in layers:
        watched[inside.get_submodule(blocks.site.layer)] = "layer"
        watched[inside.get_submodule(blocks.site.attention)] = "scores"
        watched[inside.get_submodule(blocks.attention.projection)] = "attention"
        watched[inside.get_submodule(blocks.feed_forward.projection)] = "feed forward"
    with watching(watched) as calls:
        logits = model(**inputs).logits

    def called(place: str) -> list[Call]:
        return [call for call in calls if watched[call.module] == place]

    return Representations(
        embeddings=called("layer")[0].input,
        hidden=[call.result for call in called("layer")],
        attention=[call.input for call in called("attention")],
        feed_forward=[call.result for call in called("feed forward")],
        scores=[call.output[1] for call in called("scores") if call.output[1:]],  # MPNet's own attention has none
        attentions=[call.module for call in called("scores")],
        logits=logits,
    )


def losses(
    weights: LossWeights, student: Representations, teacher: Representations, real: Tensor, task: Task
) -> dict[str, Tensor]:
    """Every loss that has a weight, times its weight, by the names of `LossWeights`.

    real: which tokens are no padding, (batch, n) booleans. The teacher's scores must be raw: those of a student of the
    recipe `exact`.
    """
    tokens = tokens_of(real)
    pairs = (real[:, None, :, None] & real[:, None, None, :]).float()
    terms: dict[str, Tensor] = {}
    if weights.embeddings:
        terms["embeddings"] = relative_error(student.embeddings, teacher.embeddings, tokens)
    for name in ("hidden", "attention"):
        if getattr(weights, name):
            both = zip(getattr(student, name), getattr(teacher, name), strict=True)
            terms[name] = total(relative_error(ours, theirs, tokens) for ours, theirs in both)
    if weights.scores:
        compared = (
            [centred(scores, real) for scores in both] if module.mpcify_centre_keys else both
            for module, *both in zip(student.attentions, student.scores, teacher.scores, strict=True)
        )
        terms["scores"] = total(relative_error_of_pairs(ours, theirs, pairs) for ours, theirs in compared)
    if weights.logits:
        terms["logits"] = answer_loss(task)(student.logits, teacher.logits)
    if weights.feed_forward_range:
        excess = (F.relu(chosen(values, tokens).float().abs() - FEED_FORWARD_LIMIT) for values in student.feed_forward)
        terms["feed_forward_range"] = total((values**2).mean() for values in excess)
    bounded = [
        (scores, SCORE_LOW * 2.0 ** int(module.mpcify_t))  # type: ignore[arg-type]
        for module, scores in zip(student.attentions, student.scores, strict=True)
        if FORMS[str(module.mpcify_attention)].power.steep
    ]
    if weights.score_range and bounded:
        terms["score_range"] = total(mean_of_pairs(outside(scores, low), pairs) for scores, low in bounded)
    return {name: getattr(weights, name) * term for name, term in terms.items()}


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum over layers."""
    return torch.stack(list(terms)).sum()


def tokens_of(real: Tensor) -> Tensor:
    """Where the real tokens are among a batch's, counted row after row; real: (batch, n) booleans."""
    return real.flatten().nonzero()[:, 0]


def chosen(values: Tensor, tokens: Tensor) -> Tensor:
    """The values (batch, n, ·) of some tokens, (tokens, ·): unlike booleans, places need no answer of a GPU's first."""
    return values.flatten(0, 1).index_select(0, tokens)


def relative_error(ours: Tensor, theirs: Tensor, tokens: Tensor) -> Tensor:
    """MSE ÷ the target's variance, over some tokens; (batch, n, ·) each."""
    target = chosen(theirs, tokens).float()
    return F.mse_loss(chosen(ours, tokens).float(), target) / target.var()


def relative_error_of_pairs(ours: Tensor, theirs: Tensor, pairs: Tensor) -> Tensor:
    """MSE ÷ the target's variance, over pairs of real tokens; (batch, heads, n, n) each."""
    mean = mean_of_pairs(theirs, pairs)
    return mean_of_pairs((ours - theirs) ** 2, pairs) / mean_of_pairs((theirs - mean) ** 2, pairs)


def mean_of_pairs(values: Tensor, pairs: Tensor) -> Tensor:
    """The mean over pairs of real tokens, (batch, heads, n, n); pairs: (batch, 1, n, n) of 0 and 1."""
    return (values * pairs).sum() / (pairs.sum() * values.shape[1])


def centred(scores: Tensor, real: Tensor) -> Tensor:
    """S less its mean over real keys: what the scores become when keys are centred, but for a bias on them."""
    share = (real / real.sum(-1, keepdim=True)).to(scores.dtype)
    return scores - torch.einsum("bhij,bj->bhi", scores, share)[..., None]


def outside(scores: Tensor, low: float) -> Tensor:
    """The square of how far each score lies outside the range of exp_t."""
    return F.relu(low - scores) ** 2 + F.relu(scores - SCORE_HIGH) ** 2


AnswerLoss = Callable[[Tensor, Tensor], Tensor]


def soft_cross_entropy(ours: Tensor, theirs: Tensor) -> Tensor:
    """−Σ p_teacher log p_student, mean over examples."""
    return F.cross_entropy(ours.float(), theirs.float().softmax(-1))


def squared_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """(student − teacher)², mean over examples."""
    return F.mse_loss(ours.float(), theirs.float())


ANSWER_LOSSES: Mapping[type[Task], AnswerLoss] = {Classification: soft_cross_entropy, Regression: squared_error}


def answer_loss(task: Task) -> AnswerLoss:
    """What a task's logits are compared by."""
    return ANSWER_LOSSES[type(task)]
