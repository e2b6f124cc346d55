"""Each attention against its formula, written out with loops over queries and keys."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.replacements.attention import AttentionKind, attend
from mpcify.replacements.forms import FORMS

NAMES = ["softmax", "2quad", "2relu", "2quad-freediv", "softmax-freediv", "relu-freediv"]
shapes = st.fixed_dictionaries(
    {"heads": st.integers(1, 3), "n": st.integers(1, 6), "width": st.integers(1, 4), "seed": st.integers(0, 999)}
)


def tensors(heads, n, width, seed):
    torch.manual_seed(seed)
    q, k, v = torch.randn(3, 1, heads, n, width, dtype=torch.double)
    mask = (torch.rand(1, 1, 1, n) < 0.7).double()
    mask[..., 0] = 1
    return q, k, v, mask, 5 + torch.randn(heads).double(), torch.randn(heads).double()


def kind_of(name, centre):
    return AttentionKind(name, centre, 4, 0.5)


def weight(name, score, c, t):
    if FORMS[name].shift:
        return (score + c) ** 2
    if name == "softmax-freediv":
        return (1 + score / 2**t) ** (2**t)
    return math.exp(score) if name == "softmax" else max(score, 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@given(shape=shapes)
@settings(deadline=None, max_examples=10)
def test_attention_equals_its_formula(name, centre, biased, shape):
    q, k, v, mask, c, log_gamma = tensors(**shape)
    kind = kind_of(name, centre)
    bias = torch.randn(1, shape["heads"], shape["n"], shape["n"]).double()
    parameters = (c if FORMS[name].shift else None, log_gamma if FORMS[name].first_gamma else None)
    output, scores = attend(kind, q, k, v, mask, *parameters, bias if biased else None)
    real = [j for j in range(shape["n"]) if mask[0, 0, 0, j]]
    for h in range(shape["heads"]):
        mean = sum(k[0, h, j] for j in real) / len(real) if centre else 0
        for i in range(shape["n"]):
            b = bias[0, h, i] * biased
            s = {j: float(q[0, h, i] @ (k[0, h, j] - mean)) * kind.scaling + float(b[j]) for j in real}
            w = {j: weight(name, s[j], float(c[h]), kind.t) for j in real}
            if FORMS[name].first_gamma:
                expected = sum(w[j] * math.exp(log_gamma[h]) / len(real) * v[0, h, j] for j in real)
            else:
                total = sum(w.values()) + (2.0**-10 if name == "2relu" else 0)
                expected = sum(w[j] * v[0, h, j] for j in real) / total
            torch.testing.assert_close(output[0, h, i], expected, rtol=1e-9, atol=1e-9)
            assert all(abs(float(scores[0, h, i, j]) - s[j]) < 1e-9 for j in real)


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, padding=st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_padding_changes_nothing(name, shape, padding):
    q, k, v, mask, c, log_gamma = tensors(**shape)
    parameters = (c if FORMS[name].shift else None, log_gamma if FORMS[name].first_gamma else None)
    output, _ = attend(kind_of(name, True), q, k, v, mask, *parameters)
    longer = [torch.cat([x, 7 * torch.ones_like(x[:, :, :1]).expand(-1, -1, padding, -1)], 2) for x in (q, k, v)]
    mask = torch.cat([mask, mask.new_zeros(1, 1, 1, padding)], 3)
    padded, _ = attend(kind_of(name, True), *longer, mask, *parameters)
    torch.testing.assert_close(padded[:, :, : output.shape[2]], output, rtol=1e-9, atol=1e-9)


def test_no_mask_means_that_every_key_is_real():
    q, k, v, _, c, log_gamma = tensors(2, 5, 3, 0)
    ones = torch.ones(1, 1, 1, 5)
    kind = kind_of("2quad-freediv", False)
    torch.testing.assert_close(attend(kind, q, k, v, None, c, log_gamma), attend(kind, q, k, v, ones, c, log_gamma))
