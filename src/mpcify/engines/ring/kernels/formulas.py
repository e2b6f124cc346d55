"""One-pass formulas of the ring engine on int64 words that wrap mod 2^64: in C if the library is there, else in numpy.

An opening is c = x + 2^(κ−2) + h mod 2^κ, κ = `kappa`, for |x| < 2^(κ−2). It gives u = (c mod 2^κ) − 2^(κ−2) and
t = 1 − (bit κ−1 of c), which are public; h < 2^κ and m = bit κ−1 of h are shared, and x is u − h + 2^κ·t·m. Each party
computes its share of a result, and `first` adds what is public: [first] is 1 for one party and 0 for the other. 2^n is
0 for n ≥ 64. The arrays have the first one's shape.

Each formula raises TypeError unless words are int64, and ValueError for shapes, or for bits, that do not fit.
"""

import ctypes

import numpy as np

from mpcify.engines.ring.kernels.library import library, pointer, words
from mpcify.engines.ring.kernels.onepass import one_pass

WORD = 64  # bits
BYTE = 8  # bits
PLANES = (4, 2, 1)  # bytes


def _opened(c: np.ndarray, kappa: int) -> tuple[np.ndarray, np.ndarray]:
    """u and t."""
    return (c & ((1 << kappa) - 1)) - (1 << kappa - 2), (c >> kappa - 1 & 1) ^ 1


def raised(x: np.ndarray, bits: int) -> np.ndarray:
    """2^bits · x."""
    return x << bits if bits < WORD else np.zeros_like(x)


