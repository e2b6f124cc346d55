"""One party of a program under SPU: what it shares, sends and takes is its own role's and nothing else."""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from spu import libspu
from spu.api import Io, Runtime

from mpcify.engines.cost import Cost
from mpcify.engines.engine import OUTPUT, Arrays
from mpcify.engines.spu.config import STEP, SpuConfig
from mpcify.engines.spu.failure import SAME, WHERE, failure, for_peers
from mpcify.engines.spu.link import Layout, Layouts, context, pack, runtime_config
from mpcify.engines.spu.lowering import compile_graph, compile_operations
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Input
from mpcify.network.links import Links, Sent


class Compiled:
    """A graph as every party runs it: SPU's programs, made once a process.

    facts: what else must be equal at every party (`Program.facts`).
    """

    def __init__(self, graph: Graph, config: SpuConfig, facts: Mapping[str, Any]) -> None:
        self.graph, self.config, self.facts = graph, config, facts
        self.executable = compile_graph(graph, config.number)
        self._operations: dict[str, Any] = {}
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Any]:
        """Each operation as a program of its own, by its name; made when the first party asks."""
        with self._lock:
            self._operations = self._operations or compile_operations(self.graph, self.config.number)
            return self._operations


class Seat:
    """A role's place among the parties of a protocol: SPU's runtime over its links, and the variables in it.

    connecting: what SPU sent to connect. Once something fails its links are closed, which ends the others'
    waiting: the parties are no longer in step.
    """

    def __init__(self, config: SpuConfig, links: Links) -> None:
        self.role, self.config, self.links = links.name, config, links
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the weights that are shared
        self.passing: set[str] = set()  # the names of what a request makes, in any program
        self.turns: dict[str, int] = {}  # messages of each kind so far, the same number at every party
        runtime = runtime_config(config)
        self.io = Io(len(config.parties), runtime)
        self.layouts = Layouts(self.io, runtime)
        self.agree({"protocol": config.protocol, "number": asdict(config.number), "spu": version("spu")})
        with self.exchange() as spent:
            link, self.channels = context(links, config.parties)
            self.runtime = Runtime(link, runtime)
        self.connecting = spent[0]
        self.publish(STEP, np.asarray(config.number.step, np.float32))

    @contextmanager
    def exchange(self) -> Iterator[list[Cost]]:
        """Appends what the block cost this party to the list that it gives. Raises what `failure` makes of an error."""
        costs: list[Cost] = []
        before, start = self.links.sent, time.perf_counter()
        try:
            yield costs
        except Exception as error:
            found = failure(error)
            self.links.close(for_peers(self.role, found))
            if found is error:
                raise
            raise found from error
        costs.append(cost_of(self.role, self.links.sent - before, time.perf_counter() - start))

    def key(self, kind: str) -> str:
        """The key of the next messages of a kind."""
        self.turns[kind] = self.turns.get(kind, 0) + 1
        return f"{kind}#{self.turns[kind]}"

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Compares what must be the same at every party, by its SHA-256. Raises MPC-705 for a peer with another."""
        key, digest = self.key("agree"), hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
        with self.exchange():
            for peer in self.links.peers:
                self.links.send(peer, key, digest)
            theirs = {peer: self.links.receive(peer, key) for peer in self.links.peers}
        for peer, other in theirs.items():  # by now each peer has this digest too, and refuses for itself
            if other != digest:
                raise MpcifyError(705, WHERE, f"{peer} runs another graph, or other settings, than {self.role}", SAME)

    def publish(self, name: str, array: np.ndarray) -> None:
        """Sets a variable to a value that all parties know."""
        public = self.io.make_shares(array, libspu.Visibility.VIS_PUBLIC)
        self.runtime.set_var(name, public[self.config.parties.index(self.role)])

    def share(self, item: Input, given: Arrays | None) -> None:
        """Sets a variable to a secret: its holder, who alone is given it, sends every peer its share."""
        key = self.key(f"share/{item.holder}")
        if self.role != item.holder:
            layout = self.layouts.layout(item.shape, np.float32 if item.encoding is None else np.int32)
            self.runtime.set_var(item.name, self.take(item.holder, key, layout, item.name))
            return
        shares = self.io.make_shares((given or {})[item.name], libspu.Visibility.VIS_SECRET)
        for name in reversed(self.config.parties):
            share = shares.pop()  # dropped as soon as it is sent: all shares of a table would be gigabytes
            if name == self.role:
                self.runtime.set_var(item.name, share)
            else:
                self.links.send(name, key, pack(share))

    def rebuild(self, variable: str, name: str) -> dict[str, np.ndarray]:
        """An output by its name, from all parties' shares, at the client; nothing elsewhere. Deletes the variable."""
        key = self.key("rebuild")
        mine = self.runtime.get_var(variable)
        self.runtime.del_var(variable)
        if self.role != "client":
            self.links.send("client", key, pack(mine))
            return {}
        layout = Layout.of(mine)  # the others computed the same as this party
        parties = self.config.parties
        shares = [mine if peer == self.role else self.take(peer, key, layout, name) for peer in parties]
        return {name: np.asarray(self.io.reconstruct(shares))}

    def take(self, peer: str, key: str, layout: Layout, name: str) -> Any:
        """A peer's share of a variable. Raises MPC-707 if it has another layout."""
        message = self.links.receive(peer, key)
        try:
            return layout.unpack(message)
        except ValueError as error:
            raise MpcifyError(707, WHERE, f"the share of {name} from {peer} is wrong: {error}", SAME) from None

    def forget(self, names: Iterable[str]) -> None:
        """Deletes variables."""
        for name in names:
            self.runtime.del_var(name)


