"""Requests around an engine: texts or images go in, logits and their cost come out."""

import os
import threading
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from transformers import PreTrainedModel

from mpcify.conversion.convert import as_student, model_and_source
from mpcify.conversion.facts import takes_images, word_table
from mpcify.conversion.processors import backend_of, read_processor
from mpcify.conversion.student import ranges_of, table_is_public
from mpcify.engines import NAMES, engine_named
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Engine, Session
from mpcify.engines.plain import PlainEngine, PlainSession, measure_ranges
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.graph import Graph
from mpcify.graph.headroom import refuse_undeclared
from mpcify.graph.ranges import RangeRecorder
from mpcify.lowering.export import describe, export_graph
from mpcify.lowering.prove import prove_graph, prove_inputs
from mpcify.requests.images import ImageRequests
from mpcify.requests.outputs import answers
from mpcify.requests.text import TextRequests

Progress = Callable[[int], None]
EMBEDDINGS = ("client", "one-hot")

TABLE_LEAKS = "the embedding table is not recorded as public: a real client would hold the owner's weights"


@dataclass(frozen=True)
class Batch:
    """What one run of the engine answered. places: of its inputs among all. logits: (inputs, labels)."""

    places: tuple[int, ...]
    logits: np.ndarray
    cost: Cost


class PrivateModel:
    """A model behind an engine. Sessions open when a length is first asked for; close it, or use a `with` block.

    Threads may share it; on spu their requests take turns. Once it is closed, and in any process but the one that made
    it, whatever is asked of it raises MPC-506.

    student: the model (a teacher runs under recipe `exact`). source: its folder. length: one padded length for all
    texts; None: each text goes to its smallest bucket. truncate: cut longer texts. Raises MPC-501 for a setting that
    makes no sense.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        source: str | Path,
        engine: Engine,
        *,
        embeddings: str = "client",
        batch: int = 1,
        length: int | None = None,
        truncate: bool = False,
    ) -> None:
        check_choice("embeddings", embeddings, EMBEDDINGS)
        check_switch("truncate", truncate)
        self.batch, self.length, self.truncate = whole("batch", batch, 1), whole_or_none("length", length, 2), truncate
        self.process, self.closed, self.turn = os.getpid(), False, threading.RLock()
        self.student, self.engine = student, engine
        processor = read_processor(source, student)
        self.about = describe(student, source, embeddings, processor)
        self.images = takes_images(student)
        self.declared = bool(ranges_of(student))
        if self.images:
            self.image_requests = ImageRequests(self.about["image"])
        else:
            table = word_table(student) if embeddings == "client" else None
            self.text_requests = TextRequests(backend_of(processor), self.about, table)
        prove_inputs(student, processor)
        self.graphs: dict[int, tuple[Graph, dict[str, np.ndarray]]] = {}
        self.plain_sessions: dict[int, PlainSession] = {}
        self.sessions: dict[int, Session] = {}
        self.setup: Cost | None = None

    def __call__(self, items: Sequence[Any], progress: Progress | None = None) -> tuple[np.ndarray, Cost]:
        """Logits (N, labels) of N texts, (text, text) pairs or images, and what they cost together.

        progress: told how many are done. Raises MPC-102 and MPC-105 to MPC-108 for an input, MPC-402 where values
        overflow.
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

        The same inputs and settings always make the same batches. Raises what a call raises, and MPC-406 where an
        engine of parties would run a student that declares no ranges.
        """
        groups = self.groups(items)
        proven = self.proven(groups)
        for length, order, encoded in groups:
            for start in range(0, len(order), self.batch):
                chunk = slice(start, start + self.batch)
                places = tuple(order[chunk])
                if places in known:
                    continue
                session = proven.get(length) or self.open(length)
                outputs, spent = session.run(self.inputs(encoded[chunk], length))
                logits = outputs["logits"][: len(places)]
                if not np.isfinite(logits).all():
                    remedy = "look where values grow: mpcify evaluate --engine fixed"
                    raise MpcifyError(402, "logits", "the answer is not finite", remedy)
                yield Batch(places, logits, spent)

    def classify(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """An answer an input: {"label", "score", "scores"}, or {"value"} for regression."""
        return answers(self(items)[0], self.about)

    def plain(self, items: Sequence[Any], observe: Callable[[RangeRecorder, int], None] | None = None) -> np.ndarray:
        """The logits of the same graphs in floats. observe: told each batch's ranges, and how many inputs it holds."""
        rows: dict[int, np.ndarray] = {}
        for length, order, encoded in self.groups(items):
            for start in range(0, len(order), self.batch):
                chunk = slice(start, start + self.batch)
                inputs = self.inputs(encoded[chunk], length)
                recorder = RangeRecorder(self.graph(length)[0], inputs) if observe else None
                outputs, _ = self.plain_session(length).run(inputs, recorder)
                rows.update(zip(order[chunk], outputs["logits"], strict=False))
                if observe and recorder:
                    observe(recorder, len(order[chunk]))
        return np.stack([rows[index] for index in range(len(items))])

    def groups(self, items: Sequence[Any]) -> list[tuple[int, list[int], list[Any]]]:
        """Inputs of one padded length together: (length, their places, what their client encodes), shortest first."""
        self.check_open()
        kind = "images" if self.images else "texts, or of (text, text) pairs"
        if isinstance(items, str | bytes | Mapping) or not hasattr(items, "__getitem__"):
            raise MpcifyError(102, "request", f"it is one {type(items).__name__}", f"give a list of {kind}")
        if not len(items):
            raise MpcifyError(108, "request", "there is nothing to answer", "give at least one text or image")
        try:
            if self.images:
                return [(0, list(range(len(items))), list(self.image_requests.encode(items)))]
            encoded = self.text_requests.encode(items, self.truncate, self.length)
        except TypeError:  # its text may quote the input
            raise MpcifyError(
                102, "request", "an input is of a type that is not read", f"give a list of {kind}"
            ) from None
        cut = sum(item.truncated for item in encoded)
        if cut:
            warnings.warn(MpcifyWarning(f"{cut} of {len(items)} texts were cut to fit"), stacklevel=3)
        groups: dict[int, tuple[list[int], list[Any]]] = {}
        for index, item in enumerate(encoded):
            order, members = groups.setdefault(self.length or self.text_requests.bucket_for(len(item)), ([], []))
            order.append(index)
            members.append(item)
        return [(length, *groups[length]) for length in sorted(groups)]

    def inputs(self, encoded: list[Any], length: int) -> dict[str, np.ndarray]:
        """The client's inputs of one batch."""
        graph = self.graph(length)[0]
        return self.image_requests.inputs(encoded, graph) if self.images else self.text_requests.inputs(encoded, graph)

    def graph(self, length: int) -> tuple[Graph, dict[str, np.ndarray]]:
        """The graph of a length, and the weights (the same arrays for every length)."""
        self.check_open()
        with self.turn:
            if length not in self.graphs:
                graph, weights = export_graph(self.student, self.batch, length, self.about)
                if self.graphs:
                    weights = next(iter(self.graphs.values()))[1]
                else:
                    prove_graph(self.student, graph, weights)
                self.graphs[length] = graph, weights
            return self.graphs[length]

    def plain_session(self, length: int) -> PlainSession:
        """The float session of a length."""
        self.check_open()
        with self.turn:
            if length not in self.plain_sessions:
                graph, weights = self.graph(length)
                self.plain_sessions[length] = PlainEngine().compile(graph).load(weights)
            return self.plain_sessions[length]

    def open(self, length: int) -> Session:
        """The engine's session of a length; the weights are placed once for all lengths."""
        if isinstance(self.engine, PlainEngine):
            return self.plain_session(length)
        self.check_open()
        with self.turn:
            if length not in self.sessions:
                graph, weights = self.graph(length)
                session = self.engine.compile(graph).load(weights, next(iter(self.sessions.values()), None))
                self.sessions[length] = session
                self.setup = session.setup if self.setup is None else self.setup + session.setup
                if self.closed:  # meanwhile, by another thread
                    session.close()
                    self.check_open()
            return self.sessions[length]

    def proven(self, groups: list[tuple[int, list[int], list[Any]]]) -> dict[int, Session]:
        """Sessions for the present inputs alone, proven by the ranges that they meet, if the student declares none.

        For an engine without parties, so that no overflow goes unseen. Raises MPC-406 for any other engine.
        """
        sessions: dict[int, Session] = {}
        if self.declared or isinstance(self.engine, PlainEngine) or self.engine.force:
            return sessions
        for length, _, encoded in groups:
            graph, weights = self.graph(length)
            if self.engine.protocol is not None:
                refuse_undeclared(graph)
            starts = range(0, len(encoded), self.batch)
            requests = (self.inputs(encoded[start : start + self.batch], length) for start in starts)
            met = graph.with_ranges(measure_ranges(graph, weights, requests))
            sessions[length] = self.engine.compile(met).load(weights)
        return sessions

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
            while self.sessions:
                self.sessions.popitem()[1].close()

    def __reduce__(self) -> NoReturn:
        """Raises MPC-506: sessions do not travel to another process, nor can they be copied."""
        raise MpcifyError(
            506, "model", "a compiled model cannot be sent or copied", "compile it in the process that asks"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises MPC-501 for a word that is none of the known ones."""
    if not isinstance(value, str) or value not in known:
        raise unknown(name, value, f"use one of {', '.join(known)}")


def whole(name: str, value: Any, least: int) -> int:
    """A whole number as an int. Raises MPC-501 for anything else, and for one below `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise unknown(name, value, f"use a whole number from {least} on")
    return int(value)


def whole_or_none(name: str, value: Any, least: int) -> int | None:
    """The same if there is one."""
    return None if value is None else whole(name, value, least)


def check_switch(name: str, value: Any) -> None:
    """Raises MPC-501 unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise unknown(name, value, "use True or False")


def unknown(name: str, value: Any, remedy: str) -> MpcifyError:
    """The error for a setting that makes no sense."""
    return MpcifyError(501, f"{name} {value!r}"[:80], "there is no such choice", remedy)


def compile(
    model: PreTrainedModel | str | Path,
    engine: str = "spu",
    *,
    protocol: str | None = None,
    ring: int | None = None,
    fraction_bits: int | None = None,
    embeddings: str = "client",
    batch: int = 1,
    length: int | None = None,
    truncate: bool = False,
    force: bool = False,
    trust_first_party: bool = False,
    accept_embedding_leak: bool = False,
) -> PrivateModel:
    """A student, or a teacher under recipe `exact`, ready to answer on an engine.

    model: a folder, a hub name, or a model that came from one (its tokenizer or image processor is read there).
    engine: plain, fixed or spu. protocol, ring, fraction_bits: the engine's own defaults where None. embeddings:
    `client` looks tokens up in the table, which every client then holds; `one-hot` keeps the table with the owner.
    length: one padded length, or None for the smallest bucket of each text. accept_embedding_leak: do not warn that
    the table is not recorded as public. force: run although declared ranges overflow, or are not there. Raises MPC-2xx
    for the model, MPC-5xx for the engine's settings.
    """
    check_choice("engine", engine, NAMES)
    check_choice("embeddings", embeddings, EMBEDDINGS)
    for name, value in {"truncate": truncate, "force": force, "trust_first_party": trust_first_party}.items():
        check_switch(name, value)
    check_switch("accept_embedding_leak", accept_embedding_leak)
    if protocol is not None and not (isinstance(protocol, str) and protocol):
        raise unknown("protocol", protocol, "use the name of one of the engine's protocols")
    batch, length = whole("batch", batch, 1), whole_or_none("length", length, 2)
    runner = engine_named(
        engine,
        protocol=protocol,
        ring=whole_or_none("ring", ring, 1),
        fraction_bits=whole_or_none("fraction_bits", fraction_bits, 1),
        force=force,
        trust_first_party=trust_first_party,
    )
    loaded, source = model_and_source(model)
    student = as_student(loaded)
    private = PrivateModel(
        student, source, runner, embeddings=embeddings, batch=batch, length=length, truncate=truncate
    )
    if engine == "spu" and not accept_embedding_leak and leaks_table(private):
        warnings.warn(MpcifyWarning(TABLE_LEAKS), stacklevel=2)
    return private


def leaks_table(private: PrivateModel) -> bool:
    """Whether clients look tokens up in a table that is not recorded as public."""
    looked_up = not private.images and private.about["embeddings"] == "client"
    return looked_up and not table_is_public(private.student)
