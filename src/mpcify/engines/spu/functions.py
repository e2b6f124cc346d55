"""SPU's functions in integers mod 2^K, series by series, so that their errors and bad ranges come out as SPU's do.

Sources: SecretFlow SPU 0.10, `libspu/kernel/hal/fxp_base.cc` (reciprocal) and `fxp_approx.cc` (the others). Arrays hold
signed representatives of the type `FixedPoint.dtype`. Truncations go to the nearest integer (`FixedPoint.truncate`),
as in SPU's REF2K, with which these functions agree in every bit; under ABY3 chance adds a few steps.

Outside their ranges: exp is right for −512 < x < 12 (5 % too small at 5, 24 % at 12, and it rises again below −512);
reciprocal and rsqrt from about 26·2^−f on, 0 from 2^f and 2^(f−1) on; 1/0 = 0, rsqrt(x ≤ 0) = 0; tanh ends at 1.0027
and errs by 5e-3. Public constants below 2^−f become 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpcify.engines.fixed.arithmetic import Arithmetic, in_blocks, integer_product
from mpcify.engines.rules import Functions
from mpcify.engines.spu import series
from mpcify.engines.spu.limits import ERF, ERF_END
from mpcify.engines.spu.numbers import mean_power, postpones
from mpcify.numerics import FixedPoint
from mpcify.replacements.forms import GELU_POLY_HIGH, GELU_POLY_LOW, GELU_TANH_CUBE

RECIPROCAL_GUESS = 2.9142  # 1/c ≈ 2.9142 − 2c on [0.5, 1)
RECIPROCAL_ITERATIONS = 2  # 3 from f = 30 on
TANH_END = 5.0
TANH_CHEBYSHEV = (  # of the odd degrees 1 … 17 on [−5, 5]
    1.2514045938932097,
    -0.3655987797163166,
    0.17253141478140663,
    -0.08943445792774211,
    0.047703017901250824,
    -0.025830290571688078,
    0.014338801903468182,
    -0.008541730970059077,
    0.0061230685785789475,
)


@dataclass(frozen=True)
class SpuArithmetic(Arithmetic):
    """Functions of numbers in a ring; every array holds signed representatives of `number.dtype`."""

    number: FixedPoint

    def constant(self, value: float) -> int:
        """A public constant: rounded towards zero, from float32 as JAX hands it over."""
        return int(self.number.encode(float(np.float32(value))))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """The mean over the last axis, kept with size 1."""
        return self.share_of(self.sum(x, -1), x.shape[-1])

    def share_of(self, total: np.ndarray, size: int) -> np.ndarray:
        """A sum of `size` numbers divided by their count."""
        power = mean_power(self.number, size)
        part = self.multiply(total, self.constant(1 / power))
        return part if power == size else self.multiply(part, self.constant(power / size))

    def mean_square(self, x: np.ndarray) -> np.ndarray:
        """The mean of x² over the last axis, kept with size 1.

        If the ring has room, the squares are summed with 2f fraction bits, and their sum is truncated.
        """
        if not postpones(self.number):
            return self.mean(self.multiply(x, x))
        return self.share_of(self.number.truncate(self.sum(self.number.wrap(x * x), -1)), x.shape[-1])

    def polynomial(self, x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
        """Σₖ cₖ xᵏ: even powers are squares, each power is truncated, the sum once."""
        total = np.full_like(x, self.constant(coefficients[0]) << self.number.fraction_bits)
        powers = [x, x]
        for degree, coefficient in enumerate(coefficients[1:], 1):
            if degree > 1:
                half = powers[degree // 2]
                powers.append(self.multiply(powers[-1], x) if degree % 2 else self.multiply(half, half))
            if coefficient:
                total += powers[degree] * self.constant(coefficient)
        return self.number.truncate(self.number.wrap(total))

    def weighted(self, powers: Mapping[int, np.ndarray], coefficients: Sequence[float]) -> np.ndarray:
        """Σₖ cₖ xᵏ from powers of x; the sum is truncated once."""
        terms = (powers[degree] * self.number.factor(c) for degree, c in enumerate(coefficients) if degree and c)
        return self.add(
            self.number.truncate(self.number.wrap(sum(terms, np.zeros_like(powers[1])))), self.constant(coefficients[0])
        )

    def highest_bit(self, x: np.ndarray) -> np.ndarray:
        """The place of the highest bit that is set in the K bits of each integer, −1 for 0; as `x.dtype`."""
        spread = x & ((1 << self.number.ring) - 1) if self.number.ring == 48 else x
        spread = spread.view(f"u{x.dtype.itemsize}")
        for shift in (1, 2, 4, 8, 16, 32)[: 5 if x.dtype.itemsize == 4 else 6]:
            spread = spread | (spread >> shift)
        return np.bitwise_count(spread).astype(x.dtype) - 1

    def mirror(self, place: np.ndarray, width: int) -> np.ndarray:
        """2^(width−1−place) for places 0 … width−1, else 0: a single bit, mirrored within `width` bits."""
        inside = (place >= 0) & (place < width)
        return np.where(inside, np.left_shift(1, np.where(inside, width - 1 - place, 0), dtype=place.dtype), 0)

    def exp(self, x: np.ndarray, t: int) -> np.ndarray:
        """(1 + x/2ᵗ)^(2ᵗ), by t squarings."""
        y = self.add(self.number.truncate(x, t), self.constant(1))
        for _ in range(t):
            y = self.multiply(y, y)
        return y

    def reciprocal(self, x: np.ndarray) -> np.ndarray:
        """1/x by Goldschmidt's iteration on c = |x|·2^−m in [0.5, 1)."""
        one = self.constant(1)
        magnitude = self.number.wrap(np.where(x < 0, -x, x))
        factor = self.mirror(self.highest_bit(magnitude), 2 * self.number.fraction_bits)
        c = self.multiply(magnitude, factor)
        r = self.subtract(self.constant(RECIPROCAL_GUESS), 2 * c)
        error = self.subtract(one, self.multiply(c, r))
        for iteration in range(RECIPROCAL_ITERATIONS + (self.number.fraction_bits >= 30)):
            if iteration:
                error = self.multiply(error, error)
            r = self.multiply(r, self.add(error, one))
        r = self.multiply(r, factor)
        return np.where(x < 0, -r, r)

    def rsqrt(self, x: np.ndarray) -> np.ndarray:
        """x^(−1/2) by comparisons and two steps of third order; see `engines.spu.series`."""
        place = np.searchsorted([self.constant(value) for value in series.THRESHOLDS], x, side="right")
        scale, root = (self.table(table).astype(x.dtype)[place] for table in series.factors(self.number))
        w = self.multiply(x, scale)
        p = self.third_order(w)
        q = self.third_order(self.multiply(self.multiply(w, p), p))
        return self.multiply(self.multiply(p, q), root)

    def table(self, values: np.ndarray) -> np.ndarray:
        """A table from its last entry and its falls, as integers."""
        last, falls = series.falls(values)
        steps = np.array([self.constant(float(fall)) for fall in falls], np.int64)
        return self.constant(float(last)) + np.append(np.cumsum(steps[::-1])[::-1], 0)

    def third_order(self, w: np.ndarray) -> np.ndarray:
        """(w − 5/√24)² + 5/6."""
        inner = self.add(w, -self.constant(series.SHIFT))
        return self.add(self.multiply(inner, inner), self.constant(series.FLOOR))

    def tanh(self, x: np.ndarray) -> np.ndarray:
        """tanh by Chebyshev polynomials of odd degree to 17 on [−5, 5], clamped outside."""
        end = self.constant(TANH_END)
        x = self.multiply(np.clip(x, -end, end), self.constant(1 / TANH_END))
        y = self.add(4 * self.multiply(x, x), -self.constant(2))
        before, term = x, self.multiply(x, self.add(y, -self.constant(1)))
        total = x * self.constant(TANH_CHEBYSHEV[0]) + term * self.constant(TANH_CHEBYSHEV[1])
        for coefficient in TANH_CHEBYSHEV[2:]:
            before, term = term, self.subtract(self.multiply(y, term), before)
            total += term * self.constant(coefficient)
        return self.number.truncate(self.number.wrap(total))

    def erf(self, x: np.ndarray) -> np.ndarray:
        """erf by 1 − 1/p(|x|)⁴, and ±1 from 3 on."""
        one = self.constant(1)
        magnitude = self.number.wrap(np.where(x < 0, -x, x))
        power = self.polynomial(magnitude, ERF)
        for _ in range(2):
            power = self.multiply(power, power)
        y = np.where(magnitude < self.constant(ERF_END), self.subtract(one, self.reciprocal(power)), one)
        return np.where(x < 0, -y, y).astype(x.dtype)

    def gelu(self, x: np.ndarray) -> np.ndarray:
        """x/2 · (1 + erf(x/√2))."""
        inner = self.erf(self.multiply(x, self.constant(math.sqrt(0.5))))
        return self.multiply(self.multiply(x, self.constant(0.5)), self.add(inner, self.constant(1)))

    def gelu_tanh(self, x: np.ndarray) -> np.ndarray:
        """x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))."""
        cube = self.multiply(self.multiply(x, x), x)
        inner = self.add(x, self.multiply(cube, self.constant(GELU_TANH_CUBE)))
        inner = self.tanh(self.multiply(inner, self.constant(math.sqrt(2 / math.pi))))
        return self.multiply(self.multiply(x, self.constant(0.5)), self.add(inner, self.constant(1)))

    def gelu_poly(self, x: np.ndarray) -> np.ndarray:
        """PUMA's piecewise GeLU: 0 below −4, a cubic to −1.95, a sextic to 3, x above."""
        square = self.multiply(x, x)
        cube = self.multiply(square, x)
        powers = {1: x, 2: square, 3: cube, 4: self.multiply(square, square), 6: self.multiply(cube, cube)}
        low, high = (self.weighted(powers, part) for part in (GELU_POLY_LOW, GELU_POLY_HIGH))
        inner = np.where(x < self.constant(-1.95), low, high)
        outer = np.where(x > self.constant(3), x, inner)
        return np.where(x < self.constant(-4), 0, outer).astype(x.dtype)

    def layernorm(self, x: np.ndarray, g: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
        """(x − mean) · rsqrt(variance + eps) · g + b over the last axis; an eps below 2^−f is 0."""
        deviation = self.subtract(x, self.mean(x))
        variance = self.mean_square(deviation)
        normal = self.multiply(deviation, self.rsqrt(self.add(variance, self.constant(eps))))
        return self.add(self.multiply(normal, g), b)

    def of_square(self, x: np.ndarray, w: np.ndarray, transpose: bool = False, room: int = 1) -> np.ndarray:
        """room · x² @ w: the square has 2f fraction bits, the product 3f, and is truncated twice."""
        number = self.number
        raw = number.wrap(integer_product(number.wrap(x * x), w, transpose))
        return number.truncate(number.wrap(number.truncate(raw) * room))

    def functions(self) -> Functions:
        """Every kind as SPU computes it."""
        return {
            **self.common(),
            "square-linear": lambda x, w, b, room: self.add(self.of_square(x, w, room=room), b),
            "square-matmul": self.of_square,
            "exp": lambda x, t: in_blocks(lambda part: self.exp(part, t))(x),
            "reciprocal": in_blocks(self.reciprocal),
            "tanh": in_blocks(self.tanh),
            "gelu": in_blocks(self.gelu),
            "gelu-tanh": in_blocks(self.gelu_tanh),
            "gelu-poly": in_blocks(self.gelu_poly),
            "layernorm": self.layernorm,
        }
