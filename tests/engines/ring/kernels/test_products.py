"""Matrix products in a ring are exact, in every kernel, for every shape; the fastest one is chosen once."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.kernels import products, threads
from mpcify.engines.ring.kernels.floats import DIGITS, Blas, Cuda
from mpcify.engines.ring.kernels.kernel import Kernel, digits_held
from mpcify.engines.ring.kernels.library import library
from mpcify.engines.ring.kernels.products import Int8, Torch, kernel, measured, there
from mpcify.engines.ring.protocols import products as weights
from mpcify.errors import MpcifyError, MpcifyWarning

NAMES = [
    *products.NATIVE,
    "torch",
    *(f"torch{bits}" for bits in products.INT8),
    *(f"{where}{bits}" for where in ("blas", "cuda", "cpu") for bits in DIGITS),
]
EXTREMES = [0, 1, -1, 2**52 - 1, 2**52, -(2**52), 2**51, 2**32 - 1, 2**32, 2**63 - 1, -(2**63)]
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 49])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(params=NAMES)
def each(request: pytest.FixtureRequest) -> Kernel:
    """Each kernel that this machine runs; what a GPU does, on the processor too."""
    import torch  # so that torch's kernel is there beside the native ones

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    every = [*there(), *(Cuda(bits, device) for device in devices for bits in DIGITS)]
    found = [kernel for kernel in every if kernel.name == request.param]
    if not found:
        pytest.skip(f"{request.param} does not run here")
    return found[0]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was found and measured before is forgotten, before and after."""
    for cached in (library, products._measured):
        cached.cache_clear()
    yield
    for cached in (library, products._measured):
        cached.cache_clear()


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Words of every size, extremes among them."""
    random = np.random.default_rng(seed)
    words = random.integers(-(2**63), 2**63, shape, np.int64) >> random.integers(0, 64, shape)
    return np.where(random.random(shape) < 0.3, random.choice(EXTREMES, shape), words)


def same(found: np.ndarray, wanted: np.ndarray, bits: int) -> bool:
    """Whether words are equal to Python's integers mod 2^bits."""
    assert found.dtype == np.int64
    assert found.shape == wanted.shape
    return bool(((found.astype(object) - wanted) % (1 << bits) == 0).all())


