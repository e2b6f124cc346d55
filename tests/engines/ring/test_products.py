"""Steps without a message are exact: sums, moves and products, against Python's integers in every ring."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.protocols import local
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth, Parts
from mpcify.engines.ring.protocols.opening import Lift, Open
from mpcify.engines.ring.protocols.products import CentredDiagonal, Diagonal, Linear, Matmul, Multiplied
from tests.engines.ring.scene import Chain, Scene, below, drawn, in_parts, integers, keys, signed

SEEDS = st.integers(0, 2**32 - 1)
RINGS = st.sampled_from([1, 24, 32, 40, 48, 52, 53, 56, 64])
many = settings(max_examples=40, deadline=None)
ZERO = st.fixed_dictionaries({"owner": st.booleans(), "dealer": st.booleans()})


@pytest.mark.parametrize(
    "kind, shapes, fields, wanted",
    [
        (local.Add, [(2, 3, 4), (1, 3, 1)], {"factors": (1, 1)}, lambda a, b: a + b),
        (local.Add, [(2, 1), (2, 5)], {"factors": (256, -1)}, lambda a, b: 256 * a - b),
        (local.Multiply, [(2, 3)], {"factor": -12345}, lambda x: -12345 * x),
        (local.Sum, [(2, 3, 4)], {"axis": 1}, lambda x: x.sum(1, keepdims=True)),
        (local.Centre, [(2, 6)], {"factor": 6, "share": 1}, lambda x: 6 * x - x.sum(-1, keepdims=True)),
        (
            local.Join,
            [(2, 3), (2, 1), (2, 4)],
            {"axis": 1, "shapes": ((2, 3), (2, 1), (2, 4))},
            lambda *x: np.concatenate(x, 1),
        ),
        (local.Moved, [(2, 3, 4)], {"move": lambda x: x.transpose(2, 0, 1)}, lambda x: x.transpose(2, 0, 1)),
    ],
)
@many
@given(seed=SEEDS, ring=RINGS, zero=st.lists(ZERO, min_size=3, max_size=3))
def test_linear_functions_are_those_of_the_parts(
    kind: Any,
    shapes: list[tuple[int, ...]],
    fields: dict[str, Any],
    wanted: Callable[..., np.ndarray],
    seed: int,
    ring: int,
    zero: list[dict[str, bool]],
) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    values = [integers(drawn(random, *shape)) for shape in shapes]
    sources = [chain.given(in_parts(random, z, ring, **zero[i])) for i, z in enumerate(values)]
    right = wanted(*values)
    last = chain.add(kind, *sources, shape=right.shape, **fields)
    np.testing.assert_array_equal(Scene(chain.ready(last, ring).steps).run().whole(last, ring), signed(right, ring))


def test_what_all_have_nothing_of_stays_nothing() -> None:
    """So that a value of one party's alone costs the others nothing."""
    chain = Chain()
    x = chain.given(in_parts(np.random.default_rng(0), np.ones((2, 3), object), 64, owner=True, dealer=True))
    last = chain.add(local.Join, x, x, shape=(2, 6), axis=1, shapes=((2, 3), (2, 3)))
    scene = Scene(chain.ready(chain.add(local.Multiply, last, shape=(2, 6), factor=3), 64).steps).run()
    assert scene.owner.values[2] is None
    assert scene.dealer.values[2] is None


def masked(chain: Chain, random: np.random.Generator, z: np.ndarray, ring: int) -> Mask:
    """A value masked towards the owner."""
    source = chain.given(in_parts(random, z, ring))
    return chain.add(Mask, source, shape=z.shape, messages=1, known=False, corrected=True, ahead=True)


@many
@given(SEEDS, RINGS, st.sampled_from([(2, 5, 3), (1, 1, 1), (7, 8, 9)]), st.booleans())
def test_a_linear_layer_is_exact(seed: int, ring: int, sizes: tuple[int, int, int], leading: bool) -> None:
    random, chain, secrets, (m, p, q) = np.random.default_rng(seed), Chain(), keys(), sizes
    z, w = integers(drawn(random, *((2, m, p) if leading else (m, p)))), drawn(random, p, q)
    right = z @ integers(w)
    last = chain.add(
        Linear, masked(chain, random, z, ring), shape=right.shape, slot=chain.slot((p, q), False), ahead=True
    )
    chain.ready(last, ring)
    scene = Scene(chain.steps, secrets, chain.weigh([w], secrets)).run()
    np.testing.assert_array_equal(scene.whole(last, ring), signed(right, ring))


