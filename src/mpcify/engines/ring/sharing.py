"""A request's inputs, whole or in two halves, and its outputs from two.

A half of the inputs is a seed for the client, from which it draws x₀, and for the owner the words x − x₀. A client who
is no party makes both, and needs the plan for that, but no weights.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from mpcify.engines.engine import Arrays, Sharing
from mpcify.engines.interpret import check_arrays
from mpcify.engines.ring.failure import SAME, WHERE
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.plan import Plan
from mpcify.engines.ring.prg import Place, Prg, Purpose, derive
from mpcify.engines.ring.protocols.step import Step
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph

LARGEST_INPUT = 2.0**40  # of a number of the client's, as an integer
SEED = 32  # bytes


def checked(graph: Graph, plan: Plan, inputs: Arrays) -> dict[str, np.ndarray]:
    """A request's inputs. Raises MPC-503 for shapes that are not the graph's, MPC-402 for what no ring holds."""
    found = check_arrays((*graph.held_by("client"), *graph.held_by("public")), inputs)
    limits = {step.name: LARGEST_INPUT / step.scale for step in plan.inputs} | dict(plan.limits)
    for name, array in found.items():
        largest = np.abs(np.asarray(array, np.float64)).max(initial=0.0)
        if not (np.isfinite(largest) and largest <= limits.get(name, LARGEST_INPUT)):
            what = "it holds a value that is not finite, or that the ring does not hold"
            raise MpcifyError(402, f"client input {name}", what, "give numbers of an ordinary size")
    return found


class RingSharing(Sharing):
    """Between a client who is no party, and client and owner, who are.

    halves, answers: the owner's half of a request's inputs, and either half of its outputs.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph, self.plan = graph, plan
        self.halves = Packed([(step, step.ring) for step in plan.inputs])
        self.answers = Packed([(step, step.width) for step in plan.outputs])
        self.half_sizes = {"client": SEED, "owner": self.halves.size}
        self.answer_size = self.answers.size

    def split(self, inputs: Arrays) -> tuple[bytes, bytes]:
        given = checked(self.graph, self.plan, inputs)
        seed = secrets.token_bytes(SEED)
        first, steps = self.drawn(seed), self.plan.inputs
        return seed, self.halves.pack({step.index: step.encoded(given) - first[step.index] for step in steps})

    def join(self, client: bytes, owner: bytes) -> dict[str, np.ndarray]:
        first, second = self.answers.unpack(client), self.answers.unpack(owner)
        return {step.name: step.joined(first[step.index], second[step.index]) for step in self.plan.outputs}

    def entered(self, role: str, half: bytes) -> dict[int, np.ndarray]:
        """A party's part of each input, from its half. Raises MPC-707 for one of another size."""
        if role == "owner":
            return self.halves.unpack(half)
        check_size(half, SEED)
        return self.drawn(half)

    def drawn(self, seed: bytes) -> dict[int, np.ndarray]:
        """x₀ of each input."""
        stream, steps = Prg(derive(seed, "", "inputs")), self.plan.inputs
        return {step.index: stream.words(Place(0, 0, step.index), Purpose.INPUT, step.shape) for step in steps}


class Packed:
    """Values of steps one behind the other, each with so many bits a word."""

    def __init__(self, values: Sequence[tuple[Step, int]]) -> None:
        self.values = values
        self.size = sum(formulas.packed_size(step.count, bits) for step, bits in values)

    def pack(self, values: Mapping[int, np.ndarray]) -> bytes:
        """The bytes of the steps' values."""
        return b"".join(formulas.pack(values[step.index], bits) for step, bits in self.values)

    def unpack(self, data: bytes) -> dict[int, np.ndarray]:
        """The values by the steps. Raises MPC-707 for bytes of another size."""
        check_size(data, self.size)
        rest, found = memoryview(data), {}
        for step, bits in self.values:
            size = formulas.packed_size(step.count, bits)
            found[step.index] = formulas.unpack(rest[:size], step.count, bits).reshape(step.shape)
            rest = rest[size:]
        return found


def check_size(half: bytes, size: int) -> None:
    """Raises MPC-707 for a half of another size."""
    if len(half) != size:
        raise MpcifyError(707, WHERE, f"a half of {len(half)} bytes came, and not of {size}", SAME)
