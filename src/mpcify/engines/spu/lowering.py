"""Graph to SPU: one JAX function that interprets the operations, exported and compiled.

Weights and inputs are arguments, never constants: a constant stands in the compiled program, which every party holds.

A product in integers is not truncated: `to_ring` takes the ring elements of numbers, `from_ring` gives numbers back, at
no cost. What then has 2f fraction bits is truncated by f as a product with STEP = 2^−f, a public input: SPU multiplies
a constant below 2^(2−f) in another way, which has 16 bits less room.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import export
from spu import libspu

from mpcify.engines.engine import OUTPUT
from mpcify.engines.spu import series
from mpcify.engines.spu.config import STEP
from mpcify.engines.spu.numbers import OWN_EXP, mean_power, merged, postpones
from mpcify.engines.spu.opened import refuse_opened
from mpcify.graph.graph import Graph, Input
from mpcify.graph.parts import public_values, single
from mpcify.numerics import FixedPoint
from mpcify.replacements.forms import GELU_POLY_HIGH, GELU_POLY_LOW, GELU_TANH_CUBE


def to_ring(x: jax.Array) -> jax.Array:
    """Numbers as what they are in the ring."""
    return lax.bitcast_convert_type(x, jnp.int32)


def from_ring(x: jax.Array) -> jax.Array:
    """Ring elements as numbers with f fraction bits."""
    return lax.bitcast_convert_type(x, jnp.float32)


def square_linear(step: jax.Array, x: jax.Array, w: jax.Array, b: jax.Array, room: int) -> jax.Array:
    """x² @ (room · w) + b; the square has 2f fraction bits, the product 3f, and is truncated twice."""
    rows = to_ring(x.reshape(-1, x.shape[-1]))
    weight = w if w.dtype == jnp.int32 else to_ring(w)
    product = from_ring((rows * rows) @ weight) * step * (step * room)
    return (product + b).reshape(*x.shape[:-1], w.shape[-1])


def matmul(step: jax.Array, a: jax.Array, b: jax.Array, transpose: bool) -> jax.Array:
    """a @ b (or a @ bᵀ) over equal leading axes; all products are truncated together."""
    return from_ring(products(to_ring(a), to_ring(b), transpose)) * step


def square_matmul(step: jax.Array, a: jax.Array, b: jax.Array, transpose: bool) -> jax.Array:
    """a² @ b, truncated as in `square_linear`."""
    return from_ring(products(to_ring(a) * to_ring(a), to_ring(b), transpose)) * step * step


def products(a: jax.Array, b: jax.Array, transpose: bool) -> jax.Array:
    """a @ b (or a @ bᵀ) in integers over equal leading axes, several products as one if that is cheap.

    SPU runs batched products one after the other, with a message each. g of them are one product of [A₁ … A_g] with the
    block diagonal of B₁ … B_g: the same bytes, g times the multiplications.
    """
    b = b.swapaxes(-1, -2) if transpose else b
    (rows, inner), columns = a.shape[-2:], b.shape[-1]
    group = merged(math.prod(a.shape[:-2]), rows * inner * columns)
    if group == 1 or a.shape[:-2] != b.shape[:-2]:
        return a @ b
    left = a.reshape(-1, group, rows, inner).transpose(0, 2, 1, 3).reshape(-1, rows, group * inner)
    apart = b.reshape(-1, group, inner, columns)
    blocks = [jnp.pad(apart[:, i], ((0, 0), (0, 0), (i * columns, (group - 1 - i) * columns))) for i in range(group)]
    both = left @ jnp.concatenate(blocks, 1)
    return both.reshape(-1, rows, group, columns).transpose(0, 2, 1, 3).reshape(*a.shape[:-1], columns)


def scale(point: FixedPoint, step: jax.Array, x: jax.Array, by: float) -> jax.Array:
    """x · by, a public number, as the integer nearest to by·2^f: any sign, any size, an ordinary truncation."""
    factor = point.factor(by)
    return x * by if abs(factor) >= 1 << 31 else from_ring(to_ring(x) * factor) * step


def exp(point: FixedPoint, step: jax.Array, x: jax.Array, t: int) -> jax.Array:
    """(1 + x/2ᵗ)^(2ᵗ). SPU's own has t = 8, and under SEMI2K cheaper squares."""
    if t == OWN_EXP:
        return jnp.exp(x)
    y = scale(point, step, x, 2.0**-t) + 1
    for _ in range(t):
        y = y * y
    return y


