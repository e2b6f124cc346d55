"""A student as what its parties hold: the only place that turns one into graphs, weights and public facts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from mpcify.conversion.convert import task_of, teacher_class
from mpcify.conversion.facts import longest_text, model_digest, takes_images, word_table
from mpcify.conversion.processors import backend_of, input_facts, processor_digest, read_processor
from mpcify.conversion.student import is_student, ranges_of, recipe_name, student_config, table_is_public
from mpcify.conversion.survey import refusing
from mpcify.engines.plain import evaluate_operation
from mpcify.errors import MpcifyError
from mpcify.files import new_folder
from mpcify.graph.about import NOTICE, About
from mpcify.graph.exported import TABLE, Exported, write
from mpcify.graph.graph import Graph
from mpcify.graph.inputs import EMBEDDINGS, refuse_lengths, refuse_tables
from mpcify.graph.ranges import Ranges, batched, hull, rounded
from mpcify.lowering.passes import lower
from mpcify.lowering.prove import prove_graph, prove_inputs
from mpcify.lowering.streams import scale_streams
from mpcify.lowering.trace import trace_graph

SHORT = 16  # tokens of the graph that is traced if weights are asked for before any graph


class TracedStudent(Exported):
    """A student's graphs, traced when they are first asked for, and proven to answer as the student does.

    student: the model (a teacher runs under recipe `exact`). source: the folder or hub name of its tokenizer or image
    processor. embeddings, batch: see `mpcify.compile`. Raises MPC-204 and MPC-208 for inputs that a client would make
    otherwise than transformers, MPC-501 for embeddings that are neither of the two.
    """

    lengths = None

    def __init__(
        self, student: PreTrainedModel, source: str | Path, embeddings: str = "client", batch: int = 1
    ) -> None:
        processor, images = read_processor(source, student), takes_images(student)
        self.student, self.batch = student, batch
        self.about = describe(student, source, embeddings, processor)
        # a copy: transformers leaves the padding and the truncation that the proof asks of it in its own
        self.tokenizer = None if images else Tokenizer.from_str(backend_of(processor).to_str())
        self.table = word_table(student) if self.about.embeddings == "client" else None
        self.declared = bool(ranges_of(student))
        self.uncalibrated = is_uncalibrated(student)
        self.taught_texts = None if self.about.taught is None else student_config(student).taught
        self.graphs: dict[int, Graph] = {}
        self.owned: dict[str, np.ndarray] = {}
        self.inputs_digest = processor_digest(student, processor)
        prove_inputs(student, processor)

    def graph(self, length: int) -> Graph:
        """See `Exported`. Raises what `export_graph` raises, and MPC-204 for a graph that computes something else."""
        if length not in self.graphs:
            with refusing(self.about.family):
                graph, weights = export_graph(self.student, self.batch, length, self.about)
            if not self.graphs:
                prove_graph(self.student, graph, weights)
                self.owned = weights
            self.graphs[length] = graph
        return self.graphs[length]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        if not self.graphs:
            self.graph(0 if takes_images(self.student) else min(SHORT, longest_text(self.student)))
        return self.owned

    @property
    def has_weights(self) -> bool:
        return True  # and no graph is traced to know it

    @property
    def public_table(self) -> bool:
        return table_is_public(self.student)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{model_digest(self.student)} {self.inputs_digest}".encode()).hexdigest()


def is_uncalibrated(student: PreTrainedModel) -> bool:
    """Whether a student has approximations that `calibrate` sets, and it has not run."""
    config = student_config(student)
    return config.approximates and not config.calibrated


def describe(model: PreTrainedModel, source: str | Path, embeddings: str, processor: Any = None) -> About:
    """What is public of a model. processor: its tokenizer or image processor, if it is read already.

    Raises MPC-208 for one that does not fit the model, MPC-405 for a table of images, MPC-501 for embeddings that are
    neither of the two.
    """
    if embeddings not in EMBEDDINGS:
        raise MpcifyError(501, f"embeddings {embeddings}", "there is no such choice", "use client or one-hot")
    if takes_images(model):
        refuse_tables(embeddings)
    return About(
        notice=NOTICE,
        model=Path(source).name,
        family=model.config.model_type,
        task=task_of(model.config, teacher_class(model).__name__),
        recipe=recipe_name(model),
        embeddings="patches" if takes_images(model) else embeddings,
        inputs=input_facts(model, read_processor(source, model) if processor is None else processor),
        taught=student_config(model).taught_enough if is_student(model) else None,
    )


def export_graph(
    student: PreTrainedModel, batch: int, length: int, about: About
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A student's lowered graph, with its declared ranges, and the owner's weights (float32).

    length: tokens; counts for nothing with images. Raises MPC-405 for a length that the model has no positions for.
    """
    embeddings = "client" if about.embeddings == "patches" else about.embeddings
    graph, weights = lower(*trace_graph(student, batch, length, embeddings))
    declared = declared_ranges(student, graph, weights)
    graph = replace(graph, about=about, ranges=declared)
    graph, weights = scale_streams(graph, weights)
    return graph, {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def declared_ranges(student: PreTrainedModel, graph: Graph, weights: Mapping[str, np.ndarray]) -> Ranges:
    """The ranges that a student's config declares, of the operations that are in its graph. Raises MPC-202."""
    ranges = ranges_of(student)
    if ranges and TABLE in weights:  # one-hot: the product gives rows of the table, so its ends are the table's
        ends = (float(weights[TABLE].min()), float(weights[TABLE].max()))
        ranges["embeddings"] = {"value": ends, "product": ends}
    known, shared, values = {operation.name for operation in graph.operations}, batched(graph), dict(weights)
    for operation in graph.operations:  # the owner's own numbers reach further in a longer graph than was measured
        if ranges and operation.name not in shared:
            value = evaluate_operation(operation, tuple(values[name] for name in operation.inputs))
            values[operation.name] = value
            entry = ranges.setdefault(operation.name, {})
            ends = (float(value.min()), float(value.max()))
            entry["value"] = hull(entry.get("value", ends), ends)
    return rounded({name: entry for name, entry in ranges.items() if name in known})


def export_folder(
    student: PreTrainedModel,
    source: str | Path,
    out: str | Path,
    lengths: Sequence[int],
    *,
    batch: int = 1,
    embeddings: str = "client",
    accept_embedding_leak: bool = False,
) -> dict[str, Any]:
    """Writes a folder a role: what each party of any engine needs to run the student, and nothing else.

    See `graph.exported`. Raises MPC-403 if clients would get a table that is not recorded as public, unless its leak is
    accepted; MPC-109, MPC-405.
    """
    if takes_images(student):
        refuse_lengths(*lengths)
    exported = TracedStudent(student, source, embeddings, batch)
    if exported.leaks_table and not accept_embedding_leak:
        raise MpcifyError(
            403,
            "client folder",
            "the embedding table is not recorded as public: it would hand fine-tuned weights to every client",
            "distill with --base, or export with --embeddings one-hot, or pass --accept-embedding-leak",
        )
    with new_folder(out) as folder:
        graphs = write(exported, lengths or [0], folder)
    count = sum(value.size for value in exported.weights.values())
    return {"folder": str(out), "graphs": sorted(graphs), "weights": count}
