"""What every engine is: a graph is compiled to a program, weights are loaded into a session, requests run in it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from mpcify.engines.config import EngineConfig
from mpcify.engines.cost import Cost
from mpcify.engines.rules import Rules
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.network.links import Links

Arrays = Mapping[str, np.ndarray]
OUTPUT = "output/"  # before the name of an output, if it stands for the output's way to the client


class Session(ABC):
    """Weights in place, ready for requests. Close it, or use it in a `with` block.

    graph: what runs, which may be another than what was compiled (`Rules.fit`).
    """

    graph: Graph

    @property
    @abstractmethod
    def setup(self) -> Cost:
        """What placing the weights cost."""

    @abstractmethod
    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request: the client's (and public) inputs by name, float arrays of the graph's shapes, to the outputs.

        Raises MPC-503 if the engine fails.
        """

    @abstractmethod
    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """One request, operation by operation: the outputs, and a cost for each operation that runs by its name.

        What `Rules.fit` joined counts as one operation. If parties share values, each of the client's inputs has a cost
        under its name (sharing it), and each output one under its name with OUTPUT before it (rebuilding it).
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the session and forgets its weights."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sessions(ABC):
    """Where a model's sessions come from, one a padded length."""

    @abstractmethod
    def open(self, graph: Graph) -> Session:
        """The session of a graph; weights that an earlier one placed are used again."""

    @abstractmethod
    def ready(self) -> None:
        """Returns if a request could begin now; else raises what a request would raise."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what the sessions share. A second call does nothing."""


class Sharing(ABC):
    """What a client does who is no party: it shares each input between the two that compute, and adds what they give.

    Each half is uniform, so that neither of the two learns an input or an output; together they would. The client needs
    the program, and no weights. half_sizes: the bytes of a request's halves, by role. answer_size: of either half of
    its answer.
    """

    half_sizes: Mapping[str, int]
    answer_size: int

    @abstractmethod
    def split(self, inputs: Arrays) -> tuple[bytes, bytes]:
        """The halves of client and owner of a request's inputs, drawn anew each time, also for a repeat.

        Raises MPC-503 for arrays that are missing or of another shape, MPC-402 for what no ring holds.
        """

    @abstractmethod
    def join(self, client: bytes, owner: bytes) -> dict[str, np.ndarray]:
        """The outputs from the halves of client and owner. Raises MPC-707 for halves of another size."""


class Party(ABC):
    """One role's part in a program, over links to the other roles: it takes and returns only what that role has.

    Every party calls the same methods in the same order, each at its own place; a simulation is all of them in one
    process. A cost is what this party alone spent: its wall time, what it sent, and its messages.

    Raises MPC-503 for what another role holds, and if the engine fails, MPC-705 if a peer runs something else, MPC-706
    if a peer is gone or its link breaks, MPC-707 if it sends what no peer should: then its links are closed, and the
    peers get the reason.
    """

    role: str

    @abstractmethod
    def hold(self, weights: Arrays | None) -> Cost:
        """Shares the weights, once: the owner gives them (by input name), every other role None."""

    @abstractmethod
    def check(self, inputs: Arrays) -> None:
        """Raises at the client, before a request, what `answer` would raise for its inputs: MPC-402 and MPC-503.

        Nothing is sent, so that no peer learns that a request was meant.
        """

    @abstractmethod
    def answer(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, Cost]:
        """One request: the client gives its inputs and gets the outputs, every other role gives and gets None.

        Inputs that are public every role gives. A program whose inputs are shared has `answer_half` in its place.
        """

    def answer_half(self, half: bytes | None) -> tuple[bytes | None, Cost]:
        """One request in a program whose inputs are shared: a role of `Sharing.half_sizes` gives its half of the inputs
        and gets its half of the outputs, every other role gives and gets None.

        Raises MPC-501 if the program's inputs are not shared, and before anything is used up MPC-707 for a half of
        another size. Each half is for one request: MPC-707 for one that was used.
        """
        raise not_shared()

    @abstractmethod
    def profile(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, dict[str, Cost]]:
        """As `answer`, operation by operation, with the costs that `Session.profile` names."""

    @property
    def failed(self) -> MpcifyError | None:
        """What ended the session while nobody asked, if the engine does anything then."""
        return None

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """Closes its links: the session of all parties ends. reason: what the peers are told."""


