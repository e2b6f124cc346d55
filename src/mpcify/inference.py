"""Requests around an engine: texts or images go in, logits and their cost come out."""

import os
import threading
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Engine, Session, Sessions
from mpcify.engines.plain import PlainEngine, PlainSession, measure_ranges
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.exported import Exported
from mpcify.graph.graph import Graph
from mpcify.graph.inputs import refuse_lengths
from mpcify.graph.ranges import RangeRecorder
from mpcify.progress import Progress
from mpcify.requests import requests_of
from mpcify.requests.requests import Group

Weights = Mapping[str, np.ndarray]

SIMULATED = "this run simulates all parties on one machine: it protects nothing"
TABLE_LEAKS = "the embedding table is not recorded as public: a real client would hold the owner's weights"


@dataclass(frozen=True)
class Batch:
    """What one run of the engine answered. places: of its inputs among all. logits: (inputs, labels)."""

    places: tuple[int, ...]
    logits: np.ndarray
    cost: Cost


class Simulation(Sessions):
    """All roles of an engine in this process (or a child of its own); the weights are placed once for all lengths."""

    def __init__(self, engine: Engine, weights: Weights) -> None:
        self.engine, self.weights = engine, weights
        self.first: Session | None = None

    def open(self, graph: Graph) -> Session:
        session = self.engine.compile(graph).load(self.weights, self.first)
        self.first = self.first or session
        return session

    def ready(self) -> None:
        """Always: there is nobody who could be gone."""

    def close(self) -> None:
        """Nothing is held but the sessions, which close for themselves."""


