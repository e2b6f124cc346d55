"""Doublings before a LayerNorm: ranges that nobody measures neither overflow floats nor fill the memory."""

import pytest

from mpcify.engines.spu.rules import SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import prove
from mpcify.graph.rewrite import MOST_DOUBLINGS, double_small, raising
from mpcify.numerics import FixedPoint


def norm(eps: float, variance: tuple[float, float]) -> Graph:
    builder = Builder(1, 1)
    x = builder.input("x", "client", (1, 4))
    g, b = builder.input("g", "owner", (4,)), builder.input("b", "owner", (4,))
    graph = builder.finish(None, [builder.emit("norm", "layernorm", (x, g, b), eps=eps)])
    return graph.with_ranges({"norm": {"value": (-1.0, 1.0), "product": (-1.0, 1.0), "variance": variance}})


def test_a_small_variance_is_doubled_to_one_and_never_more_than_any_ring_can_use() -> None:
    assert raising([(2.0**-20, 2.0**-20)]) == 10
    assert raising([(1e-160, 1e-160)]) == MOST_DOUBLINGS
    assert len(double_small(norm(0.0, (1e-160, 1e-160))).operations) == MOST_DOUBLINGS + 1


@pytest.mark.parametrize("eps, variance", [(1e308, (1e-20, 1e-20)), (0.0, (5e-324, 1e308)), (1e308, (5e-324, 1e308))])
def test_ends_that_overflow_floats_are_a_numbered_refusal(eps: float, variance: tuple[float, float]) -> None:
    rules = SpuRules(FixedPoint(64, 18))
    with pytest.raises(MpcifyError, match=r"MPC-40[24]"):
        prove(rules.fit(norm(eps, variance)), rules)
