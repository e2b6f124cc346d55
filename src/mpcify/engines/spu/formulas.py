"""What an operation costs under SPU, from its shapes alone: bytes, messages and multiplications.

w is the bytes of a ring element (8 or 4). All parties together send, an element:
- ABY3: a product 3w, a truncation 2w + 12, a choice by a secret bit 8w, an AND of b-bit words 3·⌈b/8⌉;
- SEMI2K of two parties: a product 4w (a square of SPU's own functions 2w), a truncation 8, a choice 4w, an AND
  4·⌈b/8⌉; a matrix product (m, k)·(k, n) opens its factors, 2w(mk + kn).
A comparison is the top bit of a sum: a carry tree whose words halve from level to level. Functions are the series that
SPU 0.10 runs (`libspu/kernel/hal/fxp_approx.cc`, `fxp_base.cc`), counted step by step; what normalises a number to
[0.5, 1) for reciprocal and erf exists in the ring 2^64 alone and is counted as a whole.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpcify.engines.rules import Work
from mpcify.engines.spu import series
from mpcify.engines.spu.config import PARTIES
from mpcify.engines.spu.numbers import OWN_EXP, mean_power, merged, postpones
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Operation
from mpcify.numerics import FixedPoint

ESTIMATED = ("aby3", "semi2k")
META = 37  # bytes of description beside each share that is sent
# ABY3's roles rotate by chance: of a truncation two parties send two messages and one sends one.
TRUNCATION_MESSAGES = 5 / 3
TRUNCATION_VARIANCE = 2 / 9
BUSIEST = 1.036  # E[max of three] of such sums, in their standard deviations


@dataclass(frozen=True)
class Formulas:
    """The costs of one protocol in one ring. Raises MPC-501 for a protocol without formulas."""

    number: FixedPoint
    protocol: str

    def __post_init__(self) -> None:
        if self.protocol not in ESTIMATED:
            where, what = f"protocol {self.protocol}", "there are no cost formulas for it"
            raise MpcifyError(501, where, what, "use aby3 or semi2k, or measure with mpcify profile")

    @property
    def three(self) -> bool:
        """Whether this is ABY3."""
        return self.protocol == "aby3"

    @property
    def element(self) -> int:
        """w, the bytes of a ring element."""
        return self.number.ring // 8

    @property
    def parties(self) -> int:
        """How many parties there are."""
        return len(PARTIES[self.protocol])

    def rounds(self, work: Work) -> float:
        """The messages of the busiest party."""
        if not self.three:
            return work.messages + work.truncations
        spread = BUSIEST * math.sqrt(work.truncations * TRUNCATION_VARIANCE)
        return work.messages + TRUNCATION_MESSAGES * work.truncations + min(spread, work.truncations / 3)

    # steps

    @property
    def truncation(self) -> Work:
        return Work(2 * self.element + 12 if self.three else 8, 0, 1)

    @property
    def raw_product(self) -> Work:
        """A product without its truncation."""
        return Work(3 * self.element if self.three else 4 * self.element, 1)

    @property
    def product(self) -> Work:
        return self.raw_product + self.truncation

    @property
    def own_square(self) -> Work:
        """x² inside SPU's functions, which know that both factors are the same."""
        return self.product if self.three else Work(2 * self.element, 1) + self.truncation

    @property
    def less(self) -> Work:
        """A comparison: x & y, and a carry tree over K bits; under ABY3 three summands become two before."""
        each = 3 if self.three else 4
        levels = self.number.ring.bit_length() - 1
        words = self.element + 2 * sum(math.ceil((self.number.ring >> level) / 8) for level in range(1, levels + 1))
        summands = self.element if self.three else 0
        return Work(each * (words + summands), levels + (2 if self.three else 1))

    @property
    def choice(self) -> Work:
        """b ? x : y by a secret bit."""
        return Work(8 * self.element, 3) if self.three else Work(4 * self.element, 1)

    @property
    def public_choice(self) -> Work:
        """b ? x : y of public x and y."""
        return Work(4 * self.element, 2) if self.three else Work(2, 1)

    @property
    def maximum(self) -> Work:
        return self.less + self.choice

    # functions, an element

    def exp(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """(1 + x/2ᵗ)^(2ᵗ)."""
        t = operation.attributes["t"]
        return self.elementwise(
            operation, self.truncation + (self.own_square if t == OWN_EXP else self.product).times(1, t)
        )

    @property
    def tanh(self) -> Work:
        """Clamped, then nine Chebyshev terms by a recurrence."""
        return self.maximum.times(1, 2) + self.truncation.times(1, 2) + self.own_square + self.product.times(1, 8)

    @property
    def reciprocal(self) -> Work:
        """Sign and magnitude, normalised, and Goldschmidt's iteration: six products."""
        return (Work(1024, 35) if self.three else self.normalised(762, 8, 24)) + self.product.times(1, 6)

    @property
    def rsqrt(self) -> Work:
        """Comparisons with public thresholds, two choices between public numbers each, all at once; seven products."""
        sent = self.less.bytes + 2 * self.public_choice.bytes
        messages = self.less.messages + self.public_choice.messages
        return Work(sent * len(series.THRESHOLDS), messages) + self.product.times(1, 7)

    @property
    def erf(self) -> Work:
        """1 − 1/p(x)⁴, p a quartic: twelve products."""
        return (Work(1320, 52) if self.three else self.normalised(954, 8, 36)) + self.product.times(1, 12)

    def normalised(self, base: int, wider: int, messages: int) -> Work:
        """What SEMI2K sends to normalise: more if 2f bits do not fit 32."""
        return Work(base + wider * (2 * self.number.fraction_bits > 32), messages)

    # operations

    def of(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]], public: frozenset[str]) -> Work:
        """What an operation costs. Raises MPC-501 for one that is measured, never estimated."""
        if operation.name in public or operation.kind in LOCAL:
            return Work()
        if operation.kind not in COSTS:
            what = f"there is no cost formula for {operation.kind}"
            raise MpcifyError(501, operation.where, what, "measure it with mpcify bench")
        return COSTS[operation.kind](self, operation, shapes)

    def elementwise(self, operation: Operation, each: Work) -> Work:
        return each.times(math.prod(operation.shape))

    def raw_matrix_product(self, rows: int, inner: int, columns: int) -> Work:
        """Without its truncation; SPU takes one of inner width 1 element by element."""
        if inner == 1:
            return self.raw_product.times(rows * columns)
        opened = 2 * self.element * (rows * inner + inner * columns)
        sent = 3 * self.element * rows * columns if self.three else opened
        return Work(sent, 1, 0, rows * inner * columns)

    def matmul(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """Batched products one after the other, several merged into one (block diagonal), all truncated together."""
        left, right = (shapes[name] for name in operation.inputs)
        (rows, inner), columns, count = left[-2:], operation.shape[-1], math.prod(operation.shape[:-2])
        group = merged(count, rows * inner * columns) if left[:-2] == right[:-2] else 1
        once = self.raw_matrix_product(rows, group * inner, group * columns)
        return once.times(1, count // group) + self.elementwise(operation, self.truncation)

    def linear(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        inner, columns = shapes[operation.inputs[1]]
        product = self.raw_matrix_product(math.prod(operation.shape[:-1]), inner, columns)
        return product + self.elementwise(operation, self.truncation)

    def layernorm(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """Two means a row (two truncations each, one if the width is a power of two), rsqrt, and three products.

        The squares are truncated after they are summed, if the ring has the room.
        """
        size = operation.shape[-1]
        means, summed = 2 * (1 if mean_power(self.number, size) == size else 2), postpones(self.number)
        row = self.rsqrt + self.truncation.times(1, means + summed)
        squares = self.raw_product if summed else self.product
        return row.times(math.prod(operation.shape[:-1])) + self.elementwise(
            operation, squares + self.product.times(1, 2)
        )

    def square_linear(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """Squares that are not truncated, and a product that is truncated once more."""
        squares = self.raw_product.times(math.prod(shapes[operation.inputs[0]]))
        return squares + self.linear(operation, shapes) + self.elementwise(operation, self.truncation)

    def square_matmul(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """The same for batched products."""
        squares = self.raw_product.times(math.prod(shapes[operation.inputs[0]]))
        return squares + self.matmul(operation, shapes) + self.elementwise(operation, self.truncation)

    def largest(self, operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> Work:
        """A tree of comparisons: n − 1 a row; halves are compared, and what is left over one by one at the end."""
        size = shapes[operation.inputs[0]][operation.attributes["axis"]]
        levels = size.bit_length() + size.bit_count() - 2
        each = self.maximum
        return Work(each.bytes * (size - 1) * math.prod(operation.shape), each.messages * levels)

    def gelu_poly(self) -> Work:
        """Four powers, two sums, three comparisons and three choices."""
        return self.product.times(1, 4) + self.truncation.times(1, 2) + self.maximum.times(1, 3)

    def share(self, elements: int) -> Work:
        """An input on its way from its holder to the others: a message each."""
        peers = self.parties - 1
        return Work(peers * ((2 if self.three else 1) * self.element * elements + META), peers)

    def rebuild(self, elements: int) -> Work:
        """An output's shares on their way to the client: a message each."""
        return Work(self.share(elements).bytes, 1)


LOCAL = ("add", "sub", "shift", "sum", "reshape", "transpose", "slice", "concat", "broadcast")
Formula = Callable[[Formulas, Operation, Mapping[str, tuple[int, ...]]], Work]


def each(step: Callable[[Formulas], Work]) -> Formula:
    """The cost of a function that is applied element by element."""
    return lambda formulas, operation, shapes: formulas.elementwise(operation, step(formulas))


COSTS: Mapping[str, Formula] = {
    "linear": Formulas.linear,
    "matmul": Formulas.matmul,
    "mul": each(lambda by: by.product),
    "square": each(lambda by: by.product),
    "scale": each(lambda by: by.truncation),
    "square-linear": Formulas.square_linear,
    "square-matmul": Formulas.square_matmul,
    "max": Formulas.largest,
    "exp": Formulas.exp,
    "reciprocal": each(lambda by: by.reciprocal),
    "tanh": each(lambda by: by.tanh),
    "relu": each(lambda by: by.maximum),
    "gelu": each(lambda by: by.erf + by.truncation.times(1, 2) + by.product),
    "gelu-tanh": each(lambda by: by.tanh + by.truncation.times(1, 3) + by.product.times(1, 3)),
    "gelu-poly": each(Formulas.gelu_poly),
    "layernorm": Formulas.layernorm,
}
