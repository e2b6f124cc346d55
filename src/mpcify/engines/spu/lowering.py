"""Graph to SPU: one JAX function that interprets the operations, exported and compiled.

Weights and inputs are arguments, never constants: a constant stands in the compiled program, which every party holds.
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
from mpcify.engines.plain import GELU_POLY_HIGH, GELU_POLY_LOW, GELU_TANH_CUBE
from mpcify.engines.spu import series
from mpcify.engines.spu.settings import merged
from mpcify.graph.graph import Graph
from mpcify.graph.parts import single
from mpcify.numerics import FixedPoint


def linear(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """x @ w + b, as one product of two matrices: SPU runs batched products one after the other."""
    return (x.reshape(-1, x.shape[-1]) @ w + b).reshape(*x.shape[:-1], w.shape[-1])


def matmul(a: jax.Array, b: jax.Array, transpose: bool) -> jax.Array:
    """a @ b (or a @ bᵀ) over equal leading axes, several products as one where that is cheap.

    SPU runs batched products one after the other, with messages of its own each. g of them are one product of
    [A₁ … A_g] with the block diagonal of B₁ … B_g: the same bytes, g times the multiplications.
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


def mean(x: jax.Array) -> jax.Array:
    """The mean over the last axis, by 2^−k and then by 2^k/n: 1/n has too few bits (f = 18: 1/768 is off by 1e-3).

    The sum is a product with a column of 2^−k: as a factor it would be folded back into 1/n before SPU sees it.
    """
    size = x.shape[-1]
    power = 1 << (size - 1).bit_length()
    column = jnp.full((size, 1), 1 / power, jnp.float32)
    part = (x.reshape(-1, size) @ column).reshape(*x.shape[:-1], 1)
    return part if power == size else part * (power / size)


def layernorm(number: FixedPoint, x: jax.Array, g: jax.Array, b: jax.Array, eps: float) -> jax.Array:
    """(x − mean) · rsqrt(variance + eps) · g + b over the last axis; an eps below 2^−f is 0."""
    deviation = x - mean(x)
    return deviation * rsqrt(mean(deviation * deviation) + eps, number) * g + b


def rsqrt(x: jax.Array, number: FixedPoint) -> jax.Array:
    """x^(−1/2) from 2^−13 to 2^17 by comparisons, all at once, and two steps of third order: see `series`.

    SPU's own normalises by bits: a third more messages, and none of it runs in FM32.
    """
    below = x[..., None] < jnp.array(series.THRESHOLDS, jnp.float32)
    lasts, falls = zip(*map(series.falls, series.factors(number)), strict=True)
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


def gelu_poly(x: jax.Array) -> jax.Array:
    """PUMA's piecewise GeLU (Dong et al. 2023): 0 below −4, a cubic to −1.95, a sextic to 3, x above."""
    x2 = x * x
    powers = {0: 1.0, 1: x, 2: x2, 3: x2 * x, 4: x2 * x2}
    powers[6] = powers[3] * powers[3]
    low, high = (
        sum(coefficient * powers[degree] for degree, coefficient in enumerate(part) if coefficient)
        for part in (GELU_POLY_LOW, GELU_POLY_HIGH)
    )
    return jnp.where(x < -4.0, 0.0, jnp.where(x < -1.95, low, jnp.where(x > 3.0, x, high)))


KINDS: Mapping[str, Callable[..., jax.Array]] = {
    "linear": linear,
    "matmul": matmul,
    "mul": lambda a, b: a * b,
    "square": lambda x: x * x,
    "scale": lambda x, by: x * by,
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
    "exp": jnp.exp,
    "reciprocal": lambda x: 1 / x,
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.maximum(x, 0),
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "gelu-poly": gelu_poly,
    "softmax": lambda x, axis: jax.nn.softmax(x, axis),
    "gelu-erfc": lambda x: jax.nn.gelu(x, approximate=False),
}


def function_of(graph: Graph, number: FixedPoint) -> Callable[..., tuple[jax.Array, ...]]:
    """f(every input of the graph, in order) → its outputs, in order."""

    kinds: dict[str, Callable[..., jax.Array]] = {**KINDS, "layernorm": partial(layernorm, number)}

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        values = dict(zip((item.name for item in graph.inputs), arrays, strict=True))
        for operation in graph.operations:
            inputs = (values[name] for name in operation.inputs)
            values[operation.name] = kinds[operation.kind](*inputs, **operation.attributes)
        return tuple(values[name] for name in graph.outputs)

    return function


def compile_graph(graph: Graph, number: FixedPoint) -> libspu.Executable:
    """The graph as one SPU executable: reads the variables named as its inputs, writes OUTPUT + each output's name.

    Inputs of role `public` are public, all others secret. Inputs that nothing reads are left out.
    """
    specs = [jax.ShapeDtypeStruct(item.shape, jnp.float32) for item in graph.inputs]
    exported = export(jax.jit(function_of(graph, number)), platforms=["cpu"])(*specs)
    inputs = [graph.inputs[index] for index in exported.module_kept_var_idx]
    visibility = [
        libspu.Visibility.VIS_PUBLIC if item.role == "public" else libspu.Visibility.VIS_SECRET for item in inputs
    ]
    source = libspu.CompilationSource(libspu.SourceIRType.STABLEHLO, exported.mlir_module().encode(), visibility)
    options = libspu.CompilerOptions()
    # x/sum as x · (1/sum), one division a row; not for the benchmark's `naive` baseline, which is JAX as it comes
    options.enable_optimize_denominator_with_broadcast = "softmax" not in graph.count()
    return libspu.Executable(
        name="graph",
        input_names=[item.name for item in inputs],
        output_names=[OUTPUT + name for name in graph.outputs],
        code=libspu.compile(source, options),
    )


def compile_operations(graph: Graph, number: FixedPoint) -> dict[str, libspu.Executable]:
    """Each operation as an executable of its own, by its name: reads variables of that name, writes one.

    Operations that differ in names alone are compiled once.
    """
    compiled: dict[str, tuple[bytes, list[int]]] = {}
    executables = {}
    for operation in graph.operations:
        alone = single(graph, operation)
        names = [item.name for item in alone.inputs]
        inputs = [(item.role == "public", item.shape) for item in alone.inputs]
        places = [names.index(name) for name in operation.inputs]
        key = json.dumps([operation.kind, dict(operation.attributes), inputs, places])
        if key not in compiled:
            made = compile_graph(alone, number)
            compiled[key] = made.code, [names.index(name) for name in made.input_names]
        code, kept = compiled[key]
        executables[operation.name] = libspu.Executable(
            name="operation", input_names=[names[index] for index in kept], output_names=[operation.name], code=code
        )
    return executables
