"""How large values may get under SPU, and how fine they must be.

Products, a dot's whole sum included, stay below 2^(K−2−2f); other values below 2^(K−2−f). Variances and reciprocals'
inputs lie within 26·2^−f … 2^(f−1), variances with their eps, exp's input above where (1 + x/2ᵗ)^(2ᵗ) rises again; a
masked softmax's row maximum above −20, exp_t's scores above −2^(t+1); what is doubled for a LayerNorm spreads over 8
steps.
"""

import math

from mpcify.engines.spu.numbers import postpones
from mpcify.engines.spu.postpone import postponed_limit
from mpcify.graph.graph import Operation
from mpcify.graph.ranges import SPREAD
from mpcify.numerics import FixedPoint

# SPU's division and erf build a 64-bit constant that FM32 has no room for; its exp runs there and errs by 1.9.
NOT_IN_FM32 = ("reciprocal", "gelu", "exp", "softmax", "gelu-erfc")
# Kinds whose "value" is a product before its truncation.
PRODUCTS = ("matmul", "mul", "square", "scale", "exp", "reciprocal", "gelu", "gelu-tanh")
LEAST_ROW_MAXIMUM = -20.0  # masked scores stand at −30
EXP_ERROR = 0.03  # of exp_t's logarithm at its largest input: x²/2^(t+1)
EXP_BITS = 3  # beyond t: x/2ᵗ has steps of 2^−f, which the power makes 2^(t−f)
SPU_STEPS = 26  # below 26 steps (1e-4 at f = 18) rsqrt and reciprocal feel the rounding of their input
SPU_RSQRT_LEAST, SPU_RSQRT_LARGEST = 2.0**-13, 2.0**17  # LayerNorm's rsqrt has no guess outside
SPREAD_STEPS = 8  # a standard deviation below 8 steps keeps fewer than three bits of what it is the spread of
LEAST_EXPONENT = -2.0  # exp_t(S) = (1 + S/2ᵗ)^(2ᵗ) rises again below
ERF_END = 3.0  # erf's quartic counts up to here
ERF = (1.0, 0.278393, 0.230389, 0.000972, 0.078108)  # erf(x) = 1 − 1/p(x)⁴, Abramowitz and Stegun 7.1.27
GELU_POLY_INNER = 3.0  # gelu-poly's polynomials count up to here
GELU_POLY_ERROR = 0.1  # of its sixth power's coefficient, at the end of its input
# Fraction bits below which a function's answers are noise.
LEAST_BITS = {"layernorm": 9, "tanh": 8, "gelu-tanh": 8, "softmax": 11, "gelu-erfc": 11}
CONSTANT_ERROR = 1 / 16  # of a public factor, by its own rounding


def limits(operation: Operation, quantity: str, number: FixedPoint) -> tuple[float, float]:
    """The open range in which a quantity of an operation is right in the ring."""
    kind, product, value = operation.kind, number.product_bound, number.value_bound
    postponed = postponed_limit(operation, quantity, number)
    if postponed is not None:
        return -postponed, postponed
    if quantity == "product":
        return -product, product
    if quantity == "variance":
        # if squares are summed before they are truncated, a row's sum must fit
        largest = product / operation.shape[-1] if postpones(number) else product
        least = max(SPU_STEPS * number.step, SPU_RSQRT_LEAST, product**-2)
        beside = min(SPU_RSQRT_LARGEST, number.scale / 2) - operation.attributes["eps"]  # rsqrt reads their sum
        return least, max(min(largest, beside), number.step)  # no range fits below a step
    if quantity == SPREAD:
        return SPREAD_STEPS * number.step, value
    if quantity == "input":
        return input_limits(operation, number)
    if kind == "max" or quantity == "exponent":
        return LEAST_ROW_MAXIMUM if kind == "max" else LEAST_EXPONENT, value
    bound = product if kind in PRODUCTS else value
    return -bound, bound


def input_limits(operation: Operation, number: FixedPoint) -> tuple[float, float]:
    """The open range in which a function is right in the ring."""
    kind, product, value = operation.kind, number.product_bound, number.value_bound
    if kind == "reciprocal":
        return max(SPU_STEPS * number.step, 1 / product), number.scale / 2
    if kind == "exp":
        power = 2.0 ** operation.attributes["t"]
        least = -power * (1 + 2.0 ** (-number.fraction_bits / power))  # there it comes to a step again
        return least, min(math.sqrt(2 * EXP_ERROR * power), math.log(product))
    reach = product
    if kind == "gelu" and product <= erf_power(ERF_END):  # 1/p(|x|/√2)⁴ takes the power of what it discards, too
        reach = math.sqrt(2) * erf_reach(product)
    elif kind == "gelu-tanh":  # x³ is a product
        reach = product ** (1 / 3)
    elif kind == "gelu-poly":  # so is x⁶, which counts up to 3; its coefficient errs by half a step
        sixth = min(product, GELU_POLY_ERROR * 2 * number.scale)
        reach = value if sixth > GELU_POLY_INNER**6 else sixth ** (1 / 6)
    return -reach, reach


def erf_power(x: float) -> float:
    """p(x)⁴, by whose reciprocal erf falls short of 1."""
    return float(sum(coefficient * x**power for power, coefficient in enumerate(ERF)) ** 4)


def erf_reach(product: float) -> float:
    """The x at which the fourth power of erf's quartic comes to a bound."""
    low, high = 0.0, ERF_END
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if erf_power(middle) < product else (low, middle)
    return low


def bits_needed(operation: Operation) -> int:
    """The fewest fraction bits that an operation makes sense with."""
    if operation.kind == "exp":
        return int(operation.attributes["t"]) + EXP_BITS
    if operation.kind == "scale":
        by = abs(operation.attributes["by"])
        errors = ((bits, abs(round(by * 2**bits) - by * 2**bits)) for bits in range(64))
        return next((bits for bits, error in errors if error <= CONSTANT_ERROR * by * 2**bits), 64)
    return LEAST_BITS.get(operation.kind, 0)
