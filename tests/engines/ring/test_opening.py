"""What follows from an opened value is exact: every step against Python's integers, up to the bound and at it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.prg import Purpose
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Lift, Open, Product, Renew, RenewBoth, Square, Weigh, WeighBoth
from tests.engines.ring.scene import Chain, Scene, below, in_parts, integers, keys, signed

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (2, 1, 4)])
RINGS = st.sampled_from([32, 40, 48, 56, 64])
OPENINGS = st.sampled_from([(60, 64), (0, 64), (28, 32), (0, 32)]) | RINGS.flatmap(
    lambda ring: st.tuples(st.integers(0, ring - 4), st.just(ring))
)
EARLY = st.booleans()
many = settings(max_examples=40, deadline=None)


def bound(shift: int, width: int) -> int:
    """What an opened integer stays below."""
    return (1 << width - 2) - (1 << shift + 1 if shift else 0)


class Opening:
    """A chain that begins with an opened value z, |z| < 2^(K−2) − 2^(T+1)."""

    def __init__(self, seed: int, opening: tuple[int, int], shape: tuple[int, ...], early: bool) -> None:
        self.random, self.chain = np.random.default_rng(seed), Chain()
        self.z, self.open = self.opened(opening, shape, early)

    def opened(self, opening: tuple[int, int], shape: tuple[int, ...], early: bool) -> tuple[np.ndarray, Open]:
        shift, width = opening
        z = below(self.random, bound(shift, width), *shape)
        source = self.chain.given(in_parts(self.random, z, width), ahead=early)
        return z, self.chain.add(Open, source, shape=shape, messages=1, shift=shift, width=width, early=early)

    def then(self, kind: Any, ring: int, *sources: Any, **fields: Any) -> tuple[Scene, Any]:
        """The scene after a step of the opened value, whose result is asked for mod 2^ring."""
        shape = fields.pop("shape", self.open.shape)
        last = self.chain.add(kind, self.open, *sources, shape=shape, opened=self.open, **fields)
        return Scene(self.chain.ready(last, ring).steps).run(), last


@many
@given(SEEDS, OPENINGS, SHAPES, EARLY, st.integers(1, 64))
def test_an_opened_value_is_cut_without_a_bias_and_lifted_to_any_ring(
    seed: int, opening: tuple[int, int], shape: tuple[int, ...], early: bool, ring: int
) -> None:
    o = Opening(seed, opening, shape, early)
    scene, last = o.then(Lift, ring)
    np.testing.assert_array_equal(scene.whole(last, ring), signed(scene.cut(o.open, o.z), ring))


@many
@given(SEEDS, OPENINGS, SHAPES, EARLY, st.integers(1, 64))
def test_its_square_is_exact(
    seed: int, opening: tuple[int, int], shape: tuple[int, ...], early: bool, ring: int
) -> None:
    o = Opening(seed, opening, shape, early)
    scene, last = o.then(Square, ring)
    np.testing.assert_array_equal(scene.whole(last, ring), signed(scene.cut(o.open, o.z) ** 2, ring))


@many
@given(SEEDS, OPENINGS, SHAPES, EARLY, st.integers(1, 64))
def test_it_is_masked_towards_the_owner_in_any_ring(
    seed: int, opening: tuple[int, int], shape: tuple[int, ...], early: bool, ring: int
) -> None:
    o = Opening(seed, opening, shape, early)
    scene, last = o.then(Renew, ring, messages=1, ahead=True)
    np.testing.assert_array_equal(scene.unmasked(last, ring, False), signed(scene.cut(o.open, o.z), ring))


@many
@given(SEEDS, OPENINGS, SHAPES, EARLY, st.integers(1, 64))
def test_it_is_masked_towards_both_in_any_ring(
    seed: int, opening: tuple[int, int], shape: tuple[int, ...], early: bool, ring: int
) -> None:
    o = Opening(seed, opening, shape, early)
    scene, last = o.then(RenewBoth, ring, messages=1)
    np.testing.assert_array_equal(scene.unmasked(last, ring, True), signed(scene.cut(o.open, o.z), ring))


@many
@given(SEEDS, OPENINGS, st.sampled_from([((2, 3, 5), (2, 3, 1)), ((4, 3), (1, 3)), ((1, 5), (6, 1))]), RINGS)
def test_it_is_weighed_with_numbers_of_the_clients(
    seed: int, opening: tuple[int, int], shapes: tuple[tuple[int, ...], tuple[int, ...]], ring: int
) -> None:
    o = Opening(seed, opening, shapes[0], False)
    s = below(o.random, 1 << 20, *shapes[1])
    number = o.chain.given(in_parts(o.random, s, 64, owner=True, dealer=True))
    weight = o.chain.add(Mask, number, shape=shapes[1], messages=1, known=True, ahead=True)
    scene, last = o.then(Weigh, ring, weight, shape=np.broadcast_shapes(*shapes))
    np.testing.assert_array_equal(scene.whole(last, ring), signed(s * scene.cut(o.open, o.z), ring))


@many
@given(SEEDS, OPENINGS, st.sampled_from([((2, 3, 5), (2, 3, 1)), ((4, 3), (1, 3)), ((1, 5), (6, 1))]), RINGS)
def test_it_is_weighed_with_numbers_that_nobody_knows(
    seed: int, opening: tuple[int, int], shapes: tuple[tuple[int, ...], tuple[int, ...]], ring: int
) -> None:
    o = Opening(seed, opening, shapes[0], False)
    s = below(o.random, 1 << 20, *shapes[1])
    number = o.chain.given(in_parts(o.random, s, ring))
    weight = o.chain.add(MaskBoth, number, shape=shapes[1], messages=1)
    scene, last = o.then(WeighBoth, ring, weight, shape=np.broadcast_shapes(*shapes))
    np.testing.assert_array_equal(scene.whole(last, ring), signed(s * scene.cut(o.open, o.z), ring))


@many
@given(SEEDS, OPENINGS, OPENINGS, st.sampled_from([(4, 3), (2, 3, 5), (1, 1), (3, 8)]), st.integers(1, 64))
def test_two_are_multiplied_one_of_which_has_a_value_a_row(
    seed: int, opening: tuple[int, int], row: tuple[int, int], shape: tuple[int, ...], ring: int
) -> None:
    o = Opening(seed, opening, shape, False)
    z, other = o.opened(row, (*shape[:-1], 1), False)
    scene, last = o.then(Product, ring, other, other=other)
    wanted = scene.cut(o.open, o.z) * scene.cut(other, z)
    np.testing.assert_array_equal(scene.whole(last, ring), signed(wanted, ring))


@many
@given(SEEDS, OPENINGS, st.integers(30, 64))
def test_one_opening_serves_all_that_follow(seed: int, opening: tuple[int, int], ring: int) -> None:
    """Their shares of h and m are those of the widest."""
    o, narrow = Opening(seed, opening, (3, 4), False), ring // 2
    chain, fields = o.chain, {"shape": (3, 4), "opened": o.open}
    lift, square, renewed, both = (
        chain.add(kind, o.open, messages=messages, **fields, ahead=kind is Renew)
        for kind, messages in ((Lift, 0), (Square, 0), (Renew, 1), (RenewBoth, 1))
    )
    for step in (lift, both):
        step.ring = narrow
    for step in (square, renewed):
        step.ring = ring
    for last in (lift, square, renewed, both):
        chain.ready(last, last.ring)
    scene = Scene(chain.steps).run()
    x = scene.cut(o.open, o.z)
    np.testing.assert_array_equal(scene.whole(lift, narrow), signed(x, narrow))
    np.testing.assert_array_equal(scene.whole(square, ring), signed(x**2, ring))
    np.testing.assert_array_equal(scene.unmasked(renewed, ring, False), signed(x, ring))
    np.testing.assert_array_equal(scene.unmasked(both, narrow, True), signed(x, narrow))


def truncated(z: np.ndarray, halves: np.ndarray, others: np.ndarray, shift: int, width: int) -> np.ndarray:
    """What Open and Lift make of each z with each D₀ and each D₁ mod 2^width: (z, D₀, D₁)."""
    shape, chain, secrets = (len(z), len(halves), len(others)), Chain(), keys()
    source = chain.given({"client": np.broadcast_to(z[:, None, None], shape).copy()})
    opened = chain.add(Open, source, shape=shape, messages=1, shift=shift, width=width, early=False)
    last = chain.add(Lift, opened, shape=shape, opened=opened)
    scene = Scene(chain.ready(last, 64).steps, secrets)
    place, purpose = scene.dealer.place(opened.index), Purpose.MASK
    for name, wanted in (("k02", halves[:, None]), ("k12", others)):
        secrets[name].shift(place, purpose, wanted - secrets[name].words(place, purpose, shape))
    return scene.run().whole(last, 64).astype(np.int64)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_truncation_is_right_to_a_unit_and_a_half_and_has_no_bias(shift: int) -> None:
    """All z within the bound, and all masks, of the ring 2^7.

    The mean over all masks is z/2^T to half a unit of z: uniform words mod 2^T are (2^T − 1)/2 in the mean.
    """
    width, unit = 7, 1 << shift
    z, r = np.arange(1 - bound(shift, width), bound(shift, width)), np.arange(1 << width)
    found = truncated(z, r, r, shift, width)
    off = found * unit - z[:, None, None]
    assert np.abs(2 * off).max() <= (3 * unit if shift else 0)
    np.testing.assert_array_equal(2 * off.sum((1, 2)), r.size**2 if shift else 0)


@pytest.mark.parametrize("beyond", [0, 1, 2, 7, 31])
def test_beyond_the_bound_it_is_wrong_with_the_probability_that_is_stated(beyond: int) -> None:
    """By δ beyond 2^(K−2), at either end: with 2δ/2^K, so a few runs would not find it."""
    width, end = 8, 1 << 6
    z = np.array([end + beyond, -end - beyond])
    found = truncated(z, np.arange(1 << width), np.arange(1), 0, width)
    np.testing.assert_array_equal((found != z[:, None, None]).mean((1, 2)), 2 * beyond / 2**width)


@many
@given(SEEDS, SHAPES, RINGS, st.booleans(), st.booleans(), st.sampled_from([0, 1, 11, 32]))
def test_a_value_in_parts_is_masked_towards_the_owner(
    seed: int, shape: tuple[int, ...], ring: int, known: bool, dealt: bool, shift: int
) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    dealt, shift = dealt and not known, 0 if known else min(shift, 64 - ring)
    z = below(random, 1 << ring + shift - 1, *shape)
    source = chain.given(in_parts(random, z, ring + shift, owner=known, dealer=not dealt))
    last = chain.add(Mask, source, shape=shape, messages=1, known=known, corrected=dealt, shift=shift, ahead=True)
    scene = Scene(chain.ready(last, ring).steps).run()
    x = scene.masked(last, z)
    assert np.abs(2 * ((x << shift) - z)).max() <= 3 << shift
    np.testing.assert_array_equal(scene.unmasked(last, ring, False), signed(x, ring))
    if known:
        client, owner = (role.values[last.index].delta for role in (scene.client, scene.owner))
        assert not signed(integers(client) - owner, ring).any()


@many
@given(SEEDS, SHAPES, RINGS, st.booleans(), st.sampled_from([0, 1, 11, 32]))
def test_a_value_in_parts_is_masked_towards_both(
    seed: int, shape: tuple[int, ...], ring: int, dealt: bool, shift: int
) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    shift = min(shift, 64 - ring)
    z = below(random, 1 << ring + shift - 1, *shape)
    source = chain.given(in_parts(random, z, ring + shift, dealer=not dealt))
    last = chain.add(MaskBoth, source, shape=shape, messages=1, shift=shift)
    scene = Scene(chain.ready(last, ring).steps).run()
    x = scene.cut(last, z)
    assert np.abs(2 * ((x << shift) - z)).max() <= 3 << shift
    np.testing.assert_array_equal(scene.unmasked(last, ring, True), signed(x, ring))
