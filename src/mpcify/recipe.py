"""Recipes: which function each layer gets.

A recipe is stored as JSON in the student's `config.json` under `"mpcify"`; what else stands there (calibration, base,
declared ranges) is no part of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mpcify.errors import MpcifyError
from mpcify.jsontext import read_json
from mpcify.replacements.forms import ACTIVATIONS, FORMS, Form

VERSION = 1
OWN = "own"  # the checkpoint's own activation; resolved to a name of ACTIVATIONS by `convert`


@dataclass(frozen=True)
class Recipe:
    """Which function each encoder layer gets.

    attention, activation: one name for all layers, or one a layer. centre_keys: attention takes K − K̄, K̄ the mean
    of the real keys. t: exp_t(x) = (1 + x/2ᵗ)^(2ᵗ) in `softmax-freediv`. version: of this format. Raises MPC-302
    if a field holds anything else.
    """

    attention: str | tuple[str, ...]
    activation: str | tuple[str, ...]
    centre_keys: bool = False
    t: int = 6
    version: int = VERSION

    def __post_init__(self) -> None:
        for field, names in (("attention", tuple(FORMS)), ("activation", (*ACTIVATIONS, OWN))):
            value = getattr(self, field)
            chosen = (value,) if isinstance(value, str) else value
            if not isinstance(chosen, tuple) or not chosen or any(name not in names for name in chosen):
                raise wrong(f"{field} is {value!r}", f"use one of {', '.join(names)}, or a list with one a layer")
        if not isinstance(self.centre_keys, bool):
            raise wrong(f"centre_keys is {self.centre_keys!r}", "use true or false")
        if type(self.t) is not int or not 1 <= self.t <= 10:
            raise wrong(f"t is {self.t!r}", "use a whole number from 1 to 10")
        if self.version != VERSION:
            raise wrong(f"version is {self.version!r}", f"use version {VERSION}, or a newer mpcify")

    def attention_of(self, layer: int) -> str:
        """The attention of an encoder layer, counted from 0."""
        return self.attention if isinstance(self.attention, str) else self.attention[layer]

    def form_of(self, layer: int) -> Form:
        """The form of an encoder layer's attention."""
        return FORMS[self.attention_of(layer)]

    def activation_of(self, layer: int) -> str:
        """The activation of an encoder layer, counted from 0."""
        return self.activation if isinstance(self.activation, str) else self.activation[layer]

    def exp_of(self, layer: int) -> int:
        """t of exp_t in a layer's attention.

        The recipe's under `softmax-freediv`, and under `softmax` beside `gelu-poly` (PUMA approximates both); 8,
        next to exact, under `softmax` otherwise.
        """
        exact = self.form_of(layer).exact and self.activation_of(layer) != "gelu-poly"
        return 8 if exact else self.t

    def approximates(self, layer: int) -> bool:
        """Whether a layer computes what calibration brings nearer to the teacher."""
        return not self.form_of(layer).exact or self.activation_of(layer) == "quad"

    def check_layers(self, count: int) -> None:
        """Raises MPC-303 unless every per-layer list has `count` names."""
        for field in ("attention", "activation"):
            value = getattr(self, field)
            if not isinstance(value, str) and len(value) != count:
                raise MpcifyError(
                    303,
                    f"recipe field {field}",
                    f"it names {len(value)} layers, the model has {count}",
                    "give one name, or as many as the model has encoder layers",
                )

    @property
    def name(self) -> str:
        """The name of the equal named recipe, else `attention+activation` (`mixed` if a field differs per layer).

        Of a model's recipe `StudentConfig.recipe_name` tells the name, which knows the model's own activation.
        """
        for name, recipe in RECIPES.items():
            if recipe == self:
                return name
        words = (field if isinstance(field, str) else "mixed" for field in (self.attention, self.activation))
        return "+".join(words)

    def to_json(self) -> dict[str, Any]:
        """The recipe as a JSON object."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any], *, strict: bool = False) -> "Recipe":
        """The recipe in a JSON object; other keys are ignored, or refused if `strict`. Raises MPC-302."""
        known = {field.name for field in fields(Recipe)}
        missing = {"attention", "activation"} - set(values)
        unknown = set(values) - known if strict else set()
        if missing or unknown:
            problem = f"missing {', '.join(sorted(missing))}" if missing else f"unknown {', '.join(sorted(unknown))}"
            raise wrong(f"fields: {problem}", f"use the fields {', '.join(sorted(known))}")
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
        }
        names = chosen["attention"] if isinstance(chosen["attention"], tuple) else (chosen["attention"],)
        centred = any(form.name in names and form.centre_keys for form in FORMS.values())  # in whichever layer
        return Recipe(**{"centre_keys": centred, **chosen})


def wrong(what: str, remedy: str) -> MpcifyError:
    """The error for a recipe that holds what no recipe can."""
    return MpcifyError(302, "recipe", what, remedy)


RECIPES: dict[str, Recipe] = {
    "exact": Recipe("softmax", OWN),
    "exact-tanh": Recipe("softmax", "gelu-tanh"),
    "puma": Recipe("softmax", "gelu-poly"),
    "mpcformer": Recipe("2quad", "quad"),
    "2quad-freediv": Recipe("2quad-freediv", "quad", centre_keys=True),
    "softmax-freediv": Recipe("softmax-freediv", "quad", centre_keys=True),
}


def read_recipe(name: str | Path | Recipe) -> Recipe:
    """A recipe as it is, by its name, or from a JSON file.

    Raises MPC-301 for an unknown name, MPC-302 for a wrong file.
    """
    if isinstance(name, Recipe):
        return name
    if str(name) in RECIPES:
        return RECIPES[str(name)]
    path = Path(name)
    if path.suffix != ".json":
        raise MpcifyError(
            301, f"recipe {name}", "no recipe has this name", f"use one of {', '.join(RECIPES)}, or a JSON file"
        )
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise MpcifyError(301, str(path), "no such recipe file", "check the path") from None
    except (OSError, ValueError):
        raise MpcifyError(302, str(path), "the file is not JSON", "write the recipe as one JSON object") from None
    if not isinstance(values, dict):
        raise MpcifyError(302, str(path), "the file holds no JSON object", "write the recipe as one JSON object")
    return Recipe.from_json(values, strict=True)
