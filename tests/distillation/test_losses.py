"""The losses against their formulas, written out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mpcify.distillation.losses import LossWeights, Representations, losses
from mpcify.graph.about import task_named
from mpcify.replacements.modules import install_attention

REAL = torch.tensor([[True, True, True], [True, True, False]])
CLASSES, REGRESSION = task_named("classification", ("a", "b", "c")), task_named("regression", ("x",))
ONLY = dict.fromkeys(LossWeights.__dataclass_fields__, 0.0)


def module(kind: str = "2quad-freediv", centre_keys: bool = False) -> nn.Module:
    attention = nn.Module()
    install_attention(attention, kind, heads=2, centre_keys=centre_keys, t=6)
    return attention


def make(seed: int, attention: nn.Module | None = None) -> Representations:
    """Random representations of two layers: 2 texts of 3 tokens, 4 wide, 2 heads, 3 labels."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden, context, feed_forward = ([tensor(2, 3, 4) for _ in range(2)] for _ in range(3))
    attentions = [attention or module()] * 2
    scores = [tensor(2, 2, 3, 3) for _ in range(2)]
    return Representations(tensor(2, 3, 4), hidden, context, feed_forward, scores, attentions, tensor(2, 3))


def one(name: str, student: Representations, teacher: Representations, regression: bool = False) -> float:
    """One loss alone, at weight 2."""
    terms = losses(LossWeights(**{**ONLY, name: 2.0}), student, teacher, REAL, REGRESSION if regression else CLASSES)
    assert list(terms) == [name]
    return float(terms[name])


def relative(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = (torch.cat([values[0], values[1, :2]]) for values in (ours, theirs))
    return float(((ours - theirs) ** 2).mean() / theirs.var())


def test_tokens_are_compared_relative_to_the_target_s_variance() -> None:
    student, teacher = make(0), make(1)
    assert one("embeddings", student, teacher) == pytest.approx(2 * relative(student.embeddings, teacher.embeddings))
    for name in ("hidden", "attention"):
        pairs = zip(getattr(student, name), getattr(teacher, name), strict=True)
        assert one(name, student, teacher) == pytest.approx(2 * sum(relative(a, b) for a, b in pairs))


def real_pairs(scores: Tensor) -> Tensor:
    """The scores of real queries and keys, written out."""
    return torch.cat([scores[0].flatten(), scores[1, :, :2, :2].flatten()])


def test_scores_are_compared_over_real_pairs() -> None:
    student, teacher = make(0), make(1)
    expected = 0.0
    for ours, theirs in zip(student.scores, teacher.scores, strict=True):
        a, b = real_pairs(ours), real_pairs(theirs)
        expected += float(((a - b) ** 2).mean() / b.var(correction=0))
    assert one("scores", student, teacher) == pytest.approx(2 * expected, rel=1e-5)


def test_centred_keys_are_compared_with_centred_scores() -> None:
    """A teacher whose scores differ from the student's by a constant a row costs nothing if keys are centred."""
    student, teacher = make(0, module("softmax-freediv", centre_keys=True)), make(1)
    shifted = [scores + 7 * torch.randn(2, 2, 3, 1) for scores in teacher.scores]
    centred = []
    for scores in teacher.scores:
        mean = torch.stack([scores[0].mean(-1), scores[1, :, :, :2].mean(-1)])
        centred.append(scores - mean[..., None])
    student = replace(student, scores=centred)
    assert one("scores", student, replace(teacher, scores=shifted)) == pytest.approx(0, abs=1e-10)
    assert one("scores", replace(student, attentions=[module()] * 2), replace(teacher, scores=shifted)) > 0.1


def test_so_is_a_student_s_bias_that_is_the_same_for_a_whole_row() -> None:
    student, teacher = make(0, module("softmax-freediv", centre_keys=True)), make(1)
    before = one("scores", student, teacher)
    biased = replace(student, scores=[scores + 7 * torch.randn(2, 2, 3, 1) for scores in student.scores])
    assert one("scores", biased, teacher) == pytest.approx(before, rel=1e-5)


def test_padding_has_no_influence() -> None:
    student, teacher = make(0), make(1)
    weights = LossWeights(1, 1, 1, 1, 1, 1, 1)
    before = losses(weights, student, teacher, REAL, CLASSES)
    for values in (student.embeddings, *student.hidden, *student.attention, *student.feed_forward):
        values[1, 2] = 1e3
    for scores in student.scores:
        scores[1, :, 2], scores[1, :, :, 2] = 1e3, 1e3
    after = losses(weights, student, teacher, REAL, CLASSES)
    assert {name: float(value) for name, value in before.items()} == {
        name: float(value) for name, value in after.items()
    }


def test_answers_are_compared_by_soft_cross_entropy_or_mean_square() -> None:
    student, teacher = make(0), make(1)
    expected = -(teacher.logits.softmax(-1) * student.logits.log_softmax(-1)).sum(-1).mean()
    assert one("logits", student, teacher) == pytest.approx(2 * float(expected))
    square = ((student.logits - teacher.logits) ** 2).mean()
    assert one("logits", student, teacher, regression=True) == pytest.approx(2 * float(square))


def test_feed_forward_outputs_are_free_up_to_32() -> None:
    student = make(0)
    assert one("feed_forward_range", student, make(1)) == 0
    student.feed_forward[1][0, 0, 0] = -35.0
    assert one("feed_forward_range", student, make(1)) == pytest.approx(2 * 3.0**2 / (5 * 4))  # 5 real tokens, 4 wide


def test_scores_under_exp_t_are_free_from_minus_48_to_8() -> None:
    student = make(0, module("softmax-freediv"))
    assert one("score_range", student, make(1)) == 0
    student.scores[0][0, 1, 2, 0], student.scores[0][0, 0, 0, 0] = -50.0, 11.0
    assert one("score_range", student, make(1)) == pytest.approx(2 * (2.0**2 + 3.0**2) / (13 * 2))  # 13 pairs, 2 heads


def test_other_attentions_have_no_bound_on_their_scores() -> None:
    student = make(0, module("2quad-freediv"))
    student.scores[0][0, 0, 0, 0] = 100.0
    assert losses(LossWeights(**{**ONLY, "score_range": 1.0}), student, make(1), REAL, CLASSES) == {}


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        LossWeights(hidden=-1.0)
