"""The rows of a distillation: what a student is taught on, chosen on, calibrated on and measured on."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.utils.data import Dataset, Subset
from transformers import PreTrainedModel

from mpcify.conversion.facts import takes_images
from mpcify.conversion.rows import (
    LONGEST,
    mixed_rows,
    pick,
    readable,
    rows_of,
    usable_labels,
)
from mpcify.data.files import Examples
from mpcify.distillation.settings import Settings
from mpcify.distillation.trainer import DistillationArguments, hold_out
from mpcify.errors import MpcifyError


@dataclass(frozen=True)
class Data:
    """What a distillation reads, and its rows.

    train, texts, evaluation: the examples as they were given. held_out: how many of `train` are not taught.
    taught: an epoch's rows, pieces included. selection: the same of what is held out. measured: the evaluation's rows.
    asked: the examples that check the teacher, those of `train` if they have labels of the model's. labelled: some of
    these, with their labels if there are any. calibration: some rows and pieces of all of `train`. ranges: the same, of
    longer texts too.
    """

    train: Examples
    texts: Examples | None
    evaluation: Examples
    held_out: int
    taught: Dataset
    selection: Dataset
    measured: Dataset
    asked: Examples
    labelled: Dataset
    calibration: Dataset
    ranges: Dataset


def prepare(
    train: Examples,
    texts: Examples | None,
    evaluation: Examples,
    student: PreTrainedModel,
    processor: Any,
    settings: Settings,
    args: DistillationArguments,
) -> Data:
    """Encodes, holds out and draws.

    Raises what `rows_of`, `readable`, `usable_labels`, `hold_out` and `checked` raise.
    """
    longest, count = settings.max_length, settings.calibration
    known = usable_labels(train, student)
    whole = rows_of(known, student, processor, longest)  # all of them: it names the row of one that cannot be read
    measured = rows_of(evaluation, student, processor, longest)
    asked, rows = (evaluation, measured) if known.labels is None else (train, whole)
    readable(train, student, processor)
    general = [] if texts is None else checked(texts, student, processor)
    # a general text alone is in both parts
    parts = hold_out(len(general), args) if len(general) > 1 else (range(len(general)),) * 2
    kept, held = hold_out(len(train), args)
    chosen = pick(len(train), count, settings.seed)
    mixed = partial(mixed_rows, model=student, processor=processor, seed=settings.seed, warn=False)
    taught, selection = (
        mixed(train.select(places), max_length=longest, general=[general[place] for place in part], repeats=repeats)
        for places, part, repeats in ((kept, parts[0], settings.repeats), (held, parts[1], 1))
    )
    both: Any = [mixed(train.select(chosen), max_length=tokens, general=general) for tokens in (longest, LONGEST)]
    calibration, ranges = both
    return Data(
        train=train,
        texts=texts,
        evaluation=evaluation,
        held_out=len(held),
        taught=taught,
        selection=selection,
        measured=measured,
        asked=asked,
        labelled=Subset(rows, pick(len(asked), count, settings.seed)),
        calibration=Subset(calibration, pick(len(calibration), count, settings.seed)),
        ranges=Subset(ranges, pick(len(ranges), count, settings.seed)),
    )


def checked(texts: Examples, student: PreTrainedModel, processor: Any) -> list[str]:
    """Texts to learn from, each of which the student can read.

    Raises MPC-103 for pairs, and if the student reads images; for a text what `TextRequests.check` raises.
    """
    if takes_images(student):
        raise MpcifyError(103, texts.source, "the student reads images, and these are texts", "leave the texts out")
    if texts.kind != "single":
        raise MpcifyError(103, texts.source, "texts to learn from are single", "read them with `read_texts`")
    return readable(texts, student, processor).texts
