"""What a student's config.json says under "mpcify", and its declared ranges, as long as they are of its values."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from mpcify.conversion.facts import table_digest, weights_digest, word_table
from mpcify.conversion.families import OWN_ACTIVATIONS
from mpcify.errors import MpcifyError
from mpcify.graph.ranges import Ranges
from mpcify.recipe import Recipe, read_recipe
from mpcify.replacements.forms import GELUS
from mpcify.replacements.modules import Activation
from mpcify.requests.text import BUCKETS

ENOUGH = 20  # texts that teach a student a bucket; of fewer than 2,000 in all, one in a hundred
RECIPE = frozenset(field.name for field in fields(Recipe))


@dataclass(frozen=True)
class LayerSites:
    """Where an encoder layer's functions live, as module paths."""

    layer: str
    attention: str
    activation: str
    heads: int


@dataclass(frozen=True)
class Base:
    """The public checkpoint whose word table a student holds: its name, and the table's SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class StudentConfig:
    """What stands under "mpcify" in config.json.

    own_activation: the teacher's, by its name in transformers. layers: one entry an encoder layer. calibrated: whether
    calibration was done; refit: whether it had the teacher (None before any). base: None if the table is the owner's.
    ranges: as declared, {operation: {quantity: [least, largest]}}; read them with `ranges_of`. weights_sha256,
    settings_sha256: of the weights and the settings (see `settings_digest`) that they were measured with.
    taught: how many texts of each bucket it was distilled on, or else calibrated;
    {} if that is not known, and for images.
    """

    recipe: Recipe
    own_activation: str
    layers: tuple[LayerSites, ...]
    calibrated: bool = False
    refit: bool | None = None
    base: Base | None = None
    ranges: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    settings_sha256: str | None = None
    taught: Mapping[int, int] = field(default_factory=dict)

    @property
    def recipe_name(self) -> str:
        """The recipe's name: `exact` if all its functions are the teacher's own, whatever they are called."""
        own = OWN_ACTIVATIONS.get(self.own_activation)
        exact = self.recipe.attention == "softmax" and self.recipe.activation == own
        return "exact" if exact else self.recipe.name

    @property
    def approximates(self) -> bool:
        """Whether some layer computes what calibration and distillation bring nearer to the teacher."""
        return any(self.recipe.approximates(layer) or self.strange(layer) for layer in range(len(self.layers)))

    def strange(self, layer: int) -> bool:
        """Whether a layer's activation is another function than the teacher's; all forms of GELU count as one."""
        names = OWN_ACTIVATIONS.get(self.own_activation), self.recipe.activation_of(layer)
        return names[0] != names[1] and not GELUS.issuperset(names)

    @property
    def taught_enough(self) -> tuple[int, ...] | None:
        """The buckets of at least ENOUGH texts, or of one in a hundred; None if unknown, or if nothing is taught."""
        if not (self.taught and self.approximates):
            return None
        least = min(ENOUGH, sum(self.taught.values()) / 100)
        return tuple(bucket for bucket, count in sorted(self.taught.items()) if count >= least)

    def to_json(self) -> dict[str, Any]:
        """The JSON object; the recipe's fields stand in it beside the others."""
        optional = {"refit": self.refit, "ranges": self.ranges or None, "weights_sha256": self.weights_sha256}
        optional["settings_sha256"] = self.settings_sha256
        optional["taught"] = {str(bucket): count for bucket, count in sorted(self.taught.items())} or None
        return {
            **self.recipe.to_json(),
            "own_activation": self.own_activation,
            "calibrated": self.calibrated,
            "base": None if self.base is None else asdict(self.base),
            "layers": [asdict(site) for site in self.layers],
            **{name: value for name, value in optional.items() if value is not None},
        }

    @staticmethod
    def from_json(values: Any) -> "StudentConfig":
        """What a JSON object says. Raises MPC-302 for its recipe, MPC-202 for a field that is unknown or wrong."""
        if not isinstance(values, Mapping):
            raise wrong('what stands under "mpcify"', "is no JSON object")
        recipe = Recipe.from_json(values)
        known = {item.name for item in fields(StudentConfig)} - {"recipe"}
        if unknown := sorted(values.keys() - known - RECIPE):
            what = f'"mpcify" in config.json has unknown fields: {", ".join(unknown)}'
            raise MpcifyError(202, "config.json", what, "use a newer mpcify, or convert the model again")
        given = {name: value for name, value in values.items() if name in known}
        given["layers"] = sites_of(given.get("layers"))
        given["base"] = base_of(given.get("base"))
        given["ranges"] = given.get("ranges") or {}
        given["taught"] = taught_of(given.get("taught", {}))
        for name, kinds in TYPES.items():
            if not isinstance(given.get(name), kinds):
                raise wrong(f'{name} under "mpcify"', f"is {given.get(name)!r}"[:80])
        return StudentConfig(recipe, **given)


TYPES: dict[str, tuple[type, ...]] = {
    "own_activation": (str,),
    "calibrated": (bool,),
    "refit": (bool, type(None)),
    "weights_sha256": (str, type(None)),
    "settings_sha256": (str, type(None)),
}


