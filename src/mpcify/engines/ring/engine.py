"""The ring engine: a graph whose weights the owner knows, between client, owner and dealer."""

import hashlib
import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mpcify import __version__
from mpcify.engines.cost import Cost, combined
from mpcify.engines.engine import Arrays, Engine, Party, Program, Session, check_links, other_links
from mpcify.engines.interpret import check_arrays
from mpcify.engines.ring.config import PARTIES, RingConfig
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.kernels.products import kernel
from mpcify.engines.ring.party import RingParty
from mpcify.engines.ring.plan import Plan
from mpcify.engines.ring.roles import chunks
from mpcify.engines.ring.rules import WORD, RingRules
from mpcify.engines.ring.seat import Seat
from mpcify.engines.ring.sharing import RingSharing, checked
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import refuse_undeclared
from mpcify.network.links import Links
from mpcify.network.memory import connect


class RingEngine(Engine):
    """Additive shares of client and owner, randomness of a dealer: semi-honest, no two of them collude.

    Raises MPC-501 for a device that is not there, MPC-504 if torch is missing for it.
    """

    undeclared = "refuse"

    def __init__(self, config: RingConfig) -> None:
        self.config: RingConfig = config
        self.rules: RingRules = config.rules()
        if config.device != "cpu":
            kernel(config.ring, config.device)

    def compile(self, graph: Graph) -> "RingProgram":
        """Plans the graph, and proves that nothing wraps in its declared ranges (unless forced).

        Raises MPC-401 for an operation that has no protocol, MPC-402 if no ring holds a declared range, MPC-406 if one
        is not declared.
        """
        self.rules.check(graph)
        if not self.force:
            refuse_undeclared(graph)
        return RingProgram(graph, self.config, self.rules.plan(graph))


class RingProgram(Program):
    """A graph that is planned."""

    def __init__(self, graph: Graph, config: RingConfig, plan: Plan) -> None:
        self.graph, self.config, self.plan = graph, config, plan

    @cached_property
    def sharing(self) -> RingSharing | None:  # type: ignore[override]
        """How a client shares its inputs, if no party knows them."""
        return RingSharing(self.graph, self.plan) if self.config.delegated else None

    def join(self, role: str, links: Links, state: Path | None = None, beside: Party | None = None) -> RingParty:
        """One role. Nothing is kept in `state`: keys and sets of randomness end with the session.

        Raises MPC-501 if the links are not this role's, do not lead to the other two, or are not those of `beside`; and
        what every `Party` raises.
        """
        check_links(role, links, PARTIES)
        if beside is None:
            return RingParty(self, Seat(links))
        if not isinstance(beside, RingParty) or beside.seat.links is not links:
            raise other_links(role)
        return RingParty(self, beside.seat)

    def facts(self) -> dict[str, Any]:
        """Settings, and the graph with its declared ranges, from which every party makes the same plan."""
        text = json.dumps(self.graph.to_json(), sort_keys=True)
        return {
            "engine": self.config.shared(),
            "graph": hashlib.sha256(text.encode()).hexdigest(),
            "versions": {"mpcify": __version__},
        }

    @property
    def largest_message(self) -> int:
        weights = [
            formulas.packed_size(int(np.prod(slot.derived.shape)), slot.bits) for slot in self.plan.slots if slot.bits
        ]
        level = [
            sum(formulas.packed_size(*words) for step in steps if (words := step.words(role)))
            for steps in self.plan.levels
            for role in ("client", "owner")
        ]
        dealt = chunks(words for step in self.plan.steps for words in step.dealt_words())
        ahead = chunks(words for step in self.plan.steps for words in step.words_ahead())
        return max(*weights, *level, *dealt, *ahead)

    def kept_ready(self, role: str) -> int:
        """Of each set that waits, what was dealt, and a mask for what is sent: the client's parts are a little more."""
        if role == "dealer":
            return 0
        dealt = sum(count for step in self.plan.steps for count, _ in step.dealt_words())
        masks = sum(step.count for step in self.plan.steps if step.talks)
        return WORD * (dealt + masks) * self.config.ahead

    def load(self, weights: Arrays, beside: Session | None = None) -> "RingSession":
        """All roles in this process, each in a thread of its own, over links in memory."""
        check_arrays(self.graph.held_by("owner"), weights)
        if isinstance(beside, RingSession):
            return RingSession(self, weights, beside.links, beside.parties)
        return RingSession(self, weights, connect(PARTIES, secrets.token_hex(16)), None)


class RingSession(Session):
    """All parties of a program, on one machine: a request's randomness is dealt before it, and none in its time."""

    def __init__(self, program: RingProgram, weights: Arrays, links: Any, beside: dict[str, RingParty] | None) -> None:
        program = RingProgram(program.graph, replace(program.config, ahead=0), program.plan)
        self.program, self.graph, self.links = program, program.graph, links
        self.pool = ThreadPoolExecutor(len(PARTIES))

        def begin(role: str) -> tuple[RingParty, Cost]:
            party = program.join(role, links[role], None, beside[role] if beside else None)
            return party, party.hold(weights if role == "owner" else None)

        with beside["client"].seat.taking_turns if beside else nullcontext():
            found = self.together(begin)
        self.parties = {role: party for role, (party, _) in found.items()}
        self._setup = combined({role: cost for role, (_, cost) in found.items()})

    def together(self, act: Any) -> dict[str, Any]:
        """What each role does, all at once. Raises the first error that is not the loss of another."""
        try:
            futures = {role: self.pool.submit(act, role) for role in PARTIES}
        except RuntimeError:  # the pool has ended: another thread closes the session
            raise MpcifyError(503, "ring engine", "its session has ended", "compile the model again") from None
        errors = [error for future in futures.values() if (error := future.exception()) is not None]
        if errors:
            raise next((error for error in errors if getattr(error, "code", None) != 706), errors[0])
        return {role: future.result() for role, future in futures.items()}

    @property
    def setup(self) -> Cost:
        return self._setup

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        outputs, costs = self.request(inputs)
        return outputs, combined({role: sum(spent.values(), Cost()) for role, spent in costs.items()})

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """As `run`; an operation's seconds are those of the busiest role, waiting counted."""
        outputs, costs = self.request(inputs)
        names = costs["client"]
        return outputs, {name: combined({role: spent[name] for role, spent in costs.items()}) for name in names}

    def request(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Cost]]]:
        """The outputs of a request, and what each operation cost each role. Threads take turns."""
        sharing = self.program.sharing
        with self.parties["client"].seat.taking_turns:
            for party in self.parties.values():
                party.seat.check()
            if sharing is None:
                checked(self.graph, self.program.plan, inputs)
                found = self.prepared(lambda role: self.parties[role].profile(inputs if role == "client" else None))
                outputs = found["client"][0]
            else:
                halves = dict(zip(sharing.half_sizes, sharing.split(inputs), strict=True))
                found = self.prepared(lambda role: self.parties[role].profile_half(halves.get(role)))
                outputs = sharing.join(found["client"][0], found["owner"][0])
        return outputs, {role: costs for role, (_, costs) in found.items()}

    def prepared(self, act: Callable[[str], Any]) -> dict[str, Any]:
        """What each role does in a request, once a set waits for it."""
        self.together(lambda role: self.parties[role].prepare_next())
        return self.together(act)

    def close(self) -> None:
        for party in self.parties.values():
            party.close()
        self.pool.shutdown(wait=False)
