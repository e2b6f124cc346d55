"""Answers of a long evaluation, kept on disk as they come, so that one that was interrupted goes on from there."""

import hashlib
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpcify import __version__
from mpcify.data.files import Examples
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.files import write_whole
from mpcify.inference import Batch, PrivateModel
from mpcify.jsontext import parse_json
from mpcify.measure.provenance import code_digest
from mpcify.progress import Progress

FORMAT = 1


def answer(
    private: PrivateModel, examples: Examples, progress: Progress | None, folder: Path | None
) -> tuple[np.ndarray, Cost]:
    """Logits (N, labels) and their cost; with a folder, each batch is kept there, and what is there is not run again.

    The folder gets one file a run (`<digest>.jsonl`): the first line says which run, every other holds one batch: the
    places of its examples, their logits, the cost. No text and no weight stands in it. A line that a kill left half
    written is run again. The cost of weights that are shared anew after an interruption replaces the first.
    Raises MPC-109 if the folder or a file in it cannot be written, MPC-601 if a file in it is damaged.
    """
    if folder is None:
        return private(examples.texts, progress)
    path, known = take_up(folder, fingerprint(private, examples), (len(examples), len(private.about.labels)))
    if known:
        done = sum(map(len, known))
        warnings.warn(MpcifyWarning(f"{done} of {len(examples)} examples were answered before: going on"), stacklevel=2)
        if progress:
            progress(done)
    for batch in private.batches(examples.texts, known):
        batch = replace(batch, cost=replace(batch.cost, setup=private.setup))
        add(path, batch)
        known[batch.places] = batch
        if progress:
            progress(sum(map(len, known)))
    rows: dict[int, np.ndarray] = {}
    cost = Cost()
    for batch in known.values():
        rows.update(zip(batch.places, batch.logits, strict=True))
        cost = replace(cost + batch.cost, setup=batch.cost.setup or cost.setup)
    return np.stack([rows[index] for index in range(len(examples))]), cost


def fingerprint(private: PrivateModel, examples: Examples) -> dict[str, Any]:
    """What decides a run's answers: version and digests of the program, weights and examples, the engine's settings."""
    return {
        "format": FORMAT,
        "mpcify": __version__,
        "code": code_digest(),
        "weights": private.exported.digest,
        "recipe": private.about.recipe,
        "examples": examples.digest(),
        **private.engine.config.to_json(),
        "embeddings": private.about.embeddings,
        "batch": private.batch,
        "length": private.length,
        "truncate": private.truncate,
    }


def add(path: Path, batch: Batch) -> None:
    """Writes a batch at the end of a run's file, on the disk. Raises MPC-109."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(batch)) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise unwritable(path, problem) from problem


def take_up(folder: Path, run: dict[str, Any], shape: tuple[int, int]) -> tuple[Path, dict[tuple[int, ...], Batch]]:
    """The file of a run, made if it is not there, and the batches in it; a last line half written is removed.

    shape: of all its logits, (examples, labels).
    """
    path = folder / f"{hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]}.jsonl"
    header = json.dumps(run) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n") if path.is_file() else ("", "", "")
    except (FileExistsError, NotADirectoryError) as problem:
        raise MpcifyError(109, str(folder), "it is not a folder", "name a new folder") from problem
    except OSError as problem:
        raise unwritable(folder, problem) from problem
    except UnicodeDecodeError as problem:
        raise damaged(path, 1) from problem
    first, *lines = whole.split("\n")
    if not first:
        write_whole(path, header, mode=0o600)
        return path, {}
    if first + "\n" != header:
        raise damaged(path, 1)
    known: dict[tuple[int, ...], Batch] = {}
    for number, line in enumerate(lines, 2):
        try:
            batch = from_json(parse_json(line), shape)
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise damaged(path, number) from problem
        known[batch.places] = batch
    if torn:
        os.truncate(path, len((whole + "\n").encode()))
    return path, known


def unwritable(path: Path, problem: OSError) -> MpcifyError:
    """The error for answers that cannot be kept."""
    reason = problem.strerror or "it cannot be written"
    return MpcifyError(109, str(path), reason, "name a folder you may write")


def damaged(path: Path, line: int) -> MpcifyError:
    """The error for a file that holds something else than answers."""
    return MpcifyError(601, f"{path} line {line}", "kept answers cannot be read", "remove the file")


def to_json(batch: Batch) -> dict[str, Any]:
    """A line of the file."""
    logits = batch.logits.astype(np.float64).tolist()  # exact: every float32 is a float64, and JSON keeps those
    return {"places": list(batch.places), "logits": logits, "cost": batch.cost.to_json()}


def from_json(line: dict[str, Any], shape: tuple[int, int]) -> Batch:
    """The batch of a line; shape: of all logits. Raises ValueError, KeyError or TypeError for any other line."""
    places, logits = tuple(line["places"]), np.asarray(line["logits"], np.float64)
    count, labels = shape
    if not all(type(place) is int and 0 <= place < count for place in places):
        raise ValueError("no such places")
    if not places or logits.shape != (len(places), labels):
        raise ValueError("not a batch")
    if not np.isfinite(logits).all():
        raise ValueError("not finite")
    return Batch(places, logits, Cost.from_json(line["cost"]))