def wrong(what: str, problem: str) -> MpcifyError:
    """The error for a field that holds what `convert` never writes."""
    return MpcifyError(202, "config.json", f"{what} in config.json {problem}", "convert the model again")


def sites_of(values: Any) -> tuple[LayerSites, ...]:
    """The layers of a config. Raises MPC-202."""
    try:
        return tuple(LayerSites(**site) for site in values)
    except TypeError:
        raise wrong('the layers under "mpcify"', "are not a model's") from None


def base_of(values: Any) -> Base | None:
    """The base of a config, if there is one. Raises MPC-202."""
    try:
        return Base(**values) if values else None
    except TypeError:
        raise wrong('the base under "mpcify"', "is not a name and a digest") from None


def taught_of(values: Any) -> dict[int, int]:
    """The texts of each bucket in a config. Raises MPC-202."""
    known = {str(bucket): bucket for bucket in BUCKETS}
    if not isinstance(values, Mapping) or not all(
        bucket in known and type(count) is int and count > 0 for bucket, count in values.items()
    ):
        raise wrong('taught under "mpcify"', "is not the texts of each bucket")
    return {known[bucket]: count for bucket, count in values.items()}


def is_student(model: PreTrainedModel) -> bool:
    """Whether a model went through `convert`."""
    return getattr(model.config, "mpcify", None) is not None


def student_config(model: PreTrainedModel) -> StudentConfig:
    """What a student's config says. Raises MPC-207 for any other model, and what `from_json` raises."""
    if not is_student(model):
        raise MpcifyError(207, type(model).__name__, "the model is not a student", "convert it first")
    return StudentConfig.from_json(model.config.mpcify)


def update_config(student: PreTrainedModel, **changes: Any) -> None:
    """Sets some fields of a student's config."""
    student.config.mpcify = replace(student_config(student), **changes).to_json()


def recipe_of(model: PreTrainedModel) -> Recipe:
    """A student's recipe; `exact` for any other model."""
    return student_config(model).recipe if is_student(model) else read_recipe("exact")


def recipe_name(model: PreTrainedModel) -> str:
    """The name of a student's recipe; `exact` for any other model."""
    return student_config(model).recipe_name if is_student(model) else "exact"


def encoder_layers(model: PreTrainedModel) -> tuple[LayerSites, ...]:
    """Where a student's functions live, one entry an encoder layer. Raises MPC-207."""
    return student_config(model).layers


def table_is_public(student: PreTrainedModel) -> bool:
    """Whether a student's table is, bit for bit, the public one that `config.json` records."""
    base = student_config(student).base
    return base is not None and base.sha256 == table_digest(word_table(student))


def settings_digest(student: nn.Module) -> str:
    """SHA-256 of what decides a student's values beside its weights: its functions, LayerNorms' ε and scores' scale."""
    told = ("eps", "scaling", "mpcify_attention", "mpcify_centre_keys", "mpcify_t")
    found: list[Any] = []
    for name, module in student.named_modules():
        values = {field: vars(module)[field] for field in told if field in vars(module)}
        if isinstance(module, Activation):
            values["activation"] = module.name
        if values:
            found.append((name, values))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def set_ranges(student: PreTrainedModel, ranges: Ranges) -> None:
    """Declares a student's ranges: those of its present weights, c and γ among them, and settings."""
    declared = {name: {key: list(pair) for key, pair in entry.items()} for name, entry in ranges.items()}
    digests = {"weights_sha256": weights_digest(student), "settings_sha256": settings_digest(student)}
    update_config(student, ranges=declared, **digests)


def bind_ranges(student: PreTrainedModel) -> None:
    """Takes ranges that do not say which weights and settings they were measured with for those of the present ones.

    Earlier versions wrote no digests. Done once, when such a student is loaded.
    """
    config = student_config(student)
    if config.ranges and config.weights_sha256 is None:
        update_config(student, weights_sha256=weights_digest(student))
    if config.ranges and config.settings_sha256 is None:
        update_config(student, settings_sha256=settings_digest(student))


def ranges_of(student: PreTrainedModel) -> Ranges:
    """The ranges that a student declares; {} if none, or if a weight or a setting has changed since they were measured.

    Raises MPC-202 for what is not ranges, such as one that ends before it begins.
    """
    config = student_config(student)
    try:
        found = {
            name: {quantity: (float(least), float(largest)) for quantity, (least, largest) in entry.items()}
            for name, entry in config.ranges.items()
        }
    except (AttributeError, TypeError, ValueError, OverflowError):
        found = {"": {"": (1.0, 0.0)}}
    if any(not least <= largest for entry in found.values() for least, largest in entry.values()):
        what = 'the ranges under "mpcify" in config.json are not ranges'
        raise MpcifyError(202, "config.json", what, "calibrate the student again, or distill it")
    if found and config.settings_sha256 not in (None, settings_digest(student)):
        return {}
    if found and config.weights_sha256 not in (None, weights_digest(student)):
        return {}
    return found
