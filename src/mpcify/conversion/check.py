"""What a conversion would change, before anything changes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from mpcify.conversion.convert import examine, is_student, load_model, recipe_of
from mpcify.conversion.families import OWN_ACTIVATIONS, TESTED
from mpcify.conversion.trace import own_activation_name
from mpcify.errors import MpcifyError

Kind = Literal["replace", "keep", "not-yet", "never", "config"]
# How final a blocker is, by its error code: never can no release lift it, not-yet a later one may, config the user can.
BLOCKERS: dict[int, Kind] = {203: "not-yet", 204: "not-yet", 205: "config", 206: "config"}


@dataclass(frozen=True)
class Finding:
    """One finding: its code, the module, what would happen to it, and the remedy where it blocks.

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


def check(model: PreTrainedModel | str | Path) -> list[Finding]:
    """Every finding about a model or a checkpoint; the model is untouched.

    Raises MPC-201 and MPC-202 where there is no checkpoint to look at; what blocks a conversion is a finding.
    """
    try:
        if isinstance(model, str | Path):
            model = load_model(model)
        found = examine(model)
    except MpcifyError as problem:
        if problem.code not in BLOCKERS:
            raise
        kind: Kind = "never" if "decoder" in problem.what else BLOCKERS[problem.code]
        return [Finding(f"MPC-{problem.code}", problem.where, kind, problem.what, problem.remedy)]
    recipe = recipe_of(model)
    own = model.config.mpcify["own_activation"] if is_student(model) else own_activation_name(model.config)
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
        what = "no test of ours covers this family: its trace is proven, and its graph where it is written or run"
        findings.append(Finding("family", model.config.model_type, "keep", what))
    if own not in OWN_ACTIVATIONS:
        what = f"the model's own activation {own!r} has no secure form, so recipe `exact` does not fit"
        findings.append(Finding("activation", "config", "keep", what))
    return findings
