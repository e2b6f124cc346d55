"""What a role runs: its programs by length, and its parties in one session."""

from pathlib import Path
from typing import Any

from mpcify import __version__
from mpcify.cluster.handshake import digest_of
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Engine, Party, Program
from mpcify.graph.exported import Folder
from mpcify.network.links import Limits, Links

SMALL = 1 << 20  # bytes of what parties send each other beside the engine's messages
KEYS = 1 << 13  # texts of keys: an engine may have one for each message of a request, numbered by requests


class Programs:
    """What a role can run: a program for each length that it serves, compiled from its own exported folder.

    exported: the role's part of the model. state: where the engine keeps what must outlive the process. Raises what
    `Engine.compile` raises.
    """

    def __init__(self, role: str, exported: Folder, engine: Engine, state: Path | None = None) -> None:
        self.role, self.exported, self.engine, self.state = role, exported, engine, state
        self.by_length: dict[int, Program] = {
            length: engine.compile(graph) for length, graph in sorted(exported.graphs.items())
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What must be equal at every party, by what it is."""
        return {
            "version of mpcify": __version__,
            "exported folders (of another run of `mpcify export`)": self.exported.index.export,
            "lengths or batch": [[*self.by_length], self.exported.batch],
            "graphs, settings or version of the engine": [program.facts() for program in self.by_length.values()],
        }

    @property
    def parties(self) -> tuple[str, ...]:
        """Who runs them."""
        return self.engine.parties

    @property
    def delegated(self) -> bool:
        """Whether no party knows a request's inputs: thin clients send them in two halves."""
        return any(program.sharing is not None for program in self.by_length.values())

    def digest(self, length: int) -> str:
        """Of what a thin client must have the same as the parties: export, graph, settings and versions."""
        return digest_of([self.exported.index.export, self.by_length[length].facts()]).hex()

    @property
    def limits(self) -> Limits:
        """What a peer may send at most: as much as these programs do."""
        largest = max(SMALL, *(program.largest_message for program in self.by_length.values()))
        return Limits(message=largest, waiting=2 * largest, keys=KEYS)


class Seats:
    """A role's parties in one session, one a length; the weights are shared once."""

    def __init__(self, programs: Programs, links: Links) -> None:
        self.programs, self.links = programs, links
        self.parties: dict[int, Party] = {}

    def open(self, length: int) -> Cost:
        """Joins a length's program, and shares the weights that are not shared yet."""
        beside = next(iter(self.parties.values()), None)
        program = self.programs.by_length[length]
        party = program.join(self.programs.role, self.links, self.programs.state, beside)
        self.parties[length] = party
        weights = self.programs.exported.weights
        return party.hold(weights)

    def check(self) -> None:
        """Raises what ended the session while nobody asked, if a party knows more of it than its links."""
        for party in self.parties.values():
            if party.failed is not None:
                raise party.failed

    def close(self) -> None:
        """Ends the parties; their links are closed then."""
        for party in self.parties.values():
            party.close()
