"""A model ready to answer: a student, traced and proven, or what `export` wrote of one.

Torch is imported for a student alone: an exported folder runs without it.
"""

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpcify.engines import DEFAULT, engine_named
from mpcify.engines.config import ENGINES
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.extras import require
from mpcify.graph.exported import Exported, Folder, is_exported, read_all
from mpcify.graph.inputs import EMBEDDINGS, MOST_BATCH, refuse_tables
from mpcify.inference import TABLE_LEAKS, PrivateModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def compile(
    model: "PreTrainedModel | str | Path",
    engine: str = DEFAULT,
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
    **settings: Any,
) -> PrivateModel:
    """A student, or a teacher under recipe `exact`, ready to answer on an engine.

    model: a folder, a hub name, a model that came from one (its tokenizer or image processor is read there), or the
    folder that `export` wrote: then batch, length and embeddings are those that were exported.
    engine: plain, fixed or spu. protocol, ring, fraction_bits: None for the engine's own defaults. embeddings:
    `client` looks tokens up in the table, which every client then holds; `one-hot` keeps the table with the owner.
    length: one padded length, or None for the smallest bucket of each text. accept_embedding_leak: do not warn that
    the table is not recorded as public. force: run although declared ranges overflow, or are not there. Raises MPC-2xx
    for the model, MPC-404 and MPC-405 for an exported folder, MPC-5xx for the engine's settings.
    """
    check_choice("engine", engine, tuple(ENGINES))
    check_choice("embeddings", embeddings, EMBEDDINGS)
    for name, value in {"truncate": truncate, "force": force, "trust_first_party": trust_first_party}.items():
        check_switch(name, value)
    check_switch("accept_embedding_leak", accept_embedding_leak)
    if protocol is not None and not (isinstance(protocol, str) and protocol):
        raise unknown("protocol", protocol, "use the name of one of the engine's protocols")
    batch, length = whole("batch", batch, 1, MOST_BATCH), whole_or_none("length", length, 2)
    runner = engine_named(
        engine,
        protocol=protocol,
        ring=whole_or_none("ring", ring, 1),
        fraction_bits=whole_or_none("fraction_bits", fraction_bits, 1),
        force=force,
        trust_first_party=trust_first_party,
        **settings,
    )
    exported = exported_of(model, embeddings, batch, length)
    private = PrivateModel(exported, runner, length=length, truncate=truncate)
    if runner.parties and not accept_embedding_leak and exported.leaks_table:
        warnings.warn(MpcifyWarning(TABLE_LEAKS), stacklevel=2)
    return private


def exported_of(
    model: "PreTrainedModel | str | Path", embeddings: str = "client", batch: int = 1, length: int | None = None
) -> Exported:
    """A model as its parties hold it: see `compile`."""
    if isinstance(model, str | Path) and is_exported(model):
        folder = read_all(model)
        check_exported(folder, embeddings, batch, length)
        return folder
    require("torch", "transformers")
    from mpcify.conversion.convert import as_student, model_and_source
    from mpcify.lowering.export import TracedStudent

    loaded, source = model_and_source(model)
    student = as_student(loaded)
    if not isinstance(model, str | Path) and student is loaded:  # which may be trained on: it answers as it is now
        student = copy.deepcopy(student)
        student = student if student.dtype.itemsize > 2 else student.float()
    return TracedStudent(student, source, embeddings, batch)


def check_exported(folder: Folder, embeddings: str, batch: int, length: int | None) -> None:
    """Raises MPC-405 for a batch, a length or embeddings that were not exported.

    `client` asks for nothing: it is what is taken if nobody asks.
    """
    if length is not None and not folder.about.task.images:
        folder.graph(length)
    where, again = str(folder.where), "mpcify export MODEL OUT"
    if batch != folder.batch:
        what = f"it was exported for a batch of {folder.batch}, not of {batch}"
        raise MpcifyError(405, where, what, f"ask for that batch, or export again: {again} --batch {batch}")
    if folder.about.task.images:
        refuse_tables(embeddings)
    if embeddings == "one-hot" and folder.about.embeddings == "client":
        what = "it was exported with embeddings client, not one-hot"
        raise MpcifyError(405, where, what, f"leave embeddings out, or export again: {again} --embeddings one-hot")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises MPC-501 for an unknown word."""
    if not isinstance(value, str) or value not in known:
        raise unknown(name, value, f"use one of {', '.join(known)}")


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number as an int. Raises MPC-501 for anything else, and for one below `least` or above `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= (most or int(value)):
        raise unknown(name, value, f"use a whole number from {least} {'on' if most is None else f'to {most}'}")
    return int(value)


def whole_or_none(name: str, value: Any, least: int) -> int | None:
    """A whole number as an int, or None. Raises what `whole` raises."""
    return None if value is None else whole(name, value, least)


def check_switch(name: str, value: Any) -> None:
    """Raises MPC-501 unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise unknown(name, value, "use True or False")


def unknown(name: str, value: Any, remedy: str) -> MpcifyError:
    """The error for a setting that makes no sense."""
    return MpcifyError(501, f"{name} {value!r}"[:80], "there is no such choice", remedy)
