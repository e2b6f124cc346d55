"""Arrays as SPU takes them: checked before it would clamp or misread them."""

import numpy as np

from mpcify.engines.engine import Arrays
from mpcify.engines.interpret import check_arrays, weights_for
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Input
from mpcify.numerics import FixedPoint


def shareable(item: Input, weights: Arrays, number: FixedPoint) -> dict[str, np.ndarray]:
    """A weight as the owner shares it: in float32, or if only integers multiply it, in int32 as the ring holds it.

    Raises what `encodable` raises, and MPC-402 for a weight of the second kind beyond 2^(31−f).
    """
    found = encodable((item,), weights_for((item,), weights), number)
    if item.encoding is not None:
        integers = number.encode(found[item.name])
        if integers.size and max(integers.max(), -integers.min()) >= 1 << 31:
            what = f"it holds a value beyond {(1 << 31) / number.scale:g}"
            raise MpcifyError(402, f"owner input {item.name}", what, "use fewer fraction bits")
        found[item.name] = integers.astype(np.int32)
    return found


def encodable(wanted: tuple[Input, ...], arrays: Arrays, number: FixedPoint) -> dict[str, np.ndarray]:
    """The wanted arrays in float32. Raises MPC-402 for NaN and for what SPU would clamp, MPC-503 for a wrong shape."""
    chosen = check_arrays(wanted, arrays)
    for item in wanted:
        array = chosen[item.name] = chosen[item.name].astype(np.float32, copy=False)
        if not (array.size == 0 or max(array.max(), -array.min()) < number.value_bound):
            what = f"it holds NaN, or a value beyond {number.value_bound:g}, the limit of the ring"
            raise MpcifyError(402, f"{item.holder} input {item.name}", what, "use a wider ring or fewer fraction bits")
    return chosen
