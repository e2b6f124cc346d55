"""How large a message between SPU's parties can be: a bound, for those who must set memory aside for it.

Shares are known exactly. What SPU sends was measured, kind by kind, in several shapes. Let w be the bytes of a ring
element, and E the elements of the largest array of an operation that is sent: at most 2wE under ABY3, 4wE under SEMI2K,
30wE under CHEETAH, and there 9.5 MB once, to set up. The bound is twice that.
"""

import math
from collections.abc import Mapping

from mpcify.engines.spu import series
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.formulas import LOCAL
from mpcify.engines.spu.numbers import merged
from mpcify.graph.graph import Graph, Operation

MARGIN = 2
SENT = {"aby3": 2, "semi2k": 4, "cheetah": 30}  # ring elements, an element of the operation's largest array
ONCE = {"aby3": 1 << 10, "semi2k": 1 << 10, "cheetah": 10 << 20}  # bytes of what is sent to connect and to set up
SHARED = {"aby3": 2, "semi2k": 1, "cheetah": 1}  # ring elements in a share of a number
PRODUCTS = ("linear", "matmul", "square-linear", "square-matmul")
AROUND = 128  # bytes at most around a share; and a 2^20th of it where it is cut into chunks


def largest_message(graph: Graph, config: SpuConfig) -> int:
    """Bytes that no message of a program exceeds."""
    shapes, width, protocol = graph.shapes(), config.ring // 8, config.protocol
    known = [math.prod(shapes[name]) for name in (*(item.name for item in graph.inputs), *graph.outputs)]
    share = SHARED[protocol] * width * max(known)
    working = [
        sent_at_once(operation, shapes, protocol) for operation in graph.operations if operation.kind not in LOCAL
    ]
    sent = MARGIN * SENT[protocol] * width * max(working, default=0)
    return max(share + (share >> 20) + AROUND, sent, MARGIN * ONCE[protocol])


def sent_at_once(operation: Operation, shapes: Mapping[str, tuple[int, ...]], protocol: str) -> int:
    """The elements of the largest array of an operation that a party sends."""
    output, inputs = math.prod(operation.shape), [math.prod(shapes[name]) for name in operation.inputs]
    if operation.kind in PRODUCTS:
        if protocol == "aby3":  # no factor is opened, but one may be squared before
            return max(output, inputs[0] if operation.kind.startswith("square") else 0)
        return max(output, inputs[0] + group(operation, shapes) * inputs[1])
    if operation.kind == "layernorm":  # every row is compared with every threshold at once
        return max(output, output // operation.shape[-1] * len(series.THRESHOLDS))
    return max(output, *inputs)


def group(operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many products of two matrices are computed as one, whose second factor is a block diagonal."""
    if not operation.kind.endswith("matmul"):
        return 1
    inner, count = shapes[operation.inputs[0]][-1], math.prod(operation.shape[:-2])
    return merged(count, operation.shape[-2] * inner * operation.shape[-1])