class PrivateModel:
    """A model behind an engine. Sessions open when a length is first asked for; close it, or use a `with` block.

    Threads may share it; on an engine with parties their requests take turns. Once it is closed, and in any process but
    the one that made it, whatever is asked of it raises MPC-506.

    exported: the model, as all its parties together hold it, or as a client does. sessions: where they come from if not
    from a simulation, which takes all parties' parts. length: one padded length for all texts; None: each text
    goes to the smallest that there is. truncate: cut longer texts. Raises MPC-203 and MPC-208 if a client cannot make
    the model's inputs, MPC-405 for a length of images.
    """

    def __init__(
        self,
        exported: Exported,
        engine: Engine,
        sessions: Sessions | None = None,
        *,
        length: int | None = None,
        truncate: bool = False,
    ) -> None:
        self.process, self.closed, self.turn = os.getpid(), False, threading.RLock()
        self.exported, self.engine, self.length, self.truncate = exported, engine, length, truncate
        self.about, self.batch = exported.about, exported.batch
        if self.about.task.images and length is not None:
            refuse_lengths(length)
        self.requests = requests_of(exported)
        self.graphs: dict[int, Graph] = {}
        self.plain_sessions: dict[int, PlainSession] = {}
        self.source, self.sessions = sessions, dict[int, Session]()
        self.setup: Cost | None = None
        self.told: set[int] = set()  # untaught buckets that a warning spoke of

    def __call__(self, items: Sequence[Any], progress: Progress | None = None) -> tuple[np.ndarray, Cost]:
        """Logits (N, labels) of N texts, (text, text) pairs or images, and what they cost together.

        progress: is called with how many are done. Raises MPC-102 and MPC-105 to MPC-108 for an input, MPC-402 if
        values overflow.
        """
        rows: dict[int, np.ndarray] = {}
        cost = Cost()
        for batch in self.batches(items):
            rows.update(zip(batch.places, batch.logits, strict=True))
            cost += batch.cost
            if progress:
                progress(len(rows))
        return np.stack([rows[index] for index in range(len(items))]), replace(cost, setup=self.setup)

    def batches(self, items: Sequence[Any], known: Container[tuple[int, ...]] = ()) -> Iterator[Batch]:
        """Answers batch by batch, shortest inputs first; a batch whose places are known is not run again.

        The same inputs and settings always make the same batches. Raises what a call raises, and MPC-406 if an
        engine of parties would run a student that declares no ranges.
        """
        groups = self.groups(items)
        proven = self.proven(groups)
        for group in groups:
            for places, encoded in self.chunks(group):
                if places in known:
                    continue
                session = proven.get(group.length) or self.open(group.length)
                outputs, spent = session.run(self.inputs(encoded, group.length))
                logits = outputs["logits"][: len(places)]
                if not np.isfinite(logits).all():
                    remedy = "look where values grow: mpcify evaluate --engine fixed"
                    raise MpcifyError(402, "logits", "the answer is not finite", remedy)
                yield Batch(places, logits, spent)

    def classify(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """An answer an input: {"label", "score", "scores"}, or {"value"} for regression."""
        return self.about.task.answers(self(items)[0])

    def plain(self, items: Sequence[Any], observe: Callable[[RangeRecorder, int], None] | None = None) -> np.ndarray:
        """The logits of the same graphs in floats. observe: is called with each batch's ranges and size."""
        rows: dict[int, np.ndarray] = {}
        for group in self.groups(items):
            for places, encoded in self.chunks(group):
                inputs = self.inputs(encoded, group.length)
                recorder = RangeRecorder(self.graph(group.length), inputs) if observe else None
                outputs, _ = self.plain_session(group.length).run(inputs, recorder)
                rows.update(zip(places, outputs["logits"], strict=False))
                if observe and recorder:
                    observe(recorder, len(places))
        return np.stack([rows[index] for index in range(len(items))])

    def groups(self, items: Sequence[Any]) -> list[Group]:
        """Inputs of one padded length together, shortest first.

        A warning says how many texts were cut; another, once a bucket, how many are of lengths that the student was not
        taught.
        """
        self.check_open()
        groups = self.requests.groups(items, self.truncate, self.length)
        cut = sum(self.requests.is_cut(item) for group in groups for item in group.encoded)
        if cut:
            warnings.warn(MpcifyWarning(f"{cut} of {len(items)} texts were cut to fit"), stacklevel=3)
        if self.about.taught is not None and (said := self.untaught(groups, self.about.taught)):
            warnings.warn(MpcifyWarning(said), stacklevel=3)
        return groups

    def untaught(self, groups: list[Group], taught: tuple[int, ...]) -> str:
        """What a warning says of texts in buckets that the student was not taught; "" if it was said before."""
        buckets = [item.bucket for group in groups for item in group.encoded]
        new = sorted({*buckets} - {*taught} - self.told)
        if not new:
            return ""
        self.told.update(new)
        counts = self.exported.taught_texts
        how = "hardly any text" if counts is None or any(bucket in counts for bucket in new) else "no text"
        *others, last = map(str, new)
        place = f"buckets {', '.join(others)} and {last}" if others else f"bucket {last}"
        count = sum(bucket in new for bucket in buckets)
        what = f"{count} of {len(buckets)} texts are of lengths that the student was taught on {how} of ({place})"
        return f"{what}: it may answer wrongly there; distill it on such texts"

    def buckets(self, items: Sequence[Any]) -> list[int]:
        """The bucket of each text by its own tokens, whatever it is padded to; [] for images, all of one length."""
        if self.about.task.images:
            return []
        return [item.bucket for item in self.requests.encode(items, self.truncate, self.length)]

    def chunks(self, group: Group) -> Iterator[tuple[tuple[int, ...], list[Any]]]:
        """A group's places and encoded inputs, a batch at a time."""
        for start in range(0, len(group.places), self.batch):
            chunk = slice(start, start + self.batch)
            yield group.places[chunk], group.encoded[chunk]

    def inputs(self, encoded: list[Any], length: int) -> dict[str, np.ndarray]:
        """The client's inputs of one batch."""
        return self.requests.inputs(encoded, self.graph(length))

    def graph(self, length: int) -> Graph:
        """The graph of a length."""
        self.check_open()
        with self.turn:
            if length not in self.graphs:
                self.graphs[length] = self.exported.graph(length)
            return self.graphs[length]

    @property
    def weights(self) -> Weights:
        """The owner's weights, the same arrays for every length. Raises MPC-506 in a client, which has none."""
        weights = self.exported.weights
        if weights is None:
            what = "the weights are the owner's alone, so there is no answer in floats"
            raise MpcifyError(506, "model", what, "ask the owner: mpcify evaluate STUDENT --engine plain")
        return weights

    @property
    def has_weights(self) -> bool:
        """Whether answers in floats can be computed here: not by the client of parties on machines of their own."""
        return self.exported.has_weights

    def plain_session(self, length: int) -> PlainSession:
        """The float session of a length."""
        self.check_open()
        with self.turn:
            if length not in self.plain_sessions:
                self.plain_sessions[length] = PlainEngine().compile(self.graph(length)).load(self.weights)
            return self.plain_sessions[length]

    def open(self, length: int) -> Session:
        """The session of a length; the weights are placed once for all lengths."""
        if self.in_floats:
            return self.plain_session(length)
        self.check_open()
        with self.turn:
            if length not in self.sessions:
                graph = self.graph(length)
                self.source = self.source or Simulation(self.engine, self.weights)
                session = self.sessions[length] = self.source.open(graph)
                self.setup = session.setup if self.setup is None else self.setup + session.setup
                if self.closed:  # meanwhile, by another thread
                    session.close()
                    self.check_open()
            return self.sessions[length]

    def ready(self) -> None:
        """Returns if a request could begin now; opens the session of the shortest length. Raises what `open` raises."""
        self.open(self.length or self.requests.lengths[0])
        if self.source:
            self.source.ready()

    def proven(self, groups: list[Group]) -> dict[int, Session]:
        """Sessions for the present inputs alone, proven within the ranges measured on them, if the model declares none.

        For an engine that measures them, so that no overflow goes unseen; others run or refuse such a graph themselves.
        """
        if self.exported.declared or self.engine.undeclared != "measure" or self.engine.force:
            return {}
        sessions: dict[int, Session] = {}
        for group in groups:
            graph, weights = self.graph(group.length), self.weights
            requests = (self.inputs(encoded, group.length) for _, encoded in self.chunks(group))
            measured = graph.with_ranges(measure_ranges(graph, weights, requests))
            sessions[group.length] = self.engine.compile(measured).load(weights)
        return sessions

    @property
    def in_floats(self) -> bool:
        """Whether the engine is the reference in floats itself, in which nothing can overflow."""
        return self.engine.rules is None

    def check_open(self) -> None:
        """Raises MPC-506 if the model is closed, or this is another process (forked) than the one that compiled it."""
        if os.getpid() != self.process:
            what = "the model belongs to the process that compiled it"
            raise MpcifyError(506, "model", what, "compile it in the process that asks")
        if self.closed:
            raise MpcifyError(506, "model", "the model is closed", "compile it again")

    def close(self) -> None:
        """Ends the engine's sessions, in the middle of another thread's request too. A second call does nothing."""
        if os.getpid() == self.process:
            self.closed = True
            for length in [*self.sessions]:
                if session := self.sessions.pop(length, None):  # None: another thread closes it
                    session.close()
            self.plain_sessions.clear()
            if self.source:
                self.source.close()

    def __reduce__(self) -> NoReturn:
        """Raises MPC-506: sessions do not travel to another process, nor can they be copied."""
        raise MpcifyError(
            506, "model", "a compiled model cannot be sent or copied", "compile it in the process that asks"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
