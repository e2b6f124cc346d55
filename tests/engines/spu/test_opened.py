"""A compiled program that opens a value, or that may, is refused by the name of the operation that does."""

import os
import re
import subprocess
import sys

import pytest

from mpcify.engines.spu.engine import SpuSession
from mpcify.engines.spu.opened import refuse_opened
from mpcify.errors import MpcifyError
from tests.makers import small_model

SECRET, PUBLIC = "tensor<4x!pphlo.secret<f32>>", "tensor<4xf32>"
HARMLESS = f"%0 = pphlo.add %arg0, %arg0 : {SECRET}"


def program(*lines: str, given: str = SECRET, result: str = SECRET) -> str:
    """A program of one input and output."""
    body = "\n".join(f"    {line}" for line in (*lines, f"return %0 : {result}"))
    attributes = 'mhlo.is_dynamic = false, pphlo.version = "0.10.0"'
    main = f"  func.func @main(%arg0: {given}) -> {result} {{\n{body}\n  }}"
    return f"module @m attributes {{{attributes}}} {{\n{main}\n}}\n"


def test_a_program_that_computes_on_shares_is_taken() -> None:
    refuse_opened(program(HARMLESS), [True], [True])
    refuse_opened(program(f"%0 = pphlo.add %arg0, %arg0 : {PUBLIC}", given=PUBLIC, result=PUBLIC), [False], [False])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"%0 = pphlo.custom_call @spu.reveal(%arg0) : ({SECRET}) -> {PUBLIC}", "custom_call spu.reveal"),
        (f"%0 = pphlo.custom_call @spu.reveal(%arg0) : ({SECRET}) -> {SECRET}", "custom_call spu.reveal"),
        (f"%0 = pphlo.custom_call @mhlo.erf(%arg0) : ({SECRET}) -> {PUBLIC}", "custom_call mhlo.erf"),
        (f"pphlo.custom_call @spu.dbg_print(%arg0) : ({SECRET}) -> ()", "pphlo.custom_call @spu.dbg_print"),
        (f"%0 = pphlo.custom_call @foo(%arg0) : ({SECRET}) -> {SECRET}", "custom_call foo"),
        (f"%0 = pphlo.simple_sort %arg0  ASC, dim = 0, num_keys = 1 : ({SECRET}) -> {SECRET}", "simple_sort"),
        (f"%0 = pphlo.convert %arg0 : ({SECRET}) -> {PUBLIC}", "convert"),
        (f"%0 = pphlo.dynamic_slice %arg0, %arg0 sizes = [1] : ({SECRET}, {SECRET}) -> {SECRET}", "dynamic_slice"),
        (f"%0 = arith.add %arg0, %arg0 : {SECRET}", "%0 = arith.add"),
        ('%0 = "pphlo.add"(%arg0, %arg0) : ' + f"({SECRET}, {SECRET}) -> {SECRET}", '%0 = "pphlo.add"'),
        ("func.func @other() {", "func.func @other"),
    ],
)
def test_what_opens_or_is_not_known_is_refused_by_its_name(line: str, name: str) -> None:
    with pytest.raises(MpcifyError) as refusal:
        refuse_opened(program(line, HARMLESS.replace("%0 =", "%1 =")), [True], [True])
    assert (refusal.value.code, refusal.value.what) == (503, f"the compiled program may open a value: {name}")


@pytest.mark.parametrize(
    ("code", "inputs", "outputs"),
    [
        (program(f"%0 = pphlo.constant dense<1> : {PUBLIC}", result=PUBLIC), [True], [True]),
        (program(f"%0 = pphlo.add %arg0, %arg0 : {PUBLIC}", given=PUBLIC, result=PUBLIC), [True], [True]),
        (program(HARMLESS), [False], [True]),
        (program(HARMLESS), [True, True], [True]),
        (program(HARMLESS), [True], [True, True]),
        ("", [True], [True]),
        (program(HARMLESS) * 2, [True], [True]),
    ],
    ids=["public output", "public input", "secret input", "fewer inputs", "fewer outputs", "nothing", "two functions"],
)
def test_inputs_and_outputs_are_as_secret_as_the_graph_says(code: str, inputs: list[bool], outputs: list[bool]) -> None:
    with pytest.raises(MpcifyError, match="MPC-503 spu engine: the compiled program may open a value"):
        refuse_opened(code, inputs, outputs)