class SpuParty:
    """A program at one party. Others of the same parties may have the same seat, one at a time.

    Each method is one role's part: every party calls the same ones in the same order. Raises MPC-705 if the peers run
    another graph, other settings or another SPU.
    """

    def __init__(self, compiled: Compiled, seat: Seat) -> None:
        self.compiled, self.graph, self.seat, self.role = compiled, compiled.graph, seat, seat.role
        seat.agree({"facts": compiled.facts, "code": hashlib.sha256(compiled.executable.code).hexdigest()})
        weights = {item.name: item.shape for item in self.graph.held_by("owner")}
        passing = self.graph.shapes().keys() - weights
        if any(seat.shapes.get(name, shape) != shape for name, shape in weights.items()):
            raise failure(ValueError("a weight of this name is shared already, with another shape"))
        if not (seat.passing.isdisjoint(weights) and seat.shapes.keys().isdisjoint(passing)):
            raise failure(ValueError("a weight has the name of another program's value"))
        seat.passing |= passing

    @property
    def missing(self) -> tuple[Input, ...]:
        """The weights that are not shared yet."""
        return tuple(item for item in self.graph.held_by("owner") if item.name not in self.seat.shapes)

    def place(self, item: Input, weight: Arrays | None) -> Cost:
        """Shares one of the missing weights, which the owner alone gives, as SPU takes it."""
        with self.seat.exchange() as spent:
            self.seat.share(item, weight)
        self.seat.shapes[item.name] = item.shape
        return spent[0]

    def run(self, given: Arrays) -> tuple[dict[str, np.ndarray] | None, Cost]:
        """One request, of this party's own inputs as SPU takes them; the client gets its outputs, the others None."""
        with self.seat.exchange() as spent:
            for item in self.inputs:
                self.enter(item, given)
            self.seat.runtime.run(self.compiled.executable)
            outputs: dict[str, np.ndarray] = {}
            for name in self.graph.outputs:
                outputs |= self.seat.rebuild(OUTPUT + name, name)
        self.seat.forget(item.name for item in self.inputs)
        return outputs if self.role == "client" else None, spent[0]

    def steps(self, given: Arrays, outputs: dict[str, np.ndarray]) -> Iterator[tuple[str, Cost]]:
        """The request one input, operation and output after the other, each with its cost; fills `outputs`."""
        executables = self.compiled.operations()
        for item in self.inputs:
            with self.seat.exchange() as spent:
                self.enter(item, given)
            yield item.name, spent[0]
        last = {name: step for step, executable in executables.items() for name in executable.input_names}
        temporary = {*(item.name for item in self.inputs), *executables} - {*self.graph.outputs}
        for step, executable in executables.items():
            with self.seat.exchange() as spent:
                self.seat.runtime.run(executable)
            yield step, spent[0]
            self.seat.forget(name for name in executable.input_names if name in temporary and last[name] == step)
        self.seat.forget(name for name in temporary if name not in last)
        for name in self.graph.outputs:
            with self.seat.exchange() as spent:
                outputs |= self.seat.rebuild(name, name)
            yield OUTPUT + name, spent[0]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a request consists of."""
        return (*self.graph.held_by("client"), *self.graph.held_by("public"))

    def own(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """What this party has of all inputs of a request: the client every one, the others the public ones."""
        known = self.inputs if self.role == "client" else self.graph.held_by("public")
        return {item.name: inputs[item.name] for item in known if item.name in inputs}

    def enter(self, item: Input, given: Arrays) -> None:
        """Sets an input of the request in this party."""
        if item.holder == "public":
            self.seat.publish(item.name, given[item.name])
        else:
            self.seat.share(item, given)


def cost_of(role: str, sent: Sent, seconds: float) -> Cost:
    """What one party spent: the bytes and messages that it sent."""
    return Cost(seconds, sent.bytes, sent.messages, {role: sent.bytes})
