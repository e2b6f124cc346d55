"""A role's place in a session: keys, the weights that are masked, and the thread that prepares sets."""

import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from mpcify.engines.engine import Arrays
from mpcify.engines.interpret import check_open
from mpcify.engines.ring.failure import SAME, WHERE, failure, for_peers
from mpcify.engines.ring.memory import keep_memory
from mpcify.engines.ring.prg import KEY, Prg, derive
from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.threads import OneThread

# who draws a key, and for whom: k₀₁ is of both, k₀₂ the client's, k₁₂ the owner's
DRAWN = {"client": ("owner", "dealer"), "owner": ("client", "dealer"), "dealer": ()}
REMEMBERED = 1 << 12  # halves of inputs
T = TypeVar("T")


class Seat:
    """A role's place in a session: its keys with the others, the weights that are masked, and which sets were used.

    Keys are drawn when the session begins and die with it, so that nothing of one session can be used in another, and
    nothing that is used once outlives the process. Sets are prepared in one thread, which ends with the session: those
    of all programs in one order, which is the same at every party.
    """

    def __init__(self, links: Links) -> None:
        keep_memory()
        self.role, self.links = links.name, links
        self.programs = 0
        self.closed = False
        self.held: Arrays | None = None  # what the owner gave; nothing at the others
        self.weights: dict[tuple[str, float, int], tuple[int, Any]] = {}
        self.turns: dict[str, int] = {}
        self.failed: MpcifyError | None = None  # what ended the session
        self.halves: dict[bytes, None] = {}  # digests of the last ones of inputs that came
        self.requests = 0  # begun
        self.untaken = False  # whether the owner has yet to say that it took what the client sent ahead last
        self.taking_turns = threading.Lock()  # of requests, if all parties are in one process
        self.worker = OneThread(f"ring-{self.role}")
        with self.failing():
            self.keys = self.exchange()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turns what is raised into a numbered error, and closes the links with it."""
        try:
            yield
        except Exception as error:
            found = failure(error)
            self.failed = self.failed or found
            reason = self.links.closed  # a peer's own, which is passed on as it is
            self.close(for_peers(self.role, found) if reason is None else reason)
            if found is error:
                raise
            raise found from error
        except BaseException as error:
            self.close(for_peers(self.role, error))
            raise

    def close(self, reason: str) -> None:
        """Ends the session, of all programs."""
        self.closed = True
        self.links.close(reason)
        self.worker.shutdown(wait=False, cancel_futures=True)

    def check(self) -> None:
        """Raises what ended the session, or MPC-503 if it was closed."""
        if self.failed is not None:
            raise MpcifyError(self.failed.code, self.failed.where, self.failed.what, self.failed.remedy)
        check_open(self.closed, "ring")

    def once(self, half: bytes) -> None:
        """Raises MPC-707 for a half of inputs that came before, as far as can be remembered: another input with the
        same seed would show the owner by how much the two differ."""
        digest = hashlib.sha256(half).digest()
        if digest in self.halves:
            what, remedy = "a half of inputs came again", "share a request's inputs anew each time"
            raise MpcifyError(707, WHERE, what, remedy)
        self.halves[digest] = None
        if len(self.halves) > REMEMBERED:
            del self.halves[next(iter(self.halves))]

    def begin(self, act: Callable[..., T], *given: Any) -> Future[T]:
        """Has the worker do something after what it was given before. Raises ConnectionError once it has ended."""
        try:
            return self.worker.submit(act, *given)
        except RuntimeError:
            raise self.ended() from None

    def done(self, future: Future[T]) -> T:
        """What the worker gave. Raises what it raised, and ConnectionError if the session ended before it began."""
        try:
            return future.result()
        except CancelledError:
            raise self.ended() from None

    def settle(self) -> None:
        """Waits until the worker has done all that it was given: then nothing is on its way but what all expect."""
        self.done(self.begin(lambda: None))

    def ended(self) -> ConnectionError:
        """The error for what comes after the session's end."""
        return ConnectionError(f"the session has ended: {self.links.closed or 'it was closed'}")

    def exchange(self) -> dict[str, Prg]:
        """Draws and hands over the keys: k₀₂ the client's, k₁₂ the owner's, k₀₁ of both. The dealer never sees k₀₁."""
        halves = {peer: secrets.token_bytes(KEY) for peer in DRAWN[self.role]}
        for peer, half in halves.items():
            self.links.send(peer, "key", half)
        theirs = {peer: self.links.receive(peer, "key") for peer in self.links.peers if self.role in DRAWN[peer]}
        for peer, half in theirs.items():
            if len(half) != KEY:
                raise MpcifyError(707, WHERE, f"the key from {peer} has another length", SAME)
        found = {}
        for peer in self.links.peers:
            both = {self.role: halves.get(peer, b""), peer: theirs.get(peer, b"")}
            secret = b"".join(both[name] for name in sorted(both))
            found[peer] = Prg(derive(secret, self.links.session, "-".join(sorted(both))))
        return found

    def hear(self, peer: str, kind: str, timeout: float | None = None) -> None:
        """Takes the next message of a kind that says nothing but that it came. Raises MPC-707 for one with content."""
        if self.links.receive(peer, self.key(kind), timeout):
            raise MpcifyError(707, WHERE, f"a message from {peer} has another length", SAME)

    def key(self, kind: str) -> str:
        """The key of the next message of a kind."""
        self.turns[kind] = self.turns.get(kind, 0) + 1
        return f"{kind}#{self.turns[kind]}"

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Compares what must be the same at every party. Raises MPC-705 for a peer with another."""
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
        with self.failing():
            self.settle()
            key = self.key("agree")
            for peer in self.links.peers:
                self.links.send(peer, key, digest)
            theirs = {peer: self.links.receive(peer, key) for peer in self.links.peers}
            for peer, other in theirs.items():
                if not hmac.compare_digest(other, digest):
                    what = f"{peer} runs another graph, or other settings, than {self.role}"
                    raise MpcifyError(705, WHERE, what, SAME)
