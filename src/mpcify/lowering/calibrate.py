"""Calibration: a student's first weights, and the ranges that its values stay in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mpcify.conversion.batches import model_inputs
from mpcify.conversion.blocks import on_cpu
from mpcify.conversion.calibrate import calibrate_layers
from mpcify.conversion.facts import longest_text, takes_images, word_table
from mpcify.conversion.processors import read_processor
from mpcify.conversion.rows import LONGEST, calibration_batches, collator, lengths_taught, mixed_rows, pick, readable
from mpcify.conversion.student import set_ranges, student_config, update_config
from mpcify.data.files import Examples
from mpcify.engines.plain import measure_ranges
from mpcify.errors import MpcifyError
from mpcify.graph.about import sides
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import Ranges, declare, merge
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from mpcify.progress import progress_bar
from mpcify.requests.images import client_patches, unfold
from mpcify.requests.text import Encoded, client_inputs

Batches: TypeAlias = Iterable[Mapping[str, Tensor]]
AT_ONCE = 16  # inputs that are measured together
DRAWN = 1000  # texts or images; more cost memory and change little
LONGEST_FOR_LAYERS = 128  # tokens
SHORTEST = 16  # tokens that a text is padded to


def calibrate(student: PreTrainedModel, batches: Examples | Batches, teacher: PreTrainedModel | None = None) -> None:
    """Brings a student's layers near its teacher's (see `calibrate_layers`), and declares the ranges of its values.

    batches: about 1,000 texts or images in all: dicts of `input_ids`, `attention_mask` (batch, n) and what else the
    model takes, or of `pixel_values`. Or Examples, as `read_examples` reads them from a file: 1,000 of them and of
    their pieces (see `mixed_rows`) are drawn, and encoded by the tokenizer or image processor beside the checkpoint
    that the student came from; layers see texts of at most 128 tokens, ranges longer ones too. The config keeps how
    many texts of each bucket the layers saw (`taught`).
    Raises what `calibrate_layers` and `declare_ranges` raise, and for examples what `rows_of` raises.
    """
    layers, ranges = drawn(batches, student) if isinstance(batches, Examples) else (list(batches),) * 2
    calibrate_layers(student, layers, teacher)
    if not takes_images(student):
        rows = [{"input_ids": item.ids} for item in inputs_of(student, layers)]
        update_config(student, taught=lengths_taught(rows))
    declare_ranges(student, ranges)


def drawn(examples: Examples, student: PreTrainedModel) -> tuple[list[dict[str, Tensor]], ...]:
    """Some of the examples and pieces of them as batches: for layers, and for ranges."""
    some = examples.select(pick(len(examples), DRAWN, seed=0))
    processor = read_processor(student.name_or_path, student)
    readable(some, student, processor)

    def batches(longest: int, warn: bool = True) -> list[dict[str, Tensor]]:
        rows: Any = mixed_rows(some, student, processor, longest, warn=warn)
        return calibration_batches(rows, pick(len(rows), DRAWN, seed=0), collator(student))

    layers = batches(LONGEST_FOR_LAYERS)
    return layers, layers if takes_images(student) else batches(LONGEST, warn=False)


def declare_ranges(student: PreTrainedModel, batches: Batches) -> None:
    """Measures a student's ranges on calibration inputs in floats, adds the margins, and stores them in its config.

    They travel with the checkpoint, and every engine proves at compile time that nothing overflows inside them.
    batches: as `calibrate` takes them. Raises what `model_inputs` does for a batch, MPC-108 if there are none,
    MPC-207 for a model that is no student.
    """
    student_config(student)  # it is a student
    items = list(inputs_of(student, batches))
    if not items:
        raise MpcifyError(108, "calibration", "there is nothing to measure ranges on", "give some training texts")
    table = None if takes_images(student) else word_table(student)
    measured: Ranges = {}
    groups, done = by_length(items, student), 0
    with progress_bar("ranges, inputs", len(items)) as advance, on_cpu(student):

        def requests(graph: Graph, chosen: Sequence[Any]) -> Iterator[dict[str, np.ndarray]]:
            nonlocal done
            for start in range(0, len(chosen), AT_ONCE):
                chunk = chosen[start : start + AT_ONCE]
                yield client_patches(chunk, graph) if table is None else client_inputs(chunk, graph, table)
                advance(done := done + len(chunk))

        for length in sorted(groups):
            graph, weights = lower(*trace_graph(student, AT_ONCE, length))
            measured = merge(measured, measure_ranges(graph, weights, requests(graph, groups[length])))
    set_ranges(student, declare(graph, measured))


def inputs_of(student: PreTrainedModel, batches: Batches) -> Iterator[Any]:
    """What each row of the batches is to a client: its tokens, or its patches (N, P)."""
    for batch in batches:
        inputs = {name: value.cpu() for name, value in model_inputs(student, batch).items()}
        if takes_images(student):
            patch = sides(student.config.patch_size)
            yield from (unfold(np.asarray(pixels), patch) for pixels in inputs["pixel_values"])
            continue
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids)) > 0
        types = inputs.get("token_type_ids", torch.zeros_like(ids))
        for row, segment, real in zip(ids, types, mask, strict=True):
            yield Encoded(tuple(row[real].tolist()), tuple(segment[real].tolist()))


def by_length(items: Sequence[Any], student: PreTrainedModel) -> dict[int, list[Any]]:
    """Inputs by the power of two that they are padded to (a graph each; padding changes no range); 0 for images."""
    if takes_images(student):
        return {0: list(items)}
    longest, groups = longest_text(student), dict[int, list[Any]]()
    for item in items:
        length = max(SHORTEST, 1 << (len(item) - 1).bit_length())
        groups.setdefault(min(length, longest), []).append(item)
    return groups
