"""One role of a program among real parties: SPU runs in a child, whose links this process relays."""

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Party
from mpcify.engines.spu.child import Child, cost_of
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.encoding import encodable, shareable
from mpcify.engines.spu.failure import WHERE, for_peers
from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.pipe import Relay

if TYPE_CHECKING:
    from mpcify.engines.spu.engine import SpuProgram


class Place:
    """A role's child and its links, which end together. Programs of the same parties share it."""

    def __init__(self, links: Links, child: Child) -> None:
        self.links, self.child = links, child

    @staticmethod
    def open(config: SpuConfig, links: Links) -> "Place":
        """Starts the child, and connects it with its peers. Raises what `ask` raises."""
        mine, theirs = socket.socketpair()
        with theirs:
            child = Child(theirs.fileno())
        Relay(links, mine, f"the engine of {links.name} has ended")
        place = Place(links, child)
        described = {name: getattr(links, name) for name in ("name", "peers", "session", "timeout")}
        place.ask({"do": "start", "settings": config.to_json(), "links": described})
        return place

    def ask(
        self, request: Mapping[str, Any], arrays: Arrays | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As `Child.ask`; whatever goes wrong ends the links too, and the peers get the reason."""
        try:
            return self.child.ask(request, arrays)
        except BaseException as error:
            self.close(for_peers(self.links.name, error))
            raise

    def close(self, reason: str) -> None:
        """Ends links and child; nothing in a process forked from the one that joined."""
        if os.getpid() == self.child.parent:
            self.links.close(reason)
            self.child.close()


class JoinedParty(Party):
    """One role, whose inputs and weights are checked here and go to its child; the owner's weights one by one."""

    def __init__(self, program: "SpuProgram", place: Place) -> None:
        self.graph, self.number, self.place, self.role = program.graph, program.config.number, place, place.links.name
        self.program = place.ask(program.request())[0]["program"]

    def hold(self, weights: Arrays | None) -> Cost:
        self.refuse("owner", weights)
        missing, cost = {*self.ask("missing")[0]["missing"]}, Cost()
        for item in self.graph.held_by("owner"):
            if item.name in missing:
                try:
                    weight = shareable(item, weights or {}, self.number) if self.role == "owner" else None
                except MpcifyError as error:  # the others wait for it
                    self.close(for_peers(self.role, error))
                    raise
                cost += cost_of(self.ask("weight", weight, name=item.name)[0])
        return cost

    def check(self, inputs: Arrays) -> None:
        self.given(inputs)

    def answer(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, Cost]:
        reply, outputs = self.ask("run", self.given(inputs))
        return outputs if self.role == "client" else None, cost_of(reply)

    def profile(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, dict[str, Cost]]:
        reply, outputs = self.ask("profile", self.given(inputs))
        return outputs if self.role == "client" else None, {name: Cost(**cost) for name, cost in reply["costs"].items()}

    def ask(self, verb: str, arrays: Arrays | None = None, **more: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The child's reply to a request for this program."""
        return self.place.ask({"do": verb, "program": self.program, **more}, arrays)

    def given(self, inputs: Arrays | None) -> dict[str, np.ndarray]:
        """A request's inputs as SPU takes them: the client's, and what is public, which every role gives.

        Raises MPC-503 for what is not this party's, MPC-402 as `SpuSession.run`.
        """
        public = self.graph.held_by("public")
        known = (*self.graph.held_by("client"), *public) if self.role == "client" else public
        names = {item.name for item in known}
        self.refuse("client", {name: array for name, array in (inputs or {}).items() if name not in names})
        return encodable(known, inputs or {}, self.number)

    def refuse(self, holder: str, given: Arrays | None) -> None:
        """Raises MPC-503 if this party is given what another holds."""
        if given and self.role != holder:
            what = f"{self.role} was given {', '.join(list(given)[:3])}, which {holder} alone holds"
            raise MpcifyError(503, WHERE, what, f"give {self.role} what is its own")

    def close(self, reason: str = "") -> None:
        self.place.close(reason)