@one_pass(outputs=2)
def halves(r: np.ndarray, shift: int, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """h = (r mod 2^K) >> T and m = bit K−1 of r, K = `ring` and T = `shift`: what the dealer shares of a mask."""
    return (r >> shift) & ((1 << ring - shift) - 1), r >> ring - 1 & 1


@one_pass()
def lift(c: np.ndarray, kappa: int, m: np.ndarray, first: bool) -> np.ndarray:
    """[first]·u + 2^κ·t·m: of x, all but h."""
    u, t = _opened(c, kappa)
    return first * u + raised(t * m, kappa)


@one_pass()
def fresh(c: np.ndarray, kappa: int, m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """t·m − a."""
    _, t = _opened(c, kappa)
    return t * m - a


@one_pass()
def square(c: np.ndarray, kappa: int, h: np.ndarray, m: np.ndarray, hm: np.ndarray, first: bool) -> np.ndarray:
    """[first]·u² − 2·u·h + 2^κ·t·(m·(2u + 2^κ) − 2·hm): of x², all but h². hm shares h·m."""
    u, t = _opened(c, kappa)
    wrap = m * (2 * u + raised(np.ones_like(u), kappa)) - 2 * hm
    return first * u * u - 2 * u * h + raised(t * wrap, kappa)


@one_pass("d", "g", "w")
def times(
    c: np.ndarray,
    kappa: int,
    h: np.ndarray,
    m: np.ndarray,
    d: np.ndarray,
    row_kappa: int,
    g: np.ndarray,
    w: np.ndarray,
    hw: np.ndarray,
    mg: np.ndarray,
    mw: np.ndarray,
    first: bool,
) -> np.ndarray:
    """[first]·u·v − u·g − v·h + 2^κ·t·(v·m − mg) + 2^λ·s·(u·w − hw) + 2^(κ+λ)·t·s·mw: of x·y, all but h·g.

    Opened in d, one word a row of c (…, width): y = v − g + 2^λ·s·w, λ = `row_kappa`; v, s, g, w are to d as u, t, h,
    m are to c. d, g, w (…); hw, mg, mw share products of a row's word and a word.
    """
    (u, t), (v, s) = _opened(c, kappa), _opened(d[..., None], row_kappa)
    g, w = g[..., None], w[..., None]
    value = first * u * v - u * g - v * h + raised(t * (v * m - mg), kappa)
    return value + raised(s * (u * w - hw), row_kappa) + raised(t * s * mw, kappa + row_kappa)


def _split(bits: int) -> tuple[int, int]:
    """Whole bytes of a word on the wire, and the bits above them. Raises ValueError unless 1 ≤ bits ≤ 64."""
    if not 1 <= bits <= WORD:
        raise ValueError(f"a word has 1 to {WORD} bits, not {bits}")
    return divmod(bits, BYTE)


def _planes(count: int, width: int) -> list[tuple[int, int, int]]:
    """Of each plane of `count` words of `width` bytes: its bytes a word, the bits below it, and where it begins."""
    sizes = [size for size in PLANES if width & size] if width < 8 else [8]
    below = [sum(sizes[:index]) for index in range(len(sizes))]
    return [(size, 8 * start, count * start) for size, start in zip(sizes, below, strict=True)]


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` words mod 2^bits take on the wire."""
    width, left = _split(bits)
    return count * width + -(-count // BYTE) * left


def pack(x: np.ndarray, bits: int) -> memoryview:
    """x mod 2^bits, with b = ⌊bits/8⌋ whole bytes a word, in planes: of all words the lowest 4 bytes, then 2, then 1.

    b says which of the planes there are (6: the lowest 4, then 2 above); 8 bytes are one plane. Little-endian. If
    q = bits mod 8 are left, they follow, of eight words each: with n = ⌈count/8⌉ the words i, n + i, 2n + i and so on
    give a number of 8·q bits, the first one's the lowest; of all these numbers there is a plane for each byte.
    """
    x, (width, left), code = words(x), _split(bits), library()
    packed = np.empty(packed_size(x.size, bits), np.uint8)
    if code is not None:
        code.pack(pointer(x), pointer(packed), ctypes.c_int64(x.size), ctypes.c_int64(bits))
        return packed.data.toreadonly()
    flat = x.reshape(-1).view(np.uint64)
    for size, below, start in _planes(x.size, width):
        packed[start : start + x.size * size].view(f"<u{size}")[:] = (flat >> below).astype(f"<u{size}")
    if left:
        eighth = -(-x.size // BYTE)
        rest = np.zeros((BYTE, eighth), "<u8")
        rest.reshape(-1)[: x.size] = (flat >> BYTE * width) & ((1 << left) - 1)
        numbers = np.bitwise_or.reduce(rest << (np.arange(BYTE, dtype="<u8") * left)[:, None], 0)
        packed[x.size * width :] = numbers.view(np.uint8).reshape(eighth, BYTE)[:, :left].T.reshape(-1)
    return packed.data.toreadonly()


def unpack(data: bytes | bytearray | memoryview, count: int, bits: int) -> np.ndarray:
    """What `pack` made of `count` words, shape (count,): 0 ≤ x < 2^bits; for 64 bits the words themselves.

    Raises ValueError unless `data` has packed_size(count, bits) bytes.
    """
    packed, (width, left) = np.frombuffer(data, np.uint8), _split(bits)
    if count < 0 or packed.size != packed_size(count, bits):
        raise ValueError(f"{packed.size} bytes are not {count} words of {bits} bits")
    x, code = np.empty(count, np.int64), library()
    if code is not None:
        code.unpack(pointer(packed), pointer(x), ctypes.c_int64(count), ctypes.c_int64(bits))
        return x
    x[:] = 0
    for size, below, start in _planes(count, width):
        plane = packed[start : start + count * size].view(f"<u{size}")
        x |= (plane.astype(np.uint64) << below).view(np.int64)
    if left:
        eighth = -(-count // BYTE)
        numbers = np.zeros((eighth, BYTE), np.uint8)
        numbers[:, :left] = packed[count * width :].reshape(left, eighth).T
        rest = numbers.view("<u8").reshape(eighth) >> (np.arange(BYTE, dtype=np.uint64) * left)[:, None]
        x |= ((rest & ((1 << left) - 1)) << BYTE * width).reshape(-1)[:count].view(np.int64)
    return x
