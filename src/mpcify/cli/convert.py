"""mpcify convert MODEL OUT --recipe NAME: from a teacher to a student."""

from typing import Annotated

import typer

from mpcify.cli.early import check_model
from mpcify.cli.options import ColumnNames, Model, Out
from mpcify.cli.verb import Answer, verb
from mpcify.files import new_folder, refuse_taken
from mpcify.recipe import RECIPES, read_recipe

RecipeName = Annotated[str, typer.Option(metavar="NAME|FILE", help=f"{', '.join(RECIPES)}, or a JSON file.")]
Calibration = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="About 1,000 training texts or images to calibrate on; no labels needed."),
]


@verb
def convert(
    model: Model, out: Out, columns: ColumnNames, recipe: RecipeName, calibration: Calibration = None
) -> Answer:
    """Swap a model's functions for a recipe's, calibrate it against MODEL, and write the student."""
    columns.refuse_without("--calibration", calibration)
    chosen = read_recipe(recipe)
    refuse_taken(out)
    from mpcify.data.files import read_examples

    examples = None if calibration is None else read_examples(calibration, labels=False, **columns.keywords())
    check_model(model)
    from mpcify.conversion.convert import convert as converted
    from mpcify.conversion.convert import load_model
    from mpcify.conversion.folder import copy_companions
    from mpcify.conversion.student import recipe_name
    from mpcify.lowering.calibrate import calibrate
    from mpcify.lowering.prove import prove_equal

    with new_folder(out) as folder:
        teacher = load_model(model)
        student = converted(teacher, chosen)
        prove_equal(student, model)
        if examples is not None:
            calibrate(student, examples, teacher)
        student.save_pretrained(folder)
        copy_companions(model, folder)
    name = recipe_name(student)
    values = {"model": model, "out": str(out), "recipe": name, "calibrated": examples is not None}
    return Answer(values, f"{out}: {name}, {'calibrated' if examples is not None else 'not calibrated'}")
