"""A student as graphs, weights and public facts: in memory, or as one folder a party."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel

from mpcify.conversion.config import read_config
from mpcify.conversion.convert import recipe_of, task_of, teacher_class
from mpcify.conversion.facts import (
    longest_text,
    table_is_public,
    takes_images,
    takes_segments,
    word_table,
)
from mpcify.conversion.folder import beside, new_folder
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.passes import lower
from mpcify.graph.ranges import Ranges, rounded
from mpcify.graph.streams import scale_streams
from mpcify.graph.trace import trace_graph

NOTICE = "this release simulates all parties on one machine: it protects nothing yet"
TABLE = "word_embeddings"  # the public table's name in its file
# One of them must be there: without any, transformers makes a tokenizer up.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")


def read_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer beside a checkpoint, as the `tokenizers` library runs it. Raises MPC-208."""
    tokenizer = None
    if not Path(source).is_dir() or any((Path(source) / name).is_file() for name in VOCABULARIES):
        try:
            config = None if beside(source, "config.json") is None else read_config(source)
            tokenizer = AutoTokenizer.from_pretrained(str(source), config=config, trust_remote_code=False)
        except Exception:  # transformers' readers raise whatever a broken file makes of them
            tokenizer = None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.get_vocab_size() == 0:
        raise MpcifyError(
            208, str(source), "there is no tokenizer beside the model", "save its fast tokenizer (tokenizer.json) there"
        )
    return backend


def read_preprocessing(student: PreTrainedModel, source: str | Path) -> dict[str, Any]:
    """How an image becomes patches: preprocessor_config.json beside a checkpoint, and the model's patch.

    Raises MPC-208.
    """
    path = beside(source, "preprocessor_config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8") if path else "")
    except (OSError, ValueError):
        raise MpcifyError(
            208,
            str(source),
            "there is no readable preprocessor_config.json",
            "save the image processor beside the model",
        ) from None
    config = student.config
    wanted = {"height": config.image_size, "width": config.image_size}
    size = values.get("size", wanted)
    size = {"height": size, "width": size} if isinstance(size, int) else size
    if values.get("do_center_crop") or (values.get("do_resize", True) and size != wanted):
        raise MpcifyError(
            208,
            str(source),
            "preprocessor_config.json crops images, or scales them to another size than the model reads",
            f"resize images to {config.image_size} by {config.image_size} without a crop, and save that processor",
        )
    return {
        "channels": config.num_channels,
        "size": config.image_size,
        "patch": config.patch_size,
        "do_resize": values.get("do_resize", True),
        "resample": values.get("resample", 2),
        "do_rescale": values.get("do_rescale", True),
        "rescale": values.get("rescale_factor", 1 / 255),
        "do_normalize": values.get("do_normalize", True),
        "mean": values.get("image_mean", 0.5),
        "std": values.get("image_std", 0.5),
    }


def describe(student: PreTrainedModel, source: str | Path, embeddings: str) -> dict[str, Any]:
    """The public facts of a student: `Graph.about`. Raises MPC-501 for embeddings that are neither of the two."""
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
        "vocabulary": 0 if images else len(student.get_input_embeddings().weight),
        "positions": 0 if images else longest_text(student),
        "segments": not images and takes_segments(student),
        "image": read_preprocessing(student, source) if images else None,
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
    """The ranges that a student's config declares, of the operations that are in its graph."""
    ranges = student.config.mpcify.get("ranges") or {}
    if ranges and TABLE in weights:  # one-hot: the product gives rows of the table, so its ends are the table's
        ends = (float(weights[TABLE].min()), float(weights[TABLE].max()))
        ranges = {**ranges, "embeddings": {"value": ends, "product": ends}}
    known = {operation.name for operation in graph.operations}
    return rounded(
        {
            name: {quantity: (float(pair[0]), float(pair[1])) for quantity, pair in entry.items()}
            for name, entry in ranges.items()
            if name in known
        }
    )


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
    about, images = describe(student, source, embeddings), takes_images(student)
    if not images and embeddings == "client" and not table_is_public(student) and not accept_embedding_leak:
        raise MpcifyError(
            403,
            "client folder",
            "the embedding table is not recorded as public: it would hand fine-tuned weights to every client",
            "distill with --base, or export with --embeddings one-hot, or pass --accept-embedding-leak",
        )
    tokenizer = None if images else read_tokenizer(source)
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
        if tokenizer is not None:
            tokenizer.save(str(folder / "client" / "tokenizer.json"))
        if not images and embeddings == "client":
            save_file({TABLE: word_table(student)}, folder / "client" / "embeddings.safetensors")
    return {"folder": str(out), "graphs": sorted(graphs), "weights": sum(value.size for value in weights.values())}
