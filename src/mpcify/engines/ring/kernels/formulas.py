"""One-pass formulas of the ring engine on int64 words that wrap mod 2^64: in C if the library is there, else in numpy.

An opening is c = z + 2^(K−2) + r mod 2^K, with K = `ring`; T = `shift` bits of z are cut off. With κ = K − T it gives
u = (c >> T mod 2^κ) − 2^(κ−2) and t = 1 − (bit K−1 of c), which are public; h = (r mod 2^K) >> T and m = bit K−1 of r
are shared, and z >> T is u − h + 2^κ·t·m. Each party computes its share of a result, and `first` adds what is public:
[first] is 1 for one party and 0 for the other. 2^n is 0 for n ≥ 64. The arrays have the first one's shape.

Each formula raises TypeError unless words are int64, and ValueError for shapes, or a shift and a ring, that do not fit.
"""

import ctypes

import numpy as np

from mpcify.engines.ring.kernels.library import library, pointer, words
from mpcify.engines.ring.kernels.onepass import one_pass

WORD = 64  # bits
PLANES = (4, 2, 1)  # bytes


def _high(c: np.ndarray, shift: int, ring: int) -> np.ndarray:
    return (c >> shift) & ((1 << ring - shift) - 1)


def _opened(c: np.ndarray, shift: int, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """u and t."""
    return _high(c, shift, ring) - (1 << ring - shift - 2), (c >> ring - 1 & 1) ^ 1


def raised(x: np.ndarray, bits: int) -> np.ndarray:
    """2^bits · x."""
    return x << bits if bits < WORD else np.zeros_like(x)


@one_pass(outputs=2)
def halves(r: np.ndarray, shift: int, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """h = (r mod 2^K) >> T and m = bit K−1 of r: what the dealer shares of a mask."""
    return _high(r, shift, ring), r >> ring - 1 & 1


@one_pass()
def lift(c: np.ndarray, shift: int, ring: int, m: np.ndarray, first: bool) -> np.ndarray:
    """[first]·u + 2^κ·t·m: of z >> T, all but h."""
    u, t = _opened(c, shift, ring)
    return first * u + raised(t * m, ring - shift)


@one_pass()
def fresh(c: np.ndarray, shift: int, ring: int, m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """t·m − a."""
    _, t = _opened(c, shift, ring)
    return t * m - a


@one_pass()
def square(
    c: np.ndarray, shift: int, ring: int, h: np.ndarray, m: np.ndarray, hm: np.ndarray, first: bool
) -> np.ndarray:
    """[first]·u² − 2·u·h + 2^κ·t·(m·(2u + 2^κ) − 2·hm): of (z >> T)², all but h². hm shares h·m."""
    (u, t), kappa = _opened(c, shift, ring), ring - shift
    wrap = m * (2 * u + raised(np.ones_like(u), kappa)) - 2 * hm
    return first * u * u - 2 * u * h + raised(t * wrap, kappa)


@one_pass("d", "g", "w")
def times(
    c: np.ndarray,
    shift: int,
    ring: int,
    h: np.ndarray,
    m: np.ndarray,
    d: np.ndarray,
    row_shift: int,
    row_ring: int,
    g: np.ndarray,
    w: np.ndarray,
    hw: np.ndarray,
    mg: np.ndarray,
    mw: np.ndarray,
    first: bool,
) -> np.ndarray:
    """[first]·u·v − u·g − v·h + 2^κ·t·(v·m − mg) + 2^λ·s·(u·w − hw) + 2^(κ+λ)·t·s·mw: of x·y, all but h·g.

    Opened in d, one word a row of c (…, width): y = v − g + 2^λ·s·w, with S = `row_shift`, L = `row_ring`, λ = L − S;
    v, s, g, w are to d as u, t, h, m are to c. d, g, w (…); hw, mg, mw share products of a row's word and a word.
    """
    (u, t), kappa = _opened(c, shift, ring), ring - shift
    (v, s), row_kappa = _opened(d[..., None], row_shift, row_ring), row_ring - row_shift
    g, w = g[..., None], w[..., None]
    value = first * u * v - u * g - v * h + raised(t * (v * m - mg), kappa)
    return value + raised(s * (u * w - hw), row_kappa) + raised(t * s * mw, kappa + row_kappa)


def _bytes(bits: int) -> int:
    """Bytes of a word on the wire. Raises ValueError unless 1 ≤ bits ≤ 64."""
    if not 1 <= bits <= WORD:
        raise ValueError(f"a word has 1 to {WORD} bits, not {bits}")
    return -(-bits // 8)


def _planes(count: int, width: int) -> list[tuple[int, int, int]]:
    """Of each plane of `count` words of `width` bytes: its bytes a word, the bits below it, and where it begins."""
    sizes = [size for size in PLANES if width & size] if width < 8 else [8]
    below = [sum(sizes[:index]) for index in range(len(sizes))]
    return [(size, 8 * start, count * start) for size, start in zip(sizes, below, strict=True)]


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` words mod 2^bits take on the wire."""
    return count * _bytes(bits)


def pack(x: np.ndarray, bits: int) -> memoryview:
    """x mod 2^(8·b), with b = ⌈bits/8⌉ bytes a word, in planes: of all words the lowest 4 bytes, then 2, then 1.

    b says which of the planes there are (6: the lowest 4, then 2 above); 8 bytes are one plane. Little-endian.
    """
    x, width = words(x), _bytes(bits)
    packed, code = np.empty(packed_size(x.size, bits), np.uint8), library()
    if code is not None:
        code.pack(pointer(x), pointer(packed), ctypes.c_int64(x.size), ctypes.c_int64(width))
    else:
        for size, below, start in _planes(x.size, width):
            plane = packed[start : start + x.size * size]
            plane.view(f"<u{size}")[:] = (x.reshape(-1).view(np.uint64) >> below).astype(f"<u{size}")
    return packed.data.toreadonly()


def unpack(data: bytes | bytearray | memoryview, count: int, bits: int) -> np.ndarray:
    """What `pack` made of `count` words, shape (count,): 0 ≤ x < 2^(8·b); for b = 8 the words themselves.

    Raises ValueError unless `data` has packed_size(count, bits) bytes.
    """
    packed, width = np.frombuffer(data, np.uint8), _bytes(bits)
    if count < 0 or packed.size != packed_size(count, bits):
        raise ValueError(f"{packed.size} bytes are not {count} words of {bits} bits")
    x, code = np.empty(count, np.int64), library()
    if code is not None:
        code.unpack(pointer(packed), pointer(x), ctypes.c_int64(count), ctypes.c_int64(width))
        return x
    x[:] = 0
    for size, below, start in _planes(count, width):
        plane = packed[start : start + count * size].view(f"<u{size}")
        x |= (plane.astype(np.uint64) << below).view(np.int64)
    return x
