"""From a teacher to a student: the same architecture and weights, with the recipe's functions."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.activations import ACT2FN

from mpcify.conversion import trace
from mpcify.conversion.families import OWN_ACTIVATIONS, REFUSED, TASKS, family_of
from mpcify.conversion.trace import LayerSites, Survey
from mpcify.errors import MpcifyError
from mpcify.recipe import ACTIVATIONS, OWN, Recipe, read_recipe
from mpcify.replacements.modules import IMPLEMENTATION, Activation, install_attention

OURS = "mpcify-"  # no other library knows an activation of this name, so a student never loads as an exact model


def is_student(model: PreTrainedModel) -> bool:
    """Whether a model went through `convert`."""
    return getattr(model.config, "mpcify", None) is not None


def recipe_of(model: PreTrainedModel) -> Recipe:
    """A student's recipe; `exact` for a model that is none."""
    return Recipe.from_json(model.config.mpcify) if is_student(model) else read_recipe("exact")


def encoder_layers(model: PreTrainedModel) -> list[LayerSites]:
    """Where a student's functions live, one entry an encoder layer. Raises MPC-207."""
    if not is_student(model):
        raise MpcifyError(207, type(model).__name__, "the model is not a student", "convert it first")
    return [LayerSites(**site) for site in model.config.mpcify["layers"]]


@contextmanager
def our_activations() -> Iterator[None]:
    """While open, transformers finds our activations by name; afterwards it does not (see OURS)."""
    names = [OURS + name for name in ACTIVATIONS]
    for name in names:
        dict.__setitem__(ACT2FN, name, (Activation, {"name": name.removeprefix(OURS)}))
    try:
        yield
    finally:
        for name in names:
            dict.__delitem__(ACT2FN, name)


