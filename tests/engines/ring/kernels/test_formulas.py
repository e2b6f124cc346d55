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
KAPPAS = st.sampled_from([2, 64]) | st.integers(2, 64)
# a way stays the same from example to example
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def in_numpy(run: Callable[[], object]) -> object:
    """What a call gives without the library."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (onepass, formulas):
            patch.setattr(module, "library", lambda: None)
        return run()


@pytest.fixture(params=["native", "numpy", "numpy, in blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas run in C, or in numpy, there in one block or in blocks of few words."""
    if request.param == "native" and library() is None:
        pytest.skip("the library was not built")
    if request.param == "numpy, in blocks":
        monkeypatch.setattr(onepass, "BLOCK", 5)
    if request.param != "native":
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
    """Values |x| < 2^(κ−2) opened under a mask of random words, in Python's integers."""

    def __init__(self, random: np.random.Generator, kappa: int, *shape: int) -> None:
        bound = 1 << kappa - 2
        self.random, self.x = random, integers(drawn(random, *shape)) % (2 * bound - 1) - bound + 1
        self.h = integers(drawn(random, *shape)) % (1 << kappa)
        # what lies above the opening's bits in a word is no part of it
        above = integers(drawn(random, *shape)) << kappa
        self.c = ((self.x + bound + self.h + above + WORD // 2) % WORD - WORD // 2).astype(np.int64)
        self.m, self.carried = self.h >> kappa - 1, 1 - (integers(self.c) % (1 << kappa) >> kappa - 1)

    def share(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shared(self.random, value)


@many
@given(seed=SEEDS, cut=SHIFTS_AND_RINGS)
def test_the_halves_of_a_mask_are_its_high_bits_and_its_top_bit(way: None, seed: int, cut: tuple[int, int]) -> None:
    (shift, ring), mask = cut, drawn(np.random.default_rng(seed), *SHAPE)
    h, m = halves(mask, shift, ring)
    r = integers(mask) % (1 << ring)
    assert vanishes((r >> shift) - h)
    assert vanishes((r >> ring - 1) - m)


@many
@given(seed=SEEDS, kappa=KAPPAS)
def test_the_lift_of_both_parties_is_the_cut_value_and_half_of_the_mask(way: None, seed: int, kappa: int) -> None:
    o = Opening(np.random.default_rng(seed), kappa, *SHAPE)
    ours, theirs = o.share(o.m)
    total = integers(lift(o.c, kappa, ours, True)) + lift(o.c, kappa, theirs, False)
    assert vanishes(total - o.h - o.x)


@many
@given(seed=SEEDS, kappa=KAPPAS)
def test_the_refresh_of_both_parties_is_the_carried_bit_less_a_mask(way: None, seed: int, kappa: int) -> None:
    o = Opening(np.random.default_rng(seed), kappa, *SHAPE)
    ours, theirs = o.share(o.m)
    a, b = drawn(o.random, *SHAPE), drawn(o.random, *SHAPE)
    total = integers(fresh(o.c, kappa, ours, a)) + fresh(o.c, kappa, theirs, b)
    assert vanishes(total - o.carried * o.m + a + b.astype(object))


@many
@given(seed=SEEDS, kappa=KAPPAS)
def test_the_square_of_both_parties_is_exact(way: None, seed: int, kappa: int) -> None:
    o = Opening(np.random.default_rng(seed), kappa, *SHAPE)
    ours, theirs = zip(*map(o.share, (o.h, o.m, o.h * o.m)), strict=True)
    total = integers(square(o.c, kappa, *ours, True)) + square(o.c, kappa, *theirs, False)
    assert vanishes(total + o.h**2 - o.x**2)


@many
@given(seed=SEEDS, kappa=KAPPAS, row_kappa=KAPPAS, width=st.sampled_from([1, 8, 37]))
def test_the_product_with_a_rows_value_of_both_parties_is_exact(
    way: None, seed: int, kappa: int, row_kappa: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    x, y = Opening(random, kappa, 2, 3, width), Opening(random, row_kappa, 2, 3)
    g, w = y.h[..., None], y.m[..., None]
    ours, theirs = zip(*map(x.share, (x.h, x.m, y.h, y.m, x.h * w, x.m * g, x.m * w)), strict=True)
    total = 0
    for (h, m, *others), first in ((ours, True), (theirs, False)):
        total = total + integers(times(x.c, kappa, h, m, y.c, row_kappa, *others, first))
    assert vanishes(total + x.h * g - x.x * y.x[..., None])


@pytest.mark.skipif(library() is None, reason="the library was not built")
@many
@given(seed=SEEDS, cut=SHIFTS_AND_RINGS, kappa=KAPPAS, row_kappa=KAPPAS, first=st.booleans())
def test_c_and_numpy_give_the_same_words(
    seed: int, cut: tuple[int, int], kappa: int, row_kappa: int, first: bool
) -> None:
    random = np.random.default_rng(seed)
    c, h, m, hw, mg, mw = (drawn(random, *SHAPE) for _ in range(6))
    d, g, w = (drawn(random, SHAPE[0]) for _ in range(3))
    for run in (
        lambda: halves(c, *cut)[0],
        lambda: halves(c, *cut)[1],
        lambda: lift(c, kappa, m, first),
        lambda: fresh(c, kappa, m, h),
        lambda: square(c, kappa, h, m, hw, first),
        lambda: times(c, kappa, h, m, d, row_kappa, g, w, hw, mg, mw, first),
    ):
        np.testing.assert_array_equal(run(), in_numpy(run))


def test_arrays_may_lie_in_memory_as_they_like(way: None) -> None:
    random = np.random.default_rng(7)
    c, h, m, hm = (drawn(random, 10, 6).T[::2] for _ in range(4))
    wanted = square(c.copy(), 38, h.copy(), m.copy(), hm.copy(), first=True)
    np.testing.assert_array_equal(square(c, 38, h, m, hm, first=True), wanted)


def test_what_does_not_fit_is_refused(way: None) -> None:
    c, row = np.zeros(SHAPE, np.int64), np.zeros(SHAPE[0], np.int64)
    for shift, ring in ((-1, 48), (47, 48), (0, 65), (64, 66)):
        with pytest.raises(ValueError, match=f"a ring of {ring} bits"):
            halves(c, shift, ring)
    for kappa in (1, 65):
        with pytest.raises(ValueError, match=f"2 to 64 bits, not {kappa}"):
            lift(c, kappa, c, True)
        with pytest.raises(ValueError, match=f"2 to 64 bits, not {kappa}"):
            times(c, 40, c, c, row, kappa, row, row, c, c, c, True)
    with pytest.raises(ValueError, match=r"m of shape \(3, 36\)"):
        lift(c, 40, c[:, 1:], True)
    with pytest.raises(ValueError, match=r"g of shape \(3, 37\)"):
        times(c, 40, c, c, row, 40, c, row, c, c, c, True)
    with pytest.raises(TypeError, match="int64, not int32"):
        fresh(c, 40, c, c.astype(np.int32))


COUNTS = st.sampled_from([0, 1, 2, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 2050, 8191, 8192, 8200, 8203])


@many
@given(count=COUNTS, bits=st.integers(1, 64), seed=SEEDS)
def test_packed_words_come_back_without_what_lies_above_their_bits(way: None, count: int, bits: int, seed: int) -> None:
    x = drawn(np.random.default_rng(seed), count)
    packed = pack(x, bits)
    assert len(packed) == packed.nbytes == packed_size(count, bits)
    assert 0 <= 8 * len(packed) - count * bits <= 7 * (bits % 8)
    assert bytes(packed) == bytes(in_numpy(lambda: pack(x, bits)))  # type: ignore[call-overload]
    found = integers(unpack(packed, count, bits))
    np.testing.assert_array_equal(found if bits < 64 else found % WORD, integers(x) % (1 << bits))


@pytest.mark.parametrize(
    "bits, planes",
    [
        (8, "01 11"),
        (16, "0102 1112"),
        (24, "0102 1112 03 13"),
        (32, "01020304 11121314"),
        (40, "01020304 11121314 05 15"),
        (48, "01020304 11121314 0506 1516"),
        (56, "01020304 11121314 0506 1516 07 17"),
        (4, "11 00 00 00"),
        (12, "01 11 22 00 00 00"),
        (19, "0102 1112 1b 00 00"),
        (63, "01020304 11121314 0506 1516 07 17 08 0c 00 00 00 00 00"),
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
