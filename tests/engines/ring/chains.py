"""Short chains of steps, one for every protocol that says or deals something."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpcify.engines.ring.protocols.lookup import Lookup, Table
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Lift, Open, Product, Renew, RenewBoth, Square, Weigh, WeighBoth
from mpcify.engines.ring.protocols.products import Linear, Matmul, Multiplied
from mpcify.engines.ring.protocols.step import Step
from tests.engines.ring.scene import Chain

SHAPE = (2, 3)
TABLE = Table(16, 12, 11, np.arange(3 * 16).reshape(3, 1, 16))


def opened(chain: Chain, x: Step, early: bool = False) -> Open:
    return chain.add(Open, x, shape=x.shape, messages=1, shift=12, width=40, early=early)


def masked(chain: Chain, x: Step, known: bool = False, shift: int = 0) -> Mask:
    return chain.add(Mask, x, shape=x.shape, messages=1, known=known, corrected=not known, shift=shift, ahead=True)


def both(chain: Chain, x: Step, shift: int = 0) -> MaskBoth:
    return chain.add(MaskBoth, x, shape=x.shape, messages=1, shift=shift)


def from_opened(kind: type[Step], **fields: Any) -> Callable[[Chain, Step], Step]:
    """A step that follows an opening."""

    def build(chain: Chain, x: Step) -> Step:
        source = opened(chain, x)
        return chain.add(kind, source, shape=x.shape, opened=source, **fields)

    return build


def weighed(chain: Chain, x: Step) -> Step:
    source = opened(chain, x)
    numbers = chain.given({"client": np.array([[3], [-5]])})
    return chain.add(Weigh, source, masked(chain, numbers, known=True), shape=x.shape, opened=source)


def weighed_by_both(chain: Chain, x: Step) -> Step:
    source = opened(chain, x)
    return chain.add(WeighBoth, source, both(chain, x), shape=x.shape, opened=source)


def multiplied_opened(chain: Chain, x: Step) -> Step:
    left, right = opened(chain, x), opened(chain, chain.given({"client": np.ones((2, 1), np.int64)}))
    return chain.add(Product, left, right, shape=x.shape, opened=left, other=right)


def linear(chain: Chain, x: Step) -> Step:
    return chain.add(Linear, masked(chain, x), shape=(2, 4), slot=chain.slot((3, 4), False), ahead=True)


def linear_opened(chain: Chain, x: Step) -> Step:
    """The case that the engine's linear layers are: the client's part is sent ahead."""
    source = opened(chain, linear(chain, x), early=True)
    return chain.add(Renew, source, shape=source.shape, opened=source, messages=1, ahead=True)


def matmul_opened(chain: Chain, x: Step) -> Step:
    """Beaver's product, opened without a correction."""
    product = chain.add(Matmul, both(chain, x), both(chain, x), shape=(2, 2), transpose=True)
    source = opened(chain, product)
    return chain.add(RenewBoth, source, shape=(2, 2), opened=source, messages=1)


def multiplied_looked_up(chain: Chain, x: Step) -> Step:
    product = chain.add(Multiplied, both(chain, x), both(chain, x), shape=x.shape)
    return chain.add(Lookup, product, shape=(1, *x.shape), messages=1, table=TABLE, offset=5, early=False, dealt=False)


def linear_looked_up(chain: Chain, x: Step) -> Step:
    x = linear(chain, x)
    return chain.add(Lookup, x, shape=(1, *x.shape), messages=1, table=TABLE, offset=5, early=True, dealt=False)


PROTOCOLS = {
    "Lift": from_opened(Lift),
    "Square": from_opened(Square),
    "Renew": from_opened(Renew, messages=1, ahead=True),
    "RenewBoth": from_opened(RenewBoth, messages=1),
    "Weigh": weighed,
    "WeighBoth": weighed_by_both,
    "Product": multiplied_opened,
    "Mask": masked,
    "MaskBoth": both,
    "Mask, cut": lambda chain, x: masked(chain, x, shift=12),
    "MaskBoth, cut": lambda chain, x: both(chain, x, shift=12),
    "Linear": linear,
    "Linear, Open ahead, Renew": linear_opened,
    "Matmul, Open, RenewBoth": matmul_opened,
    "Multiplied, Lookup": multiplied_looked_up,
    "Linear, Lookup ahead": linear_looked_up,
}
