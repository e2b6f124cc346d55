"""SecretFlow SPU: a graph under ABY3, CHEETAH or SEMI2K, all parties simulated in one child process, or one a process.

This module and what it imports know neither SPU nor JAX; `party` is where they live, one role each.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mpcify import __version__
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Party, Program, Session, check_links, other_links
from mpcify.engines.interpret import check_kinds
from mpcify.engines.spu.child import Child, cost_of
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.encoding import encodable, shareable
from mpcify.engines.spu.failure import INSTALL
from mpcify.engines.spu.joined import JoinedParty, Place
from mpcify.engines.spu.messages import largest_message
from mpcify.engines.spu.rules import SPU_KINDS, SpuRules
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import prove, refuse_undeclared
from mpcify.network.links import Links

PACKAGES = ("spu", "jax", "jaxlib")  # they make and run what every party compiles for itself


class SpuEngine(Engine):
    """SPU with its parties (client, owner and, under ABY3, helper): semi-honest, no two of them collude.

    Raises MPC-502 under `semi2k` unless its first party is trusted (see `SpuConfig`), MPC-504 without SPU.
    """

    undeclared = "refuse"

    def __init__(self, config: SpuConfig) -> None:
        self.config: SpuConfig = config
        self.rules: SpuRules = config.rules()
        if config.protocol == "semi2k" and not config.trust_first_party:
            what = "SPU's SEMI2K gives its first party, the client, every random seed, so it can unmask the weights"
            remedy = "use --protocol aby3, or --trust-first-party where that party may know everything"
            raise MpcifyError(502, "protocol semi2k", what, remedy)
        if importlib.util.find_spec("spu") is None:
            raise MpcifyError(504, "spu engine", "SPU is not installed", INSTALL)

    def compile(self, graph: Graph) -> "SpuProgram":
        """Proves that nothing wraps in the declared ranges (unless forced); SPU's own compiler runs at `load`.

        Raises MPC-401 for a graph that is not lowered, MPC-402 if a range overflows, MPC-406 if one is not
        declared, MPC-501 for an operation that the ring does not have.
        """
        check_kinds(graph, SPU_KINDS, self.name)
        if not self.force:
            refuse_undeclared(graph)
        graph = self.rules.fit(graph)
        self.rules.check(graph)
        if not self.force:
            prove(graph, self.rules)
        return SpuProgram(graph, self.config)


class SpuProgram(Program):
    """A graph that SPU can run."""

    def __init__(self, graph: Graph, config: SpuConfig) -> None:
        self.graph, self.config = graph, config

    def join(self, role: str, links: Links, state: Path | None = None, beside: Party | None = None) -> JoinedParty:
        """One role, in a child of its own; SPU keeps nothing in `state`. `load` runs the same code, all roles in one.

        Raises MPC-501 if the links are not this role's, do not lead to the protocol's other parties, or are not those
        of `beside`; and what every `Party` raises.
        """
        check_links(role, links, self.config.parties)
        if beside is None:
            return JoinedParty(self, Place.open(self.config, links))
        if not isinstance(beside, JoinedParty) or beside.place.links is not links:
            raise other_links(role)
        return JoinedParty(self, beside.place)

    def facts(self) -> dict[str, Any]:
        """Settings, the graph that runs with its declared ranges, and the packages that compile and run it."""
        text = json.dumps(self.graph.to_json(), sort_keys=True)
        return {
            "engine": self.config.shared(),
            "graph": hashlib.sha256(text.encode()).hexdigest(),
            "versions": {"mpcify": __version__, **{name: version(name) for name in PACKAGES}},
        }

    @property
    def largest_message(self) -> int:
        return largest_message(self.graph, self.config)

    def request(self) -> dict[str, Any]:
        """What the child compiles."""
        return {"do": "compile", "graph": self.graph.with_ranges({}).to_json(), "facts": self.facts()}

    def load(self, weights: Arrays, beside: Session | None = None) -> "SpuSession":
        """Starts the child and shares the weights, tensor by tensor. MPC-402 for one that the ring cannot hold.

        beside: its child and parties serve this program too; only weights that are not there yet are shared.
        """
        if isinstance(beside, SpuSession):
            return beside.attach(self, weights)
        child = Child()
        try:
            reply, _ = child.ask({"do": "start", "settings": self.config.to_json()})
            return SpuSession(self, weights, child, reply["environment"], cost_of(reply))
        except BaseException:
            child.close()
            raise


class SpuSession(Session):
    """A child with the weights in shares; threads take turns. environment: what the child says of its threads."""

    def __init__(
        self, program: SpuProgram, weights: Arrays, child: Child, environment: Mapping[str, Any], setup: Cost
    ) -> None:
        self.program, self.child, self.environment = program, child, environment
        self.graph = program.graph
        with child.turn:  # what is missing stays so until it is shared
            self.number = child.ask(program.request())[0]["program"]
            missing = {*child.ask({"do": "missing", "program": self.number})[0]["missing"]}
            for item in program.graph.held_by("owner"):
                if item.name in missing:
                    weight = shareable(item, weights, program.config.number)
                    reply, _ = child.ask({"do": "weight", "program": self.number, "name": item.name}, weight)
                    setup += cost_of(reply)
        self._setup = setup

    def attach(self, program: SpuProgram, weights: Arrays) -> "SpuSession":
        """A session of another program (another length, say) in the same child, with the same parties.

        Weights of a name that is there already are not shared again; they must be equal. Closing either closes both.
        """
        return SpuSession(program, weights, self.child, self.environment, Cost())

    @property
    def setup(self) -> Cost:
        return self._setup

    @property
    def code(self) -> str:
        """The compiled program, as every party holds it: SPU's own operations, as text."""
        reply, _ = self.child.ask({"do": "code", "program": self.number})
        return str(reply["code"])

    def run(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], Cost]:
        """One request. Raises MPC-402 for an input that the ring cannot hold, MPC-503 if SPU fails (and ends)."""
        reply, outputs = self.child.ask({"do": "run", "program": self.number}, self.given(inputs))
        return outputs, cost_of(reply)

    def profile(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, Cost]]:
        """As `run`, one executable an operation: what SPU saves across operations is lost."""
        reply, outputs = self.child.ask({"do": "profile", "program": self.number}, self.given(inputs))
        return outputs, {name: Cost(**cost) for name, cost in reply["costs"].items()}

    def given(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """What the client shares, and what is public."""
        graph = self.program.graph
        return encodable((*graph.held_by("client"), *graph.held_by("public")), inputs, self.program.config.number)

    def close(self) -> None:
        self.child.close()