def linear(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """x @ w + b, as one product of two matrices: SPU runs batched products one after the other."""
    return (x.reshape(-1, x.shape[-1]) @ w + b).reshape(*x.shape[:-1], w.shape[-1])


def mean(point: FixedPoint, x: jax.Array) -> jax.Array:
    """The mean over the last axis, by 2^−k and then by 2^k/n, see `numbers.mean_power`.

    The sum is a product with a column of 2^−k: as a factor it may be a constant below 2^(2−f), see the module.
    """
    size = x.shape[-1]
    power = mean_power(point, size)
    column = jnp.full((size, 1), 1 / power, jnp.float32)
    part = (x.reshape(-1, size) @ column).reshape(*x.shape[:-1], 1)
    return part if power == size else part * (power / size)


def mean_square(point: FixedPoint, step: jax.Array, x: jax.Array) -> jax.Array:
    """The mean of x² over the last axis: the squares are summed with 2f fraction bits, and their sum is truncated.

    2^−k is made from STEP: as a constant XLA would join it with 2^k/n. SPU sums a row ten times faster as a product
    with ones.
    """
    size = x.shape[-1]
    power = mean_power(point, size)
    rows = to_ring(x.reshape(-1, size))
    total = from_ring((rows * rows) @ jnp.ones((size, 1), jnp.int32)).reshape(*x.shape[:-1], 1)
    part = total * step * (step * (point.scale / power))
    return part if power == size else part * (power / size)


def layernorm(point: FixedPoint, step: jax.Array, x: jax.Array, g: jax.Array, b: jax.Array, eps: float) -> jax.Array:
    """(x − mean) · rsqrt(variance + eps) · g + b over the last axis; an eps below 2^−f is 0."""
    deviation = x - mean(point, x)
    variance = mean_square(point, step, deviation) if postpones(point) else mean(point, deviation * deviation)
    return deviation * rsqrt(variance + eps, point) * g + b


def rsqrt(x: jax.Array, point: FixedPoint) -> jax.Array:
    """x^(−1/2) from 2^−13 to 2^17 by comparisons, all at once, and two steps of third order: see `series`.

    SPU's own normalises by bits: a third more messages, and none of it runs in FM32.
    """
    below = x[..., None] < jnp.array(series.THRESHOLDS, jnp.float32)
    lasts, falls = zip(*map(series.falls, series.factors(point)), strict=True)
    chosen = jnp.where(below, jnp.array(falls), 0.0).sum(-1)
    scale, root = (last + chosen[..., row : row + 1] for row, last in enumerate(lasts))
    w = x * scale
    p = (w - series.SHIFT) ** 2 + series.FLOOR
    return p * ((w * p * p - series.SHIFT) ** 2 + series.FLOOR) * root


def gelu(x: jax.Array) -> jax.Array:
    """x/2 · (1 + erf(x/√2)); jax.nn.gelu takes erfc, which SPU expands to exp and division: 2.5 times the bytes."""
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: jax.Array) -> jax.Array:
    """x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))."""
    return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + GELU_TANH_CUBE * (x * x * x))))


def gelu_poly(point: FixedPoint, step: jax.Array, x: jax.Array) -> jax.Array:
    """PUMA's piecewise GeLU (Dong et al. 2023): 0 below −4, a cubic to −1.95, a sextic to 3, x above.

    Coefficients are integers, so that each polynomial is truncated once.
    """
    x2 = x * x
    powers = {1: x, 2: x2, 3: x2 * x, 4: x2 * x2}
    powers[6] = powers[3] * powers[3]

    def polynomial(coefficients: tuple[float, ...]) -> jax.Array:
        terms = [to_ring(powers[degree]) * point.factor(c) for degree, c in enumerate(coefficients) if degree and c]
        return from_ring(sum(terms[1:], terms[0])) * step + coefficients[0]

    low, high = map(polynomial, (GELU_POLY_LOW, GELU_POLY_HIGH))
    return jnp.where(x < -4.0, 0.0, jnp.where(x < -1.95, low, jnp.where(x > 3.0, x, high)))


FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {
    "linear": linear,
    "mul": lambda a, b: a * b,
    "square": lambda x: x * x,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "shift": lambda x, by: x + by,
    "sum": lambda x, axis: x.sum(axis, keepdims=True),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.transpose(axes),
    "slice": lambda x, axis, start, stop: lax.slice_in_dim(x, start, stop, axis=axis),
    "concat": lambda *x, axis: jnp.concatenate(x, axis),
    "broadcast": lambda x, shape: jnp.broadcast_to(x, shape),
    "max": lambda x, axis: x.max(axis, keepdims=True),
    "reciprocal": lambda x: 1 / x,
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.maximum(x, 0),
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "softmax": lambda x, axis: jax.nn.softmax(x, axis),
    "gelu-erfc": lambda x: jax.nn.gelu(x, approximate=False),
}


def functions(point: FixedPoint, step: jax.Array) -> dict[str, Callable[..., jax.Array]]:
    """What each kind of operation computes."""
    return {
        **FUNCTIONS,
        "matmul": partial(matmul, step),
        "square-linear": partial(square_linear, step),
        "square-matmul": partial(square_matmul, step),
        "layernorm": partial(layernorm, point, step),
        "scale": partial(scale, point, step),
        "exp": partial(exp, point, step),
        "gelu-poly": partial(gelu_poly, point, step),
    }


def function_of(graph: Graph, point: FixedPoint) -> Callable[..., tuple[jax.Array, ...]]:
    """f(every input of the graph, in order, and STEP) → its outputs, in order."""

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        *given, step = arrays
        computes = functions(point, step)
        values = dict(zip((item.name for item in graph.inputs), given, strict=True))
        for operation in graph.operations:
            inputs = (values[name] for name in operation.inputs)
            values[operation.name] = computes[operation.kind](*inputs, **operation.attributes)
        return tuple(values[name] for name in graph.outputs)

    return function


def compile_graph(graph: Graph, point: FixedPoint) -> libspu.Executable:
    """The graph as one SPU executable: reads the variables named as its inputs, writes OUTPUT + each output's name.

    Inputs held by `public` are public, all others secret. Inputs that nothing reads are left out; STEP is there if
    something reads it. Raises MPC-503 if SPU makes of it what opens a value.
    """
    given = (*graph.inputs, Input(STEP, "public", ()))
    # a weight is shared as integers: SPU's bitcast copies it at every request
    specs = [jax.ShapeDtypeStruct(item.shape, jnp.float32 if item.encoding is None else jnp.int32) for item in given]
    exported = export(jax.jit(function_of(graph, point)), platforms=["cpu"])(*specs)
    inputs = [given[index] for index in exported.module_kept_var_idx]
    visibility = [
        libspu.Visibility.VIS_PUBLIC if item.holder == "public" else libspu.Visibility.VIS_SECRET for item in inputs
    ]
    source = libspu.CompilationSource(libspu.SourceIRType.STABLEHLO, exported.mlir_module().encode(), visibility)
    options = libspu.CompilerOptions()
    # x/sum as x · (1/sum), one division a row; not for the benchmark's recipe `naive`, which is JAX as it comes
    options.enable_optimize_denominator_with_broadcast = "softmax" not in graph.count()
    # it would join two factors below 2^−f, each a truncation, into one that is 0
    options.disable_reduce_truncation_optimization = True
    code = libspu.compile(source, options)
    secret, public = [item.holder != "public" for item in inputs], public_values(graph)
    refuse_opened(code.decode(), secret, [name not in public for name in graph.outputs])
    return libspu.Executable(
        name="graph",
        input_names=[item.name for item in inputs],
        output_names=[OUTPUT + name for name in graph.outputs],
        code=code,
    )


def compile_operations(graph: Graph, point: FixedPoint) -> dict[str, libspu.Executable]:
    """Each operation as an executable of its own, by its name: reads variables of that name, writes one.

    Operations that differ in names alone are compiled once.
    """
    compiled: dict[str, tuple[bytes, list[int]]] = {}
    executables = {}
    for operation in graph.operations:
        alone = single(graph, operation)
        names = [*(item.name for item in alone.inputs), STEP]
        inputs = [(item.holder == "public", item.encoding is None, item.shape) for item in alone.inputs]
        places = [names.index(name) for name in operation.inputs]
        key = json.dumps([operation.kind, dict(operation.attributes), inputs, places])
        if key not in compiled:
            made = compile_graph(alone, point)
            compiled[key] = made.code, [names.index(name) for name in made.input_names]
        code, kept = compiled[key]
        executables[operation.name] = libspu.Executable(
            name="operation", input_names=[names[index] for index in kept], output_names=[operation.name], code=code
        )
    return executables
