import math

import pytest
import torch

from mpcify.replacements.activation import FUNCTIONS

X = torch.linspace(-8, 8, 1601, dtype=torch.double)


def test_quad_is_one_scaled_square():
    torch.testing.assert_close(FUNCTIONS["quad"](X), 0.125 * (X + 1) ** 2 + 0.375, rtol=1e-12, atol=1e-12)


def test_gelu_is_x_times_the_normal_distribution():
    expected = torch.tensor([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in X.tolist()], dtype=torch.double)
    torch.testing.assert_close(FUNCTIONS["gelu"](X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, bound", [("gelu-tanh", 1e-3), ("gelu-poly", 2e-2)])
def test_approximations_stay_close_to_gelu(name, bound):
    assert (FUNCTIONS[name](X) - FUNCTIONS["gelu"](X)).abs().max() < bound


def test_gelu_poly_is_exact_where_gelu_is_flat_or_linear():
    assert (FUNCTIONS["gelu-poly"](X[X < -4]) == 0).all()
    assert torch.equal(FUNCTIONS["gelu-poly"](X[X > 3]), X[X > 3])
