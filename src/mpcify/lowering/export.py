"""A student as graphs, weights and public facts: in memory, or as one folder a party."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from mpcify.conversion.convert import task_of, teacher_class
from mpcify.conversion.facts import takes_images, word_table
from mpcify.conversion.folder import new_folder
from mpcify.conversion.processors import backend_of, input_facts, read_processor
from mpcify.conversion.student import ranges_of, recipe_of, table_is_public
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import Ranges, rounded
from mpcify.lowering.passes import lower
from mpcify.lowering.streams import scale_streams
from mpcify.lowering.trace import trace_graph

NOTICE = "this release simulates all parties on one machine: it protects nothing yet"
TABLE = "word_embeddings"  # the public table's name in its file


def describe(student: PreTrainedModel, source: str | Path, embeddings: str, processor: Any = None) -> dict[str, Any]:
    """The public facts of a student: `Graph.about`. processor: its tokenizer or image processor, if it is read already.

    Raises MPC-208 for one that does not fit the student, MPC-501 for embeddings that are neither of the two.
    """
    if embeddings not in ("client", "one-hot"):
        raise MpcifyError(501, f"embeddings {embeddings}", "there is no such choice", "use client or one-hot")
    config, images = student.config, takes_images(student)
    return {
        "notice": NOTICE,
        "model": Path(source).name,
        "family": config.model_type,
        "task": task_of(config, teacher_class(student).__name__),
        "recipe": recipe_of(student).name,
        "labels": [config.id2label[index] for index in range(config.num_labels)],
        "embeddings": "patches" if images else embeddings,
        **input_facts(student, read_processor(source, student) if processor is None else processor),
    }


def export_graph(
    student: PreTrainedModel, batch: int, length: int, about: Mapping[str, Any]
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A student's lowered graph, with its declared ranges, and the owner's weights (float32).

    length: tokens; counts for nothing with images. Raises MPC-405 for a length that the model has no positions for.
    """
    if about["embeddings"] != "patches" and not 1 < length <= about["positions"]:
        raise MpcifyError(
            405, f"length {length}", f"the model takes 2 to {about['positions']} tokens", "choose a length in between"
        )
    embeddings = "client" if about["embeddings"] == "patches" else about["embeddings"]
    graph, weights = lower(*trace_graph(student, batch, length, embeddings))
    declared = declared_ranges(student, graph, weights)
    graph = replace(graph, about=dict(about), ranges=declared)
    graph, weights = scale_streams(graph, weights)
    return graph, {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def declared_ranges(student: PreTrainedModel, graph: Graph, weights: Mapping[str, np.ndarray]) -> Ranges:
    """The ranges that a student's config declares, of the operations that are in its graph. Raises MPC-202."""
    ranges = ranges_of(student)
    if ranges and TABLE in weights:  # one-hot: the product gives rows of the table, so its ends are the table's
        ends = (float(weights[TABLE].min()), float(weights[TABLE].max()))
        ranges["embeddings"] = {"value": ends, "product": ends}
    known = {operation.name for operation in graph.operations}
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
    """Writes OUT/client, OUT/owner and OUT/helper: what each party needs to run the student, and nothing else.

    client: graphs, tokenizer and (embeddings `client`) the public table. owner: graphs, weights.safetensors once for
    all lengths. helper: graphs. Raises MPC-403 where the table is not recorded as public, unless its leak is
    accepted; MPC-109, MPC-405.
    """
    processor, images = read_processor(source, student), takes_images(student)
    about = describe(student, source, embeddings, processor)
    if not images and embeddings == "client" and not table_is_public(student) and not accept_embedding_leak:
        raise MpcifyError(
            403,
            "client folder",
            "the embedding table is not recorded as public: it would hand fine-tuned weights to every client",
            "distill with --base, or export with --embeddings one-hot, or pass --accept-embedding-leak",
        )
    graphs: dict[str, Graph] = {}
    weights: dict[str, np.ndarray] = {}
    for length in sorted(set(lengths)) or [0]:
        graph, weights = export_graph(student, batch, length, about)
        graphs[f"graph-{graph.length}.json"] = graph
    with new_folder(out) as folder:
        for party in ("client", "owner", "helper"):
            (folder / party).mkdir()
            for name, graph in graphs.items():
                (folder / party / name).write_text(json.dumps(graph.to_json(), indent=1), encoding="utf-8")
        save_file(weights, folder / "owner" / "weights.safetensors")
        if not images:
            backend_of(processor).save(str(folder / "client" / "tokenizer.json"))
        if not images and embeddings == "client":
            save_file({TABLE: word_table(student)}, folder / "client" / "embeddings.safetensors")
    return {"folder": str(out), "graphs": sorted(graphs), "weights": sum(value.size for value in weights.values())}
