"""A formula in numpy runs as the C function of its name, if the library is there."""

import ctypes
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from mpcify.engines.ring.kernels.library import library, pointer, words

WIDEST = 64  # bits of a ring
NARROWEST = 2
BLOCK = 1 << 16  # words: those of a formula's arrays and of what lies between fit in a processor's cache
OPENINGS = ("kappa", "row_kappa")  # bits of what is opened

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def one_pass(*rows: str, outputs: int = 1) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorates a formula on arrays of uint64: it then takes and gives int64, and runs in C where that is there.

    rows: its arrays that have one word a row of the first one. outputs: how many arrays it gives. The C function takes
    what the formula takes, then the outputs, then their size, or with `rows` how many rows and how wide.
    Raises TypeError unless words are int64, and ValueError for shapes, or for bits, that do not fit.
    """

    def decorate(formula: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(formula)
        arrays = [name for name, parameter in signature.parameters.items() if parameter.annotation is np.ndarray]

        def checked(given: dict[str, Any]) -> dict[str, Any]:
            if "ring" in given and not 0 <= given["shift"] <= given["ring"] - NARROWEST <= WIDEST - NARROWEST:
                raise ValueError(f"a ring of {given['ring']} bits does not fit a shift by {given['shift']}")
            for name in OPENINGS:
                if name in given and not NARROWEST <= given[name] <= WIDEST:
                    raise ValueError(f"an opening has {NARROWEST} to {WIDEST} bits, not {given[name]}")
            shape = given[arrays[0]].shape
            for name in arrays:
                if given[name].shape != (shape[:-1] if name in rows else shape):
                    raise ValueError(f"{name} of shape {given[name].shape} does not fit {shape}")
            return {name: words(value) if name in arrays else int(value) for name, value in given.items()}

        @wraps(formula)
        def run(*values: Arguments.args, **named: Arguments.kwargs) -> Any:
            given = checked(signature.bind(*values, **named).arguments)
            code, shape = library(), given[arrays[0]].shape
            made = [np.empty(shape, np.int64) for _ in range(outputs)]
            sizes = (math.prod(shape[:-1]), shape[-1]) if rows else (math.prod(shape),)
            if code is None:
                in_blocks(cast(Any, formula), given, rows, made, sizes)
                return made[0] if outputs == 1 else tuple(made)
            passed = (*given.values(), *made, *sizes)
            call = getattr(code, formula.__name__)
            call(*(pointer(x) if isinstance(x, np.ndarray) else ctypes.c_int64(x) for x in passed))
            return made[0] if outputs == 1 else tuple(made)

        return cast(Callable[Arguments, Result], run)

    return decorate


def in_blocks(
    formula: Callable[..., Any],
    given: Mapping[str, Any],
    rows: Collection[str],
    made: Sequence[np.ndarray],
    sizes: tuple[int, ...],
) -> None:
    """A formula in numpy, block by block.

    given: its arrays and numbers, by name. rows: which have one word a row. made: its outputs. sizes: how many words,
    or rows and words a row.
    """

    def flat(x: np.ndarray, shape: tuple[int, ...] = sizes) -> np.ndarray:
        return x.view(np.uint64).reshape(shape)

    parts = {
        name: flat(x, sizes[:1] if name in rows else sizes) for name, x in given.items() if isinstance(x, np.ndarray)
    }
    outputs, step = [flat(x) for x in made], max(BLOCK // max(math.prod(sizes[1:]), 1), 1)
    for start in range(0, sizes[0], step):
        here = slice(start, start + step)
        found = formula(**{**given, **{name: x[here] for name, x in parts.items()}})
        for output, value in zip(outputs, found if len(made) > 1 else [found], strict=True):
            output[here] = value
