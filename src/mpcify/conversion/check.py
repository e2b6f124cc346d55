"""What a conversion would change, before anything changes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from mpcify.conversion.config import config_values, read_config
from mpcify.conversion.convert import examine, model_and_source, task_of
from mpcify.conversion.families import OWN_ACTIVATIONS, TESTED, Blocker, UnsupportedError
from mpcify.conversion.student import is_student, recipe_of, student_config
from mpcify.conversion.survey import own_activation_name
from mpcify.errors import MpcifyError

Kind = Literal["replace", "keep"] | Blocker
# How final a blocker is that does not say so itself, by its error code.
BLOCKERS: dict[int, Blocker] = {
    203: "not-yet",
    204: "not-yet",
    205: "config",
    206: "config",
    208: "config",
    401: "not-yet",
}


@dataclass(frozen=True)
class Finding:
    """One finding: its code, the module, what would happen to it, and the remedy if it blocks.

    kind: replace (a recipe swaps it), keep (it stays exact), not-yet, never or config (a blocker).
    """

    code: str
    module: str
    kind: Kind
    what: str
    remedy: str = ""

    @property
    def blocks(self) -> bool:
        """Whether the model cannot be converted as it is."""
        return self.kind in ("not-yet", "never", "config")


def blocker(problem: MpcifyError) -> Finding:
    """The finding for an error that stands in a conversion's way; raises the error itself if it is another."""
    if problem.code not in BLOCKERS:
        raise problem
    kind = problem.kind if isinstance(problem, UnsupportedError) else BLOCKERS[problem.code]
    return Finding(f"MPC-{problem.code}", problem.where, kind, problem.what, problem.remedy)


def check(model: PreTrainedModel | str | Path) -> list[Finding]:
    """What a model's files, config and one forward show: `mpcify.check` without the proof of its graph."""
    try:
        model, _ = model_and_source(model)
        found = examine(model)
    except MpcifyError as problem:
        return [blocker(problem)]
    recipe = recipe_of(model)
    own = student_config(model).own_activation if is_student(model) else own_activation_name(model.config)
    findings = []
    for index, site in enumerate(found.layers):
        attention = f"{recipe.attention_of(index)} attention, {site.heads} heads"
        activation = recipe.activation_of(index) if is_student(model) else own
        findings.append(Finding("attention", site.attention, "replace", attention))
        findings.append(Finding("activation", site.activation, "replace", f"{activation} activation"))
    findings += [
        Finding("head", module, "keep", f"{function} on one vector: stays exact under every recipe")
        for module, function in found.kept
    ]
    if model.config.model_type not in TESTED:
        what = "no test of ours covers this family: its trace and its graph are proven for this model"
        findings.append(Finding("family", model.config.model_type, "keep", what))
    if own not in OWN_ACTIVATIONS:
        what = f"the model's own activation {own!r} has no secure form, so recipe `exact` does not fit"
        findings.append(Finding("activation", "config", "keep", what))
    return findings


def identify(path: str | Path) -> tuple[str | None, str | None]:
    """Family and task of a checkpoint, from its config alone; None for others. Raises MPC-201, MPC-202."""
    family = config_values(path).get("model_type")
    try:
        config = read_config(path)
        return family, task_of(config, (config.architectures or [""])[0]).name
    except MpcifyError:
        return family, None
