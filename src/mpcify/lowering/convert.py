"""`mpcify.convert`: a converted copy of a model, calibrated and with declared ranges if there is data for it."""

from pathlib import Path

from transformers import PreTrainedModel

from mpcify.conversion import convert as conversion
from mpcify.data.files import Examples
from mpcify.lowering.calibrate import Batches, calibrate
from mpcify.recipe import Recipe


def convert(
    model: PreTrainedModel | str | Path, recipe: str | Path | Recipe, calibration: Examples | Batches | None = None
) -> PreTrainedModel:
    """A converted copy of a model, a folder or a hub name; the original is untouched.

    recipe: a name, a JSON file or a Recipe. A student converts on to another recipe, and keeps c and γ if both have
    them. The copy is proven by its trace. calibration: what `calibrate` takes; the copy is calibrated with `model` as
    its teacher, and declares its ranges. Raises MPC-201 to MPC-206 for a model that cannot be converted, MPC-301 to
    MPC-303 for a recipe, and what `calibrate` raises.
    """
    teacher, _ = conversion.model_and_source(model)
    student = conversion.convert(teacher, recipe)
    if calibration is not None:
        calibrate(student, calibration, teacher)
    return student
