"""An engine of three parties that trust each other: messages over links as any engine's, and nothing secret in them.

The owner sends its weights to the third party, the client its inputs, and the third computes in floats and answers.
What the cluster's code promises of sessions, orders, failures and costs is tested with it in milliseconds.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpcify.engines.config import EngineConfig, setting
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Party, Program, Session, Sharing
from mpcify.engines.interpret import check_arrays
from mpcify.engines.plain import PlainEngine, PlainSession
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.network.links import Links
from tests.engines.toy import ToyRules

PARTIES = ("client", "owner", "helper")


@dataclass(frozen=True)
class TrustingConfig(EngineConfig):
    """word: any; parties whose words differ do not agree. third: what the third party is called."""

    name = "trusting"
    third: ClassVar[str] = PARTIES[-1]

    word: str = setting("a", "trusting: a word.")

    @property
    def parties(self) -> tuple[str, ...]:
        return "client", "owner", self.third

    def build(self) -> "TrustingEngine":
        return TrustingEngine(self)

    def for_made_up_numbers(self) -> Self:
        return self


@dataclass(frozen=True)
class DelegatedConfig(TrustingConfig):
    """The same with a dealer, and inputs that come in two halves: the dealer puts them together."""

    name = "delegated"
    third: ClassVar[str] = "dealer"

    @property
    def delegated(self) -> bool:
        return True


class TrustingEngine(Engine):
    undeclared = "run"

    def __init__(self, config: TrustingConfig) -> None:
        self.config: TrustingConfig = config
        self.rules = ToyRules()

    def compile(self, graph: Graph) -> "TrustingProgram":
        return TrustingProgram(graph, self.config)


class TrustingProgram(Program):
    def __init__(self, graph: Graph, config: TrustingConfig) -> None:
        self.graph, self.config = graph, config

    def facts(self) -> dict[str, Any]:
        return {"graph": self.graph.to_json(), "word": self.config.word}

    @property
    def largest_message(self) -> int:
        return 1 << 22

    @property
    def sharing(self) -> "TrustingSharing | None":
        return TrustingSharing(self.graph) if self.config.delegated else None

    def load(self, weights: Arrays, beside: Session | None = None) -> Session:
        raise MpcifyError(501, "trusting engine", "it has no simulation", "join its parties")

    def join(self, role: str, links: Links, state: Path | None = None, beside: Party | None = None) -> Party:
        beside = beside if isinstance(beside, TrustingParty) else None
        return TrustingParty(role, self.graph, links, self.config.third, beside)


class TrustingSharing(Sharing):
    """By exclusive or of bytes: the client's half is drawn."""

    def __init__(self, graph: Graph) -> None:
        self.shapes = {item.name: item.shape for item in graph.held_by("client")}
        self.answer_shape = graph.shapes()["logits"]
        size = 4 * sum(int(np.prod(shape)) for shape in self.shapes.values())
        self.half_sizes = {"client": size, "owner": size}
        self.answer_size = 4 * int(np.prod(self.answer_shape))

    def split(self, inputs: Arrays) -> tuple[bytes, bytes]:
        return halved(b"".join(inputs[name].astype(np.float32).tobytes() for name in self.shapes))

    def join(self, client: bytes, owner: bytes) -> dict[str, np.ndarray]:
        if not len(client) == len(owner) == self.answer_size:
            raise MpcifyError(707, "trusting engine", "a half has another size", "see what it is")
        return {"logits": np.frombuffer(together(client, owner), np.float32).reshape(self.answer_shape)}

    def whole(self, client: bytes, owner: bytes) -> dict[str, np.ndarray]:
        """The inputs that two halves make."""
        found, content = {}, np.frombuffer(together(client, owner), np.float32)
        for name, shape in self.shapes.items():
            count = int(np.prod(shape))
            found[name], content = content[:count].reshape(shape), content[count:]
        return found


def together(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def halved(content: bytes) -> tuple[bytes, bytes]:
    first = secrets.token_bytes(len(content))
    return first, together(content, first)


class TrustingParty(Party):
    """beside: parties of a session share the weights at the third, and the count of their messages."""

    def __init__(self, role: str, graph: Graph, links: Links, third: str, beside: "TrustingParty | None") -> None:
        self.role, self.graph, self.links, self.third = role, graph, links, third
        self.shared: dict[str, Any] = beside.shared if beside else {"weights": None, "turn": 0}

    def key(self, kind: str) -> str:
        self.shared["turn"] += 1
        return f"trusting/{kind}#{self.shared['turn']}"

    def take(self, peer: str, key: str) -> dict[str, np.ndarray]:
        try:
            return load(self.links.receive(peer, key))
        except SafetensorError:
            raise MpcifyError(707, "trusting engine", f"{peer} sent no arrays", "see what it is") from None

    @contextmanager
    def counted(self) -> Iterator[list[Cost]]:
        start, before, found = time.perf_counter(), self.links.sent, list[Cost]()
        yield found
        sent = self.links.sent - before
        found.append(Cost(time.perf_counter() - start, sent.bytes, sent.messages, {self.role: sent.bytes}))

    def hold(self, weights: Arrays | None) -> Cost:
        if (weights is not None) != (self.role == "owner"):
            raise MpcifyError(503, "trusting engine", "weights are the owner's", "give them to the owner")
        key = self.key("weights")
        with self.counted() as cost:
            if self.shared["weights"] is None:
                if self.role == "owner":
                    self.links.send(self.third, key, save(dict(weights or {})))
                if self.role == self.third:
                    self.shared["weights"] = self.take("owner", key)
                else:
                    self.shared["weights"] = ()
        return cost[0]

    def check(self, inputs: Arrays) -> None:
        check_arrays(self.graph.held_by("client"), inputs)

    def answer(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, Cost]:
        asked, answered = self.key("inputs"), self.key("outputs")
        outputs: dict[str, np.ndarray] | None = None
        with self.counted() as cost:
            if self.role == "client":
                given = {k: np.ascontiguousarray(v) for k, v in (inputs or {}).items()}
                self.links.send(self.third, asked, save(given))
                outputs = self.take(self.third, answered)
            if self.role == self.third:
                session: PlainSession = PlainEngine().compile(self.graph).load(self.shared["weights"])
                found, _ = session.run(self.take("client", asked))
                self.links.send("client", answered, save({k: np.ascontiguousarray(v) for k, v in found.items()}))
        return outputs, cost[0]

    def answer_half(self, half: bytes | None) -> tuple[bytes | None, Cost]:
        asked, answered, sharing = self.key("halves"), self.key("answers"), TrustingSharing(self.graph)
        answer: bytes | None = None
        with self.counted() as cost:
            if self.role == self.third:
                inputs = sharing.whole(self.links.receive("client", asked), self.links.receive("owner", asked))
                session: PlainSession = PlainEngine().compile(self.graph).load(self.shared["weights"])
                with np.errstate(all="ignore"):  # halves that do not belong together make any numbers
                    found, _ = session.run(inputs)
                    answers = halved(found["logits"].astype(np.float32).tobytes())
                for peer, content in zip(("client", "owner"), answers, strict=True):
                    self.links.send(peer, answered, content)
            else:
                self.links.send(self.third, asked, half or b"")
                answer = self.links.receive(self.third, answered)
        return answer, cost[0]

    def profile(self, inputs: Arrays | None) -> tuple[dict[str, np.ndarray] | None, dict[str, Cost]]:
        outputs, cost = self.answer(inputs)
        return outputs, {self.graph.operations[-1].name: cost}

    def close(self) -> None:
        self.links.close()
