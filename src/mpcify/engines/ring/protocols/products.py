"""Products: with a weight that the owner knows, and of two masked values."""

from dataclasses import dataclass

import numpy as np

from mpcify.engines.ring.kernels.kernel import Kernel
from mpcify.engines.ring.kernels.products import kernel
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.roles import Dealer, Peer, Role
from mpcify.engines.ring.values import Masked


class Multiplier:
    """A matrix (p, q) by which many are multiplied mod 2^bits, on a device."""

    def __init__(self, matrix: np.ndarray, bits: int, device: str = "cpu") -> None:
        self.kernel = kernel(bits, device)
        self.prepared = self.kernel.prepare(matrix, bits)

    def times(self, x: np.ndarray) -> np.ndarray:
        """x (m, p) times the matrix."""
        return self.kernel.product(x, self.prepared)


@dataclass(kw_only=True)
class Linear(Step):
    """X·W for x = δ + A, δ known to the owner, A to the client; W = F + B, F at client and owner, B at the dealer.

        A·F + δ·W + A·B

    are the parts of client, owner and dealer. Nothing is sent or dealt; the client's depends on no input.
    """

    slot: int

    def factor(self, role: Role) -> np.ndarray:
        """A at client and dealer, δ at the owner."""
        x: Masked = role.values[self.sources[0]]
        part = x.delta if role.role == "owner" else x.mask
        assert part is not None
        return part

    def multiply(self, role: Role) -> None:
        """This role's part."""
        x = self.factor(role)
        weight: Multiplier = role.weights[self.slot]
        role.values[self.index] = weight.times(x.reshape(-1, x.shape[-1])).reshape(self.shape)

    def deal(self, dealer: Dealer) -> None:
        self.multiply(dealer)

    def compute(self, party: Peer) -> None:
        self.multiply(party)


@dataclass(kw_only=True)
class Diagonal(Linear):
    """x ⊙ w for a vector w that the owner knows, along the last axis."""

    def multiply(self, role: Role) -> None:
        role.values[self.index] = self.factor(role) * role.weights[self.slot]


@dataclass(kw_only=True)
class CentredDiagonal(Linear):
    """x ⊙ w − Σ x ⊙ w′ along the last axis, for w and w′ (2, n) that the owner knows: w′ = w/n centres it."""

    def multiply(self, role: Role) -> None:
        x, (w, share) = self.factor(role), role.weights[self.slot]
        role.values[self.index] = x * w - (x @ share)[..., None]


@dataclass(kw_only=True)
class Multiplied(Step):
    """a·b for two masked values whose δ both know and whose A is shared, with A_a·A_b as the dealer's part.

        δ_a·A_b,i + A_a,i·δ_b   (and δ_a·δ_b at the owner)

    Nothing is sent or dealt.
    """

    def times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The product."""
        return a * b

    def deal(self, dealer: Dealer) -> None:
        a, b = (dealer.values[source].mask for source in self.sources)
        dealer.values[self.index] = self.times(a, b)

    def compute(self, party: Peer) -> None:
        a, b = (party.values[source] for source in self.sources)
        right = b.mask + b.delta if party.first else b.mask
        party.values[self.index] = self.times(a.delta, right) + self.times(a.mask, b.delta)


@dataclass(kw_only=True)
class Matmul(Multiplied):
    """a @ b, or a @ bᵀ, batched over equal leading axes."""

    transpose: bool

    @property
    def kernel(self) -> Kernel:
        return kernel(self.ring)

    def times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
        return self.kernel.products(a, b, self.transpose).reshape(self.shape)
