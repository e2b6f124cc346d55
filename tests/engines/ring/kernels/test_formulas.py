"""The ring engine's formulas are exact, in C and in numpy: both parties' shares add up to what was asked for."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.kernels import formulas, onepass
from mpcify.engines.ring.kernels.formulas import fresh, halves, lift, pack, packed_size, square, times, unpack
from mpcify.engines.ring.kernels.library import library

WORD = 2**64
SHAPE = (3, 37)
SEEDS = st.integers(0, 2**32 - 1)
ENDS = st.sampled_from([(0, 64), (62, 64), (0, 2)])
SHIFTS_AND_RINGS = ENDS | st.integers(2, 64).flatmap(lambda ring: st.tuples(st.integers(0, ring - 2), st.just(ring)))
# a way stays the same from example to example
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def in_numpy(run: Callable[[], object]) -> object:
    """What a call gives without the library."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (onepass, formulas):
            patch.setattr(module, "library", lambda: None)
        return run()


@pytest.fixture(params=["native", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas run in C, or in numpy."""
    if request.param == "native" and library() is None:
        pytest.skip("the library was not built")
    if request.param == "numpy":
        for module in (onepass, formulas):
            monkeypatch.setattr(module, "library", lambda: None)


def drawn(random: np.random.Generator, *shape: int, below: int = 64) -> np.ndarray:
    """Words of every size and sign, extremes among them; `below`: non-negative, of so many bits at most."""
    words = random.integers(-(2**63), 2**63, shape, np.int64) >> random.integers(0, 64, shape)
    words = np.where(random.random(shape) < 0.2, random.choice([0, 1, -1, 2**63 - 1, -(2**63)], shape), words)
    return words if below == 64 else words & ((1 << below) - 1)


def integers(words: np.ndarray) -> np.ndarray:
    """Words as Python's integers, which never wrap."""
    return words.astype(object)


def vanishes(difference: np.ndarray) -> bool:
    """Whether Python's integers are 0 mod 2^64."""
    return bool((difference % WORD == 0).all())


def shared(random: np.random.Generator, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two shares that add up to integers mod 2^64."""
    one = drawn(random, *value.shape)
    other = (value - integers(one) + WORD // 2) % WORD - WORD // 2
    return one, other.astype(np.int64)


class Opening:
    """Values |z| < 2^(K−2) opened under a mask of random words, in Python's integers."""

    def __init__(self, random: np.random.Generator, shift: int, ring: int, *shape: int) -> None:
        bound = 1 << ring - 2
        z = integers(drawn(random, *shape)) % (2 * bound - 1) - bound + 1
        self.random, self.shift, self.ring, self.mask = random, shift, ring, drawn(random, *shape)
        r = integers(self.mask) % (1 << ring)
        # what lies above the ring's bits in a word is no part of the opening
        above = integers(drawn(random, *shape)) << ring
        self.c = ((z + bound + r + above + WORD // 2) % WORD - WORD // 2).astype(np.int64)
        self.h, self.m = r >> shift, r >> ring - 1
        self.cut, self.carried = z >> shift, 1 - (integers(self.c) % (1 << ring) >> ring - 1)

    def value(self) -> np.ndarray:
        """u − h + 2^κ·t·m by its definition: z >> T, or one more."""
        c = integers(self.c) % (1 << self.ring)
        value = (c >> self.shift) - (1 << self.ring - self.shift - 2) - self.h
        value += (1 << self.ring - self.shift) * self.carried * self.m
        assert set(np.unique(value - self.cut)) <= {0, 1}
        return value

    def share(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shared(self.random, value)


@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS)
def test_the_halves_of_a_mask_are_its_high_bits_and_its_top_bit(way: None, seed: int, opened: tuple[int, int]) -> None:
    o = Opening(np.random.default_rng(seed), *opened, *SHAPE)
    h, m = halves(o.mask, *opened)
    assert vanishes(o.h - h)
    assert vanishes(o.m - m)


@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS)
def test_the_lift_of_both_parties_is_the_cut_value_and_half_of_the_mask(
    way: None, seed: int, opened: tuple[int, int]
) -> None:
    o = Opening(np.random.default_rng(seed), *opened, *SHAPE)
    ours, theirs = o.share(o.m)
    total = integers(lift(o.c, *opened, ours, True)) + lift(o.c, *opened, theirs, False)
    assert vanishes(total - o.h - o.value())


@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS)
def test_the_refresh_of_both_parties_is_the_carried_bit_less_a_mask(
    way: None, seed: int, opened: tuple[int, int]
) -> None:
    o = Opening(np.random.default_rng(seed), *opened, *SHAPE)
    ours, theirs = o.share(o.m)
    a, b = drawn(o.random, *SHAPE), drawn(o.random, *SHAPE)
    total = integers(fresh(o.c, *opened, ours, a)) + fresh(o.c, *opened, theirs, b)
    assert vanishes(total - o.carried * o.m + a + b.astype(object))


@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS)
def test_the_square_of_both_parties_is_exact(way: None, seed: int, opened: tuple[int, int]) -> None:
    o = Opening(np.random.default_rng(seed), *opened, *SHAPE)
    ours, theirs = zip(*map(o.share, (o.h, o.m, o.h * o.m)), strict=True)
    total = integers(square(o.c, *opened, *ours, True)) + square(o.c, *opened, *theirs, False)
    assert vanishes(total + o.h**2 - o.value() ** 2)


@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS, row_opened=SHIFTS_AND_RINGS, width=st.sampled_from([1, 8, 37]))
def test_the_product_with_a_rows_value_of_both_parties_is_exact(
    way: None, seed: int, opened: tuple[int, int], row_opened: tuple[int, int], width: int
) -> None:
    random = np.random.default_rng(seed)
    x, y = Opening(random, *opened, 2, 3, width), Opening(random, *row_opened, 2, 3)
    g, w = y.h[..., None], y.m[..., None]
    ours, theirs = zip(*map(x.share, (x.h, x.m, y.h, y.m, x.h * w, x.m * g, x.m * w)), strict=True)
    total = 0
    for (h, m, *others), first in ((ours, True), (theirs, False)):
        total = total + integers(times(x.c, *opened, h, m, y.c, *row_opened, *others, first))
    assert vanishes(total + x.h * g - x.value() * y.value()[..., None])


@pytest.mark.skipif(library() is None, reason="the library was not built")
@many
@given(seed=SEEDS, opened=SHIFTS_AND_RINGS, row_opened=SHIFTS_AND_RINGS, first=st.booleans())
def test_c_and_numpy_give_the_same_words(
    seed: int, opened: tuple[int, int], row_opened: tuple[int, int], first: bool
) -> None:
    random = np.random.default_rng(seed)
    c, h, m, hw, mg, mw = (drawn(random, *SHAPE) for _ in range(6))
    d, g, w = (drawn(random, SHAPE[0]) for _ in range(3))
    for run in (
        lambda: halves(c, *opened)[0],
        lambda: halves(c, *opened)[1],
        lambda: lift(c, *opened, m, first),
        lambda: fresh(c, *opened, m, h),
        lambda: square(c, *opened, h, m, hw, first),
        lambda: times(c, *opened, h, m, d, *row_opened, g, w, hw, mg, mw, first),
    ):
        np.testing.assert_array_equal(run(), in_numpy(run))


def test_arrays_may_lie_in_memory_as_they_like(way: None) -> None:
    random = np.random.default_rng(7)
    c, h, m, hm = (drawn(random, 10, 6).T[::2] for _ in range(4))
    wanted = square(c.copy(), 10, 48, h.copy(), m.copy(), hm.copy(), first=True)
    np.testing.assert_array_equal(square(c, 10, 48, h, m, hm, first=True), wanted)


def test_what_does_not_fit_is_refused(way: None) -> None:
    c, row = np.zeros(SHAPE, np.int64), np.zeros(SHAPE[0], np.int64)
    for shift, ring in ((-1, 48), (47, 48), (0, 65), (64, 66)):
        with pytest.raises(ValueError, match=f"a ring of {ring} bits"):
            lift(c, shift, ring, c, True)
        with pytest.raises(ValueError, match=f"a ring of {ring} bits"):
            times(c, 8, 48, c, c, row, shift, ring, row, row, c, c, c, True)
    with pytest.raises(ValueError, match=r"m of shape \(3, 36\)"):
        lift(c, 8, 48, c[:, 1:], True)
    with pytest.raises(ValueError, match=r"g of shape \(3, 37\)"):
        times(c, 8, 48, c, c, row, 8, 48, c, row, c, c, c, True)
    with pytest.raises(TypeError, match="int64, not int32"):
        fresh(c, 8, 48, c, c.astype(np.int32))


COUNTS = st.sampled_from([0, 1, 2, 7, 63, 64, 65, 1023, 1024, 1025, 2050])


@many
@given(count=COUNTS, bits=st.integers(1, 64), seed=SEEDS)
def test_packed_words_come_back_without_what_lies_above_their_bytes(
    way: None, count: int, bits: int, seed: int
) -> None:
    x, width = drawn(np.random.default_rng(seed), count), -(-bits // 8)
    packed = pack(x, bits)
    assert len(packed) == packed.nbytes == packed_size(count, bits) == count * width
    found = integers(unpack(packed, count, bits))
    np.testing.assert_array_equal(found if width < 8 else found % WORD, integers(x) % (1 << 8 * width))


@pytest.mark.parametrize(
    "bits, planes",
    [
        (8, "01 11"),
        (16, "0102 1112"),
        (24, "0102 1112 03 13"),
        (32, "01020304 11121314"),
        (40, "01020304 11121314 05 15"),
        (48, "01020304 11121314 0506 1516"),
        (52, "01020304 11121314 0506 1516 07 17"),
        (64, "0102030405060708 1112131415161718"),
    ],
)
def test_planes_lie_one_after_another_in_little_endian(way: None, bits: int, planes: str) -> None:
    x = np.array([0x0807060504030201, 0x1817161514131211])
    assert bytes(pack(x, bits)) == bytes.fromhex(planes)


def test_bytes_may_begin_anywhere_and_are_only_read(way: None) -> None:
    x = drawn(np.random.default_rng(1), 100, below=48)
    received = bytes(3) + bytes(pack(x, 48))
    np.testing.assert_array_equal(unpack(memoryview(received)[3:], 100, 48), x)
    with pytest.raises(TypeError):
        pack(x, 48)[0] = 1


def test_another_size_of_bytes_is_refused(way: None) -> None:
    for count, bits, size in ((10, 48, 59), (10, 48, 61), (0, 48, 1), (-1, 8, 0)):
        with pytest.raises(ValueError, match=f"{size} bytes are not {count} words of {bits} bits"):
            unpack(bytes(size), count, bits)
    for bits in (0, 65):
        with pytest.raises(ValueError, match="1 to 64 bits"):
            packed_size(10, bits)