def test_a_value_that_is_revealed_inside_a_compiled_model_is_found(session: SpuSession) -> None:
    weights, _ = len(small_model()[1]), session.graph
    inputs = [True] * (1 + weights) + [False]
    refuse_opened(session.code, inputs, [True])
    lines = session.code.splitlines()
    places = [place for place, line in enumerate(lines) if re.match(r" *%\d+ = pphlo\.(?!constant|return)", line)]
    assert len(places) > 30
    for place in places:
        name, types = re.match(r" *(%\d+) = .* : (?:.* -> )?(.*)", lines[place]).groups()  # type: ignore[union-attr]
        bare = re.sub(r"!pphlo\.secret<(\w+)>", r"\1", types)
        opened = f"    {name}9 = pphlo.custom_call @spu.reveal({name}) : ({types}) -> {bare}"
        with pytest.raises(MpcifyError, match=r"custom_call spu\.reveal"):
            refuse_opened("\n".join([*lines[: place + 1], opened, *lines[place + 1 :]]), inputs, [True])


def test_what_spu_compiles_of_a_reveal_is_refused() -> None:
    script = """
from mpcify.engines.spu.opened import refuse_opened
from spu import libspu
source = '''module @m { func.func public @main(%arg0: tensor<4xf32>) -> (tensor<4xf32>) {
  %0 = stablehlo.custom_call @spu.reveal(%arg0) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = stablehlo.add %0, %arg0 : tensor<4xf32>
  return %1 : tensor<4xf32>
} }'''
given = libspu.CompilationSource(libspu.SourceIRType.STABLEHLO, source.encode(), [libspu.Visibility.VIS_SECRET])
refuse_opened(libspu.compile(given, libspu.CompilerOptions()).decode(), [True], [True])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "may open a value: custom_call spu.reveal" in done.stderr


def test_whatever_else_jax_can_say_that_opens_a_value_is_refused_before_it_runs() -> None:
    """By SPU's compiler, or by what is allowed of its programs. The first of these is harmless, and is taken."""
    script = """
import sys
import jax, jax.experimental, jax.numpy as jnp, numpy as np
from jax import export
from mpcify.engines.spu.opened import refuse_opened
from spu import libspu

def shown(x):
    jax.debug.print("{}", x)
    return x

def called(x):
    return jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

def told(x):
    jax.experimental.io_callback(lambda y: None, None, x)
    return x

callbacks = ("xla_python_cpu_callback", "xla_ffi_python_cpu_callback")
allowed = [export.DisabledSafetyCheck.custom_call(name) for name in callbacks]
ways = {
    "sum": lambda x: x + x.sum(),
    "print": shown,
    "callback": called,
    "io": told,
    "sort": jnp.sort,
    "argsort": jnp.argsort,
    "top": lambda x: jax.lax.top_k(x, 2)[0],
    "most": jnp.argmax,
    "gather": lambda x: x[x.astype(jnp.int32)],
    "scatter": lambda x: x.at[x.astype(jnp.int32)].set(1.0),
    "slice": lambda x: jax.lax.dynamic_slice(x, (x[0].astype(jnp.int32),), (1,)),
    "update": lambda x: jax.lax.dynamic_update_slice(x, x[:1], (x[0].astype(jnp.int32),)),
    "while": lambda x: jax.lax.while_loop(lambda y: y.sum() > 0, lambda y: y - 1.0, x),
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda y: y + 1, lambda y: y * 2, x),
    "switch": lambda x: jax.lax.switch(x[0].astype(jnp.int32), [lambda y: y, lambda y: -y, lambda y: y + 1], x),
    "constant": lambda x: jnp.ones(4),
    "shape": lambda x: jnp.zeros_like(x),
}
for name, way in ways.items():
    try:
        given = jax.ShapeDtypeStruct((4,), np.float32)
        made = export.export(jax.jit(way), platforms=["cpu"], disabled_checks=allowed)(given)
        kept = [libspu.Visibility.VIS_SECRET] * len(made.module_kept_var_idx)
        source = libspu.CompilationSource(libspu.SourceIRType.STABLEHLO, made.mlir_module().encode(), kept)
        code = libspu.compile(source, libspu.CompilerOptions()).decode()
        refuse_opened(code, [True] * len(kept), [True])
    except Exception as error:
        print(name, error, file=sys.stderr)
        continue
    print(name)
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["sum"], done.stderr


def test_every_graph_is_checked_when_it_is_compiled() -> None:
    script = """
from mpcify.engines.spu import opened
from mpcify.engines.spu.lowering import compile_graph
from mpcify.numerics import FixedPoint
from tests.makers import small_model
compile_graph(small_model()[0], FixedPoint(64, 18))
opened.OPERATIONS -= {"dot"}
compile_graph(small_model()[0], FixedPoint(64, 18))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("report this"), done.stderr
    assert "MPC-503 spu engine: the compiled program may open a value: dot." in done.stderr