class Program(ABC):
    """A compiled graph."""

    graph: Graph

    @abstractmethod
    def load(self, weights: Arrays, beside: Session | None = None) -> Session:
        """Places the owner's weights (by input name) and opens a session.

        beside: a session of the same weights (of another length, say): if the engine can, weights that are placed there
        are used again, and closing either session closes both.
        """

    def join(self, role: str, links: Links, state: Path | None = None, beside: Party | None = None) -> Party:
        """Takes one role, over links to the others, whose names are the roles.

        state: a folder for what must outlive the process, if the engine has any. beside: this role's party of another
        program (another length, say) over the same links: weights that it holds are used again, and closing either
        closes both. Raises MPC-501 if the engine has no parties, or no such role.
        """
        raise no_parties()

    def facts(self) -> dict[str, Any]:
        """Everything that must be equal at every party, as JSON; nothing of it is secret. Raises MPC-501 as `join`."""
        raise no_parties()

    @property
    def sharing(self) -> Sharing | None:
        """How a client who is no party shares its inputs between the parties; None if one party knows them."""
        return None

    @property
    def largest_message(self) -> int:
        """A bound on the bytes of any one message between parties. Raises MPC-501 as `join`."""
        raise no_parties()

    def kept_ready(self, role: str) -> int:
        """Bytes that a role holds, at least, of what was prepared for requests that have not come yet."""
        return 0


def check_links(role: str, links: Links, parties: Collection[str]) -> None:
    """Raises MPC-501 if links are not a role's, or do not join these parties."""
    if role != links.name:
        raise MpcifyError(501, f"role {role}", f"the links are those of {links.name}", "join with the role's own")
    if {role, *links.peers} != {*parties}:
        what = f"the links join {', '.join((role, *links.peers))}"
        raise MpcifyError(501, f"role {role}", what, f"join the parties {', '.join(parties)}")


def other_links(role: str) -> MpcifyError:
    """The error for a party of another session beside which a program shall be joined."""
    what = "the other program was joined over other links"
    return MpcifyError(501, f"role {role}", what, "join both over the same links")


def no_parties() -> MpcifyError:
    """The error for an engine that shares nothing."""
    return MpcifyError(501, "parties", "this engine has no parties", "choose one that shares values")


def not_shared() -> MpcifyError:
    """The error for a half of inputs that a party knows whole."""
    return MpcifyError(501, "inputs", "they are not shared: one party knows them", "use an engine's --inputs delegated")


class Engine(ABC):
    """Runs graphs.

    config: its settings. rules: what it can and what that costs; None if nothing can overflow. parties: who shares
    values, () if nobody does. undeclared: what becomes of a graph that declares no ranges: it runs; or the ranges
    of the present inputs are measured in floats, and the graph is proven within them; or it is refused.
    reports_ranges: whether an evaluation shows which ranges are the tightest.
    """

    config: EngineConfig
    rules: Rules | None = None
    undeclared: Literal["run", "measure", "refuse"]
    reports_ranges: bool = False

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def parties(self) -> tuple[str, ...]:
        return self.config.parties

    @property
    def force(self) -> bool:
        """Whether it runs what it has not proven to fit."""
        return self.config.force

    @property
    def protocol(self) -> str | None:
        """The protocol that runs; None if the engine has none."""
        return getattr(self.config, "protocol", None)

    @property
    def ring(self) -> int | None:
        """The width of the ring that runs; None if the engine has none."""
        return getattr(self.config, "ring", None)

    @property
    def fraction_bits(self) -> int | None:
        """Fraction bits of its numbers; None if the engine has none."""
        return getattr(self.config, "fraction_bits", None)

    @abstractmethod
    def compile(self, graph: Graph) -> Program:
        """Compiles a lowered graph. Raises MPC-402 if its declared ranges overflow (unless forced)."""