@many
@given(SEEDS, RINGS)
def test_products_with_a_vector_are_exact(seed: int, ring: int) -> None:
    random, chain, secrets = np.random.default_rng(seed), Chain(), keys()
    z, w, pair = integers(drawn(random, 2, 3, 5)), drawn(random, 5), drawn(random, 2, 5)
    x = masked(chain, random, z, ring)
    plain = chain.add(Diagonal, x, shape=z.shape, slot=chain.slot((5,), True), ahead=True)
    centred = chain.add(CentredDiagonal, x, shape=z.shape, slot=chain.slot((2, 5), True), ahead=True)
    for last in (plain, centred):
        chain.ready(last, ring)
    scene = Scene(chain.steps, secrets, chain.weigh([w, pair], secrets)).run()
    np.testing.assert_array_equal(scene.whole(plain, ring), signed(z * w, ring))
    of_rows = (z * pair[1]).sum(-1, keepdims=True)
    np.testing.assert_array_equal(scene.whole(centred, ring), signed(z * pair[0] - of_rows, ring))


@many
@given(SEEDS, RINGS, st.sampled_from([((2, 3), (2, 3)), ((2, 3, 4), (3, 1)), ((1, 4), (5, 1))]))
def test_two_secrets_are_multiplied_exactly(seed: int, ring: int, shapes: tuple[tuple[int, ...], ...]) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    values = [integers(drawn(random, *shape)) for shape in shapes]
    a, b = (chain.add(MaskBoth, chain.given(in_parts(random, z, ring)), shape=z.shape, messages=1) for z in values)
    right = values[0] * values[1]
    last = chain.add(Multiplied, a, b, shape=right.shape)
    np.testing.assert_array_equal(Scene(chain.ready(last, ring).steps).run().whole(last, ring), signed(right, ring))


@many
@given(SEEDS, RINGS, st.booleans(), st.sampled_from([((), ()), ((2,), (2,)), ((2, 3), (2, 3)), ((2,), (1,))]))
def test_two_matrices_are_multiplied_exactly(
    seed: int, ring: int, transpose: bool, leads: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    x, y = integers(drawn(random, *leads[0], 2, 5)), integers(drawn(random, *leads[1], 5, 3))
    right = x @ y
    y = y.swapaxes(-1, -2) if transpose else y
    a, b = (chain.add(MaskBoth, chain.given(in_parts(random, z, ring)), shape=z.shape, messages=1) for z in (x, y))
    last = chain.add(Matmul, a, b, shape=right.shape, transpose=transpose)
    np.testing.assert_array_equal(Scene(chain.ready(last, ring).steps).run().whole(last, ring), signed(right, ring))


@many
@given(SEEDS, RINGS)
def test_a_value_that_a_linear_layer_masked_is_in_parts_again(seed: int, ring: int) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    z = integers(drawn(random, 3, 4))
    last = chain.add(Parts, masked(chain, random, z, ring), shape=z.shape, ahead=True, dealt=False)
    scene = Scene(chain.ready(last, ring).steps).run()
    np.testing.assert_array_equal(scene.whole(last, ring), signed(z, ring))


@many
@given(SEEDS, st.sampled_from([(10, 40), (24, 48), (30, 56), (40, 64)]), st.sampled_from([32, 48, 64]))
def test_a_linear_layer_is_opened_from_what_the_client_sent_ahead(
    seed: int, opening: tuple[int, int], ring: int
) -> None:
    """The dealer's part A·B is never sent: it moves the mask of the opening."""
    (shift, width), secrets = opening, keys()
    random, chain = np.random.default_rng(seed), Chain()
    z, w = below(random, 1 << 16, 3, 8), below(random, 1 << width - 22, 8, 4)
    x = masked(chain, random, z, width)
    product = chain.add(Linear, x, shape=(3, 4), slot=chain.slot((8, 4), False), ahead=True)
    opened = chain.add(Open, product, shape=(3, 4), messages=1, shift=shift, width=width, early=True)
    last = chain.add(Lift, opened, shape=(3, 4), opened=opened)
    chain.ready(last, ring)
    scene = Scene(chain.steps, secrets, chain.weigh([w.astype(np.int64)], secrets)).run()
    np.testing.assert_array_equal(scene.whole(last, ring), signed(scene.cut(opened, z @ w), ring))
    assert {role for role, _ in scene.said} == {"client", "owner"}
    assert ("client", opened.index) not in scene.said