def student_class(teacher: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of a teacher's students.

    The teacher's own, under its own name, that builds the recipe in its config.
    """

    class Student(teacher):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            with our_activations():
                super().__init__(config, *args, **kwargs)
            install(self)

    Student.__name__, Student.__qualname__, Student.__module__ = (
        teacher.__name__,
        teacher.__qualname__,
        teacher.__module__,
    )
    return Student


def install(model: PreTrainedModel) -> None:
    """Puts the functions of the recipe in `config.mpcify` in their places.

    Activations outside the encoder stay exact.
    """
    recipe, inner = Recipe.from_json(model.config.mpcify), set()
    for index, site in enumerate(encoder_layers(model)):
        attention = model.get_submodule(site.attention)
        name = recipe.attention_of(index)
        install_attention(attention, name, site.heads, centre_keys=recipe.centre_keys, t=recipe.exp_of(index))
        model.set_submodule(site.activation, Activation(recipe.activation_of(index)))
        inner.add(site.activation)
    for name, module in list(model.named_modules()):
        if isinstance(module, Activation) and name not in inner:
            model.set_submodule(name, ACT2FN[model.config.mpcify["own_activation"]])


def teacher_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The transformers class of a teacher or a student."""
    return type(model).__mro__[1] if is_student(model) else type(model)


def teacher_config(model: PreTrainedModel) -> Any:
    """The config with which the model's teacher was built (a copy)."""
    return teacher_config_of(model.config)


def teacher_config_of(config: Any) -> Any:
    """A student's config as its teacher's, a teacher's as it is (a copy)."""
    config = copy.deepcopy(config)
    if getattr(config, "mpcify", None) is not None:
        setattr(config, family_of(config.model_type).activation_field, config.mpcify["own_activation"])
        del config.mpcify
    return config


def task_of(config: Any, architecture: str) -> str:
    """classification, regression or image-classification. Raises MPC-203 for any other task."""
    task = next((task for suffix, task in TASKS.items() if architecture.endswith(suffix)), None)
    if task is None:
        remedy = "use a model for sequence or image classification, or for regression"
        raise MpcifyError(203, architecture, "its task is not supported", remedy)
    if config.problem_type == "multi_label_classification":
        raise MpcifyError(
            203, architecture, "it has several labels an example", "use a model with one label an example"
        )
    regression = config.problem_type == "regression" or (config.problem_type is None and config.num_labels == 1)
    if regression and config.num_labels != 1:
        raise MpcifyError(203, architecture, "it predicts several values at once", "use a model with one output")
    if regression and task == "image-classification":
        raise MpcifyError(203, architecture, "it predicts a value from an image", "use an image classifier")
    return "regression" if regression else task


def refuse_unsupported(model: PreTrainedModel) -> None:
    """Raises the first reason, known without a trace, why a model cannot be converted (MPC-203, MPC-205, MPC-206)."""
    config = model.config
    if config.model_type in REFUSED:
        remedy = "use a model of a tested family: bert, roberta, distilbert, electra, vit"
        raise MpcifyError(203, config.model_type, REFUSED[config.model_type], remedy)
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise MpcifyError(203, config.model_type, "it is a decoder, or has cross-attention", "use an encoder")
    task_of(config, teacher_class(model).__name__)
    attention = config._attn_implementation
    if attention not in ("eager", "sdpa", "flash_attention_2", "flex_attention", IMPLEMENTATION):
        raise trace.customised("attention", f"the model runs with the attention {attention!r}")
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise MpcifyError(
                205, name, "the tensor holds values that are not finite", "train or download the model again"
            )


def examine(model: PreTrainedModel) -> Survey:
    """What a model's encoder layers call, proven by a traced forward. Raises MPC-203 to MPC-206."""
    refuse_unsupported(model)
    kind, config = teacher_class(model), teacher_config(model)
    if is_student(model):
        return Survey(tuple(encoder_layers(model)), count_calls(model), ())
    found, twin = trace.survey(kind, config)
    trace.refuse_strangers(model, twin)
    return found


def count_calls(student: PreTrainedModel) -> int:
    """How many attentions one forward of a student calls (more than it has modules, where layers are shared)."""
    layers = getattr(student.config, "num_hidden_layers", None) or getattr(student.config, "n_layers", 0)
    return int(layers or 0)


def convert(model: PreTrainedModel, recipe: str | Path | Recipe) -> PreTrainedModel:
    """A converted copy of a model; the original is untouched.

    recipe: a name, a JSON file or a Recipe. A student converts on to another recipe, and keeps c and γ where both have
    them. The copy is proven by its trace. Raises MPC-203 to MPC-206 for a model that cannot be converted, MPC-301 to
    MPC-303 for a recipe.
    """
    recipe = read_recipe(recipe)
    found = examine(model)
    config, kind = teacher_config(model), teacher_class(model)
    own = trace.own_activation_name(config)
    recipe = resolve(recipe, own)
    recipe.check_layers(len(found.layers))
    config.mpcify = {
        **recipe.to_json(),
        "own_activation": own,
        "calibrated": False,
        "base": model.config.mpcify.get("base") if is_student(model) else None,
        "layers": [vars(site) for site in found.layers],
    }
    setattr(config, family_of(config.model_type).activation_field, OURS + recipe.activation_of(0))
    student = student_class(kind)._from_config(config, attn_implementation=IMPLEMENTATION, dtype=torch.float32)
    carry_over(model, student)
    student.train(model.training)
    trace.prove(student, found.attention_calls)
    return student


def resolve(recipe: Recipe, own: str) -> Recipe:
    """The recipe with the checkpoint's own activation by its name.

    Raises MPC-303 where secure computation has none for it.
    """

    def name(activation: str) -> str:
        if activation != OWN:
            return activation
        if own not in OWN_ACTIVATIONS:
            remedy = "use a recipe that names the activation"
            raise MpcifyError(303, "recipe", f"the model's own activation {own!r} has no secure form", remedy)
        return OWN_ACTIVATIONS[own]

    activation = recipe.activation
    resolved = name(activation) if isinstance(activation, str) else tuple(map(name, activation))
    return Recipe(recipe.attention, resolved, recipe.centre_keys, recipe.t)


def carry_over(model: PreTrainedModel, student: PreTrainedModel) -> None:
    """Copies every weight; c and log γ of the student that the model does not have stay as `install` set them."""
    own = {name for name, _ in student.named_parameters() if name.rsplit(".", 1)[-1] in ("c", "log_gamma")}
    missing, unexpected = student.load_state_dict(dict(model.state_dict()), strict=False)
    strangers = [name for name in missing if name not in own]
    strangers += [name for name in unexpected if name.rsplit(".", 1)[-1] not in ("c", "log_gamma")]
    if strangers:
        raise trace.customised(strangers[0], "the weight is missing, or nothing in the model's class reads it")


def read_config(path: str | Path) -> Any:
    """The config of a local folder or a hub name. Raises MPC-201, MPC-202."""
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise MpcifyError(202, str(path), "the folder has no config.json", "name the folder that save_pretrained wrote")
    if folder.is_file():
        raise MpcifyError(202, str(path), "this is a file", "name the folder that holds it")
    try:
        return AutoConfig.from_pretrained(str(path))
    except (OSError, ValueError, KeyError) as problem:
        if folder.is_dir():
            raise MpcifyError(
                202, str(path), "config.json is not that of a known model", "save the model with save_pretrained"
            ) from problem
        raise MpcifyError(
            201, str(path), "no such folder, and no such name on the hub within reach", "check the path"
        ) from problem


def load_model(path: str | Path) -> PreTrainedModel:
    """A checkpoint as it is stored, teacher or student, float32, in evaluation mode.

    Raises MPC-201 to MPC-203, MPC-205.
    """
    config = read_config(path)
    architecture = (config.architectures or [""])[0]
    task_of(config, architecture)
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise MpcifyError(203, architecture, "transformers has no such class", "use a model that transformers knows")
    converted = getattr(config, "mpcify", None) is not None
    if converted:
        prove_sites(path, kind, config)
        kind = student_class(kind)
    options = {"attn_implementation": IMPLEMENTATION} if converted else {}
    try:
        model, report = kind.from_pretrained(
            str(path),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # the other format is pickle, which runs what its author likes
            output_loading_info=True,
            **options,
        )
    except MpcifyError:
        raise
    except Exception as problem:
        raise MpcifyError(
            202,
            str(path),
            "the weights cannot be read as safetensors, or do not fit config.json",
            "save the model again, with save_pretrained",
        ) from problem
    if report["missing_keys"] or report.get("mismatched_keys"):
        name = sorted(map(str, report["missing_keys"] or report["mismatched_keys"]))[0]
        raise MpcifyError(
            202, str(path), f"the checkpoint lacks {name}", "fine-tune the model for its task, and save it"
        )
    return model.eval()


def prove_sites(path: str | Path, kind: type[PreTrainedModel], config: Any) -> None:
    """Raises MPC-202 unless a student's config names every layer's attention and activation, as a trace finds them."""
    try:
        stored = [LayerSites(**site) for site in config.mpcify["layers"]]
        Recipe.from_json(config.mpcify).check_layers(len(stored))
        found, _ = trace.survey(kind, teacher_config_of(config))
    except (KeyError, TypeError, AttributeError):
        stored, found = [], None
    if found is None or stored != list(found.layers):
        raise MpcifyError(
            202, str(path), 'the layers under "mpcify" in config.json are not the model\'s', "convert the model again"
        )


def load(path: str | Path) -> PreTrainedModel:
    """A student from its folder, with c and γ. Raises MPC-201, MPC-202, and MPC-207 for a model that is no student."""
    if getattr(read_config(path), "mpcify", None) is None:
        raise MpcifyError(207, str(path), "the model is not a student", "convert it first: mpcify convert MODEL OUT")
    return load_model(path)


def as_student(model: PreTrainedModel) -> PreTrainedModel:
    """A student as it is; a teacher under the recipe `exact`."""
    return model if is_student(model) else convert(model, "exact")


def extra_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """c and log γ of every layer, by name."""
    return {name: value for name, value in model.named_parameters() if name.rsplit(".", 1)[-1] in ("c", "log_gamma")}
