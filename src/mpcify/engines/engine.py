"""What every engine is: a graph is compiled to a program, weights are loaded into a session, requests run in it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.graph.graph import Graph

Arrays = Mapping[str, np.ndarray]
OUTPUT = "output/"  # before the name of an output, where it stands for the output's way to the client


class Session(ABC):
    """Weights in place, ready for requests. Close it, or use it in a `with` block.

    graph: what runs, which may be another than what was compiled (`graph.fit`).
    """

    graph: Graph

    @property
    @abstractmethod
    def setup(self) -> Cost:
        """What placing the weights cost."""

    @abstractmethod
    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request: the client's (and public) inputs by name, float arrays of the graph's shapes, to the outputs.

        Raises MPC-503 where the engine fails.
        """

    @abstractmethod
    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """One request, operation by operation: the outputs, and a cost for each operation that runs by its name.

        A square whose truncation waits counts with the product that reads it (`graph.postpone`).

        Where parties share values, each of the client's inputs has a cost under its name (sharing it), and each output
        one under its name with OUTPUT before it (rebuilding it at the client).
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the session and forgets its weights."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Program(ABC):
    """A compiled graph."""

    graph: Graph

    @abstractmethod
    def load(self, weights: Arrays, beside: Session | None = None) -> Session:
        """Places the owner's weights (by input name) and opens a session.

        beside: a session of the same weights (of another length, say): where the engine can, weights that are placed
        there are used again, and closing either session closes both.
        """


class Engine(ABC):
    """Runs graphs. `protocol`, `ring` and `fraction_bits` say what runs: None where that means nothing.

    force: whether it runs what it has not proven to fit the ring. undeclared: what becomes of a graph that declares no
    ranges: it runs, the present inputs' ranges are measured, or it is refused. reports_ranges: whether an evaluation
    shows the tightest. rules: what fits; None if nothing can overflow. parties: who shares values; () if nobody does.
    """

    name: str
    force: bool = False
    protocol: str | None
    ring: int | None
    fraction_bits: int | None
    undeclared: Literal["run", "measure", "refuse"]
    reports_ranges: bool = False
    rules: Any = None
    parties: tuple[str, ...] = ()

    @abstractmethod
    def compile(self, graph: Graph) -> Program:
        """Compiles a lowered graph. Raises MPC-402 where its declared ranges overflow the ring (unless forced)."""