def exactly(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right in integers that never wrap."""
    return left.astype(object) @ right.astype(object)


# a kernel stays the same from example to example
many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(m=SIZES, p=SIZES, q=SIZES, seed=SEEDS)
def test_a_product_is_exact_in_its_ring(each: Kernel, m: int, p: int, q: int, seed: int) -> None:
    left, right = drawn(seed, m, p), drawn(seed + 1, p, q)
    assert same(each.product(left, each.prepare(right)), exactly(left, right), each.widest)


@many
@given(leading=st.sampled_from([(), (1,), (3,), (2, 3)]), m=SIZES, p=SIZES, q=SIZES, seed=SEEDS)
def test_a_batch_of_products_is_exact_and_so_is_one_with_a_transposed_matrix(
    each: Kernel, leading: tuple[int, ...], m: int, p: int, q: int, seed: int
) -> None:
    left, right = drawn(seed, *leading, m, p), drawn(seed + 1, *leading, p, q)
    wanted = exactly(left, right)
    assert same(each.products(left, right), wanted, each.widest)
    turned = np.ascontiguousarray(right.swapaxes(-1, -2))
    assert same(each.products(left, turned, transpose=True), wanted, each.widest)


@pytest.mark.parametrize("bits", [8, 21, 22])
def test_words_hold_in_as_many_digits_as_they_need(bits: int) -> None:
    half = 1 << bits - 1
    for count in range(1, 64 // bits):
        highest = sum(half - 1 << bits * place for place in range(count))
        lowest = -sum(half << bits * place for place in range(count))
        for word, digits in ((highest, count), (highest + 1, count + 1), (lowest, count), (lowest - 1, count + 1)):
            assert digits_held(np.array([[0, word]]), bits, 9) == digits
            assert digits_held(np.array([[0, word]]), bits, count) == count
    assert digits_held(np.zeros((0, 3), np.int64), bits, 9) == 1


@many
@given(m=SIZES, p=SIZES, q=SIZES, seed=SEEDS, bits=st.sampled_from([8, 21, 22]), count=st.integers(1, 4))
def test_a_product_with_a_matrix_of_few_digits_is_exact(
    each: Kernel, m: int, p: int, q: int, seed: int, bits: int, count: int
) -> None:
    """As an owner's weights are; the largest and the least word of so many digits are among them, and those beyond."""
    random, half, ones = np.random.default_rng(seed), 1 << bits - 1, sum(1 << bits * i for i in range(min(count, 2)))
    ends = [-half * ones - 1, -half * ones, -1, 0, 1, (half - 1) * ones, (half - 1) * ones + 1]
    left, right = drawn(seed, m, p), random.choice(ends[random.integers(0, 2) : 7 - random.integers(0, 2)], (p, q))
    wanted = exactly(left, right)
    assert same(each.product(left, each.prepare(right)), wanted, each.widest)
    for ring in (32, 42, 43, 58, 59):
        assert same(each.product(left, each.prepare(right, ring)), wanted, min(ring, each.widest))


@pytest.mark.parametrize(("count", "ring"), [(1, 58), (2, 58), (3, 42)])
def test_the_largest_sums_with_a_matrix_of_few_digits_are_exact(each: Kernel, count: int, ring: int) -> None:
    """Weights as far from 0 as so many digits hold, and words of which each half is, whatever they are cut at."""
    ones = sum(1 << 8 * place for place in range(count))
    for cut in range(20, 32):
        half = 1 << cut - 1
        for digit in (-half, half - 1):
            left, right = np.full((4, 300), digit + (digit << cut)), np.full((300, 9), -128 * ones)
            left[1:, ::3], right[::5, 1:] = digit, 127 * ones
            found = each.product(left, each.prepare(right, ring))
            assert same(found, exactly(left, right), min(ring, each.widest))


def test_a_matrix_of_few_digits_takes_fewer_products() -> None:
    few_digits, hidden = drawn(1, 40, 30) % 2**14, drawn(2, 40, 30)
    for floats, few, every in ((Blas(42), 1, 2), (Blas(64), 1, 3), (Cuda(42, "cpu"), 1, 2)):
        assert [len(floats.prepare(right).words) for right in (few_digits, hidden)] == [few, every]
    assert [Int8(40).prepare(right).words[0].shape for right in (few_digits, hidden)] == [(80, 30), (200, 30)]
    for native in (each for each in there() if each.name in ("amx32", "amx40", "amx48")):
        assert native.prepare(few_digits).words[0].size * native.widest == native.prepare(hidden).words[0].size * 16


@pytest.mark.parametrize(("bits", "digits"), [(38, 2), (58, 2), (59, 8), (None, 8)])
def test_avx2_has_few_digits_where_two_of_the_other_word_are_enough(bits: int | None, digits: int) -> None:
    for native in (each for each in there() if each.name == "avx2"):
        assert native.prepare(drawn(1, 40, 30) % 2**14, bits).words[1].value == digits


def test_a_weight_is_prepared_for_its_ring(each: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    prepare = type(each).prepare
    monkeypatch.setattr(type(each), "prepare", lambda *given: (asked.append(given[2]), prepare(*given))[1])
    monkeypatch.setattr(weights, "kernel", lambda bits, device: each)
    left, right = drawn(1, 5, 40), drawn(2, 40, 30) % 2**14
    ring = min(38, each.widest)
    assert same(weights.Multiplier(right, ring).times(left), exactly(left, right), ring)
    assert asked == [ring]


@pytest.mark.parametrize("shape", [(130, 390, 25), (257, 1, 1), (1, 1200, 49), (3, 9000, 5)])
def test_a_product_larger_than_a_block_is_exact(each: Kernel, shape: tuple[int, int, int]) -> None:
    m, p, q = shape
    left, right = drawn(1, m, p), drawn(2, p, q)
    assert same(each.product(left, each.prepare(right)), exactly(left, right), each.widest)


@pytest.mark.parametrize("bits", [8, 21, 22])
def test_the_largest_sums_of_digits_are_exact(each: Kernel, bits: int) -> None:
    """Words whose digits of so many bits are odd and about as far from 0 as can be, in sums longer than a block."""
    random = np.random.default_rng(bits)

    def extreme(*shape: int) -> np.ndarray:
        digits = (2 * random.integers(0, 32, shape) + 1 - (1 << bits - 1) for _ in range(64 // bits))
        return sum((digit << bits * place for place, digit in enumerate(digits)), np.zeros(shape, np.int64))

    left, right = extreme(2, 40_001), extreme(40_001, 3)
    assert same(each.product(left, each.prepare(right)), exactly(left, right), each.widest)
    assert same(each.products(left, right), exactly(left, right), each.widest)


@pytest.mark.parametrize("widest", DIGITS)
def test_sums_of_products_of_digits_stay_within_the_integers_that_floats_have(widest: int) -> None:
    kernel = Blas(widest)
    assert kernel.bits * kernel.digits >= widest
    assert kernel.depth * (1 << kernel.bits - 1) ** 2 <= 2**53
    words = np.concatenate([np.array(EXTREMES), drawn(1, 1000)])
    extremes = np.concatenate(kernel.split(words, kernel.digits))
    assert extremes.min() >= -(1 << kernel.bits - 1)
    assert extremes.max() < 1 << kernel.bits - 1


def test_a_gpu_whose_products_are_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = Cuda.cast
    monkeypatch.setattr(Cuda, "cast", lambda self, array, kind: cast(self, array, kind.replace("float64", "float32")))
    for widest in DIGITS:
        with pytest.raises(MpcifyError, match="MPC-501 device cpu: its products of floats are not exact"):
            Cuda(widest, "cpu")


def test_largest_words_wrap(each: Kernel) -> None:
    for word in EXTREMES:
        left, right = np.full((9, 40), word), np.full((40, 9), word)
        assert same(each.product(left, each.prepare(right)), exactly(left, right), each.widest)


@pytest.mark.parametrize("shape", [(3, 0, 9), (0, 4, 9), (3, 4, 0)])
def test_an_empty_sum_is_zero_and_an_empty_matrix_stays_empty(each: Kernel, shape: tuple[int, int, int]) -> None:
    m, p, q = shape
    left, right = np.ones((2, m, p), np.int64), np.ones((2, p, q), np.int64)
    wanted = np.zeros((2, m, q), np.int64)
    np.testing.assert_array_equal(each.product(left[0], each.prepare(right[0])), wanted[0])
    np.testing.assert_array_equal(each.products(left, right), wanted)


def test_matrices_may_lie_in_memory_as_they_like(each: Kernel) -> None:
    left, right = drawn(3, 10, 26)[::2, ::-2], drawn(4, 17, 13).T
    left.flags.writeable = right.flags.writeable = False
    assert same(each.product(left, each.prepare(right)), exactly(left, right), each.widest)
    assert same(each.products(left, right), exactly(left, right), each.widest)
    assert same(each.products(left, right.T, transpose=True), exactly(left, right), each.widest)


@pytest.mark.parametrize("shape", [(130, 40, 25), (33, 70, 200), (5, 400, 97), (3, 0, 100)])
def test_a_product_that_threads_share_is_exact(
    each: Kernel, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if each.name not in products.NATIVE:
        pytest.skip("its library has threads of its own")
    m, p, q = shape
    monkeypatch.setattr(threads, "threads", lambda: 3)
    monkeypatch.setattr(products, "LEAST", 1)
    threads._others.cache_clear()
    parts: list[tuple[int, int]] = []

    def counted(count: int, unit: int, least: int, act: threads.Act) -> None:
        threads.shared(count, unit, least, lambda *part: (parts.append(part), act(*part))[1])

    monkeypatch.setattr(products, "shared", counted)
    left, right = drawn(1, 5, m, p), drawn(2, 5, p, q)
    wanted = exactly(left, right)
    assert same(each.product(left[0], each.prepare(right[0])), wanted[0], each.widest)
    assert len(parts) == min(max(q // products.PANEL, 1), 3)
    assert same(each.products(left, right), wanted, each.widest)
    assert same(each.products(left, np.ascontiguousarray(right.swapaxes(-1, -2)), True), wanted, each.widest)
    threads._others.cache_clear()


def test_products_in_several_threads_do_not_disturb_each_other(each: Kernel) -> None:
    lefts, right = [drawn(seed, 40, 60) for seed in range(8)], drawn(9, 60, 50)
    prepared = each.prepare(right)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda left: each.product(left, prepared), lefts))
    for left, output in zip(lefts, found, strict=True):
        assert same(output, exactly(left, right), each.widest)


def test_what_does_not_fit_is_refused(each: Kernel) -> None:
    left, prepared = drawn(1, 3, 4), each.prepare(drawn(2, 5, 6))
    with pytest.raises(ValueError, match="does not fit"):
        each.product(left, prepared)
    with pytest.raises(ValueError, match="does not fit"):
        each.product(drawn(1, 2, 3, 5), prepared)
    with pytest.raises(ValueError, match="does not fit"):
        each.products(drawn(1, 2, 3, 4), drawn(2, 3, 4, 5))
    with pytest.raises(ValueError, match="does not fit"):
        each.products(drawn(1, 2, 3, 4), drawn(2, 2, 4, 5), transpose=True)
    with pytest.raises(TypeError, match="int64"):
        each.product(np.zeros((3, 5), np.int32), prepared)
    with pytest.raises(TypeError, match="int64"):
        each.prepare(np.zeros((3, 5)))


def test_a_matrix_prepared_for_another_kernel_is_refused(each: Kernel) -> None:
    other = Torch() if each.name == "blas64" else Blas(64)
    with pytest.raises(ValueError, match=f"not for {each.name}"):
        each.product(drawn(1, 3, 8), other.prepare(drawn(2, 8, 8)))


def test_the_fastest_kernel_that_is_right_is_chosen() -> None:
    rates = measured()
    assert set(rates) >= {"blas42", "blas64"}
    for bits in (32, 52, 53, 64):
        right = {name: rate["rate"] for name, rate in rates.items() if rate["bits"] >= bits}
        assert kernel(bits).name == max(right, key=right.__getitem__)


def test_a_process_measures_once_whoever_asks(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(products, "there", lambda: asked.append(1) or there())
    with ThreadPoolExecutor(4) as threads:
        assert len({id(found) for found in threads.map(kernel, [64] * 16)}) == 1
    assert asked == [1]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    products._on_gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for act in (lambda: kernel(64, "cuda"), lambda: measured("cuda"), RingConfig(device="cuda").build):
        with pytest.raises(MpcifyError, match="MPC-501 device cuda: torch finds no GPU here"):
            act()


def test_a_gpu_multiplies_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_on_gpu", lambda widest: Cuda(widest, "cpu"))
    assert [kernel(bits, "cuda").name for bits in (38, 42, 43, 64)] == ["cpu42", "cpu42", "cpu64", "cpu64"]
    assert [*measured("cuda")] == ["cpu42", "cpu64", *measured()]


@pytest.mark.parametrize(("torch", "narrow"), [(11.0, "torch"), (0.3, "blas42")])  # with AVX-512, and without it
def test_without_the_library_torch_or_blas_multiplies(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, torch: float, narrow: str
) -> None:
    monkeypatch.setattr(products, "library", lambda: None)
    rates = {"torch": torch, "torch32": 0.2, "torch40": 0.2, "torch48": 0.1, "blas42": 6.0, "blas64": 3.0}
    monkeypatch.setattr(products, "_rate", lambda each: rates[each.name])
    assert measured().keys() == rates.keys()
    assert kernel(42).name == narrow
    assert kernel(43).name == {"blas42": "blas64"}.get(narrow, narrow)


def test_with_neither_library_nor_torch_blas_multiplies_and_says_so(
    forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "library", lambda: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.warns(MpcifyWarning, match="Do this: install a C compiler"):
        assert kernel(48).name == "blas64"


def test_a_party_without_torch_multiplies() -> None:
    code = (
        "import sys, warnings; sys.modules['torch'] = None; warnings.simplefilter('ignore')\n"
        "import numpy as np; from mpcify.engines.ring.kernels.products import kernel\n"
        "words = np.arange(6).reshape(2, 3); print(kernel(64).products(words, words, transpose=True).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[[5, 14], [14, 50]]\n", done.stderr
