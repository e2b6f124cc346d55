"""From a teacher to a student: the same architecture and weights, with the recipe's functions."""

import copy
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    PreTrainedModel,
)
from transformers.activations import ACT2FN

from mpcify.conversion import survey
from mpcify.conversion.config import build_config, check_names, read_config, reason_of
from mpcify.conversion.facts import longest_text, takes_images
from mpcify.conversion.families import HEADLESS, OWN_ACTIVATIONS, REFUSED, TASKS, TESTED, UnsupportedError, family_of
from mpcify.conversion.folder import keep_companions
from mpcify.conversion.position_bias import adapt
from mpcify.conversion.student import (
    StudentConfig,
    bind_ranges,
    encoder_layers,
    is_student,
    recipe_name,
    recipe_of,
    student_config,
)
from mpcify.conversion.survey import Survey
from mpcify.conversion.weights import account_for, read_tensors
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.about import Task, task_named
from mpcify.recipe import OWN, Recipe, read_recipe
from mpcify.replacements.forms import ACTIVATIONS
from mpcify.replacements.modules import IMPLEMENTATION, Activation, install_attention

OURS = "mpcify-"  # no other library knows an activation of this name, so a student never loads as an exact model


@contextmanager
def our_activations() -> Iterator[None]:
    """While open, this thread finds our activations by name in transformers' table; no other does (see OURS)."""
    thread = threading.get_ident()

    def build(name: str) -> Activation:
        if threading.get_ident() != thread:
            raise KeyError(OURS + name)
        return Activation(name)

    with survey.ALONE:
        for name in ACTIVATIONS:
            dict.__setitem__(ACT2FN, OURS + name, (build, {"name": name}))
        try:
            yield
        finally:
            for name in ACTIVATIONS:
                dict.__delitem__(ACT2FN, OURS + name)


def student_class(teacher: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of a teacher's students.

    The teacher's own, under its own name, that builds the recipe in its config; it saves the tokenizer or the image
    processor of the checkpoint that it came from beside it.
    """

    class Student(teacher):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            with our_activations():
                super().__init__(config, *args, **kwargs)
            adapt(self)
            install(self)
            self.set_attn_implementation(IMPLEMENTATION)  # transformers' own loading asks for none

        def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **options: Any) -> None:
            super().save_pretrained(save_directory, is_main_process, **options)
            if is_main_process:
                keep_companions(self, Path(save_directory))

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
    config, inner = student_config(model), set()
    recipe = config.recipe
    for index, site in enumerate(config.layers):
        attention = model.get_submodule(site.attention)
        name = recipe.attention_of(index)
        install_attention(attention, name, site.heads, centre_keys=recipe.centre_keys, t=recipe.exp_of(index))
        model.set_submodule(site.activation, Activation(recipe.activation_of(index)))
        inner.add(site.activation)
    for name, module in list(model.named_modules()):
        if isinstance(module, Activation) and name not in inner:
            model.set_submodule(name, ACT2FN[config.own_activation])


def teacher_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The transformers class of a teacher or a student."""
    return type(model).__mro__[1] if is_student(model) else type(model)


def teacher_config(model: PreTrainedModel) -> Any:
    """The config with which the model's teacher was built (a copy)."""
    return teacher_config_of(model.config)


def teacher_config_of(config: Any) -> Any:
    """A config as that of the teacher, without what only says how the model is run (a copy). Raises MPC-202."""
    values = config.to_dict()
    converted = values.pop("mpcify", None)
    if converted is not None:
        values[family_of(config.model_type).activation_field] = StudentConfig.from_json(converted).own_activation
    plain = build_config(values, config.model_type)
    plain.name_or_path = config.name_or_path
    return plain


def class_of(config: Any, where: str) -> type[PreTrainedModel]:
    """The class that `architectures` in a checkpoint's config names. Raises MPC-202, MPC-203."""
    if not config.architectures:
        what = "config.json does not say which class the weights belong to (architectures)"
        remedy = 'add "architectures", such as ["BertForSequenceClassification"], or save the model again'
        raise MpcifyError(202, where, what, remedy)
    name = config.architectures[0]
    kind: Any = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        what = f"transformers has no PyTorch model {name!r}"
        raise UnsupportedError(where, what, "use a model that transformers knows", "never")
    if kind.config_class is not type(config):  # type: ignore[attr-defined]
        what = f"its architectures name {name}, but its model_type is {config.model_type!r}"
        raise MpcifyError(202, where, what, "correct config.json, or save the model again")
    return kind


def task_of(config: Any, architecture: str) -> Task:
    """A model's task. Raises MPC-203 for one that is not in `TASKS`."""
    head = next((head for head, _ in TASKS if architecture.endswith(head)), None)
    if head is None:
        raise other_task(config, architecture)
    if config.problem_type == "multi_label_classification":
        raise UnsupportedError(
            architecture, "it has several labels an example", "use a model with one label an example"
        )
    regression = config.problem_type == "regression" or (config.problem_type is None and config.num_labels == 1)
    if regression and config.num_labels != 1:
        raise UnsupportedError(architecture, "it predicts several values at once", "use a model with one output")
    task = TASKS.get((head, regression))
    if task is None:
        raise UnsupportedError(architecture, "it predicts a value from an image", "use an image classifier")
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    return task_named(task, labels)


def other_task(config: Any, architecture: str) -> MpcifyError:
    """The error for a model that is no classifier: one without a head can be fine-tuned, if its family converts."""
    if not architecture.endswith(HEADLESS):
        remedy = "use a model for sequence or image classification, or for regression"
        return UnsupportedError(architecture, "its task is not supported", remedy)
    tables = (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING)
    kind = next((table[type(config)] for table in tables if type(config) in table), None)
    if kind is None:
        return UnsupportedError(architecture, "transformers has no classifier of this family", "use another family")
    survey.survey(kind, teacher_config_of(config))
    remedy = f"fine-tune it for its task as {kind.__name__}, and save it"
    return UnsupportedError(architecture, "the model has no head for classification or regression", remedy, "config")


def refuse_family(config: Any) -> None:
    """Raises MPC-203 for a config of a family, or with an attention, that cannot be converted."""
    if config.model_type in REFUSED:
        raise UnsupportedError(config.model_type, REFUSED[config.model_type], f"use a model of {', '.join(TESTED)}")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise UnsupportedError(config.model_type, "it is a decoder, or has cross-attention", "use an encoder")
    positions = getattr(config, "position_embedding_type", None)
    declared = "position_embedding_type" in {field.name for field in fields(type(config))}
    if positions not in (None, "absolute") and not declared:
        what = f"its position_embedding_type is {positions!r}, which transformers no longer computes"
        raise UnsupportedError(config.model_type, what, "use a model with absolute positions")


def refuse_unsupported(model: PreTrainedModel) -> None:
    """Raises the first reason, known without a forward, why a model cannot be converted (MPC-202, 203, 205, 206)."""
    refuse_family(model.config)
    if not takes_images(model) and longest_text(model) < 2:
        what = f"it takes {longest_text(model)} token, and every text has more"
        raise UnsupportedError(model.config.model_type, what, "use a model with more positions", "never")
    check_names(model.config.id2label, type(model).__name__, int)
    task_of(model.config, teacher_class(model).__name__)
    attention = model.config._attn_implementation
    if attention not in ("eager", "sdpa", "flash_attention_2", "flex_attention", IMPLEMENTATION):
        raise survey.customised("attention", f"the model runs with the attention {attention!r}")
    refuse_not_finite(model)


def refuse_not_finite(model: PreTrainedModel) -> None:
    """Raises MPC-205 for a weight that holds NaN or infinity."""
    for name, weight in model.state_dict().items():
        if isinstance(weight, torch.Tensor) and weight.is_floating_point() and not torch.isfinite(weight.float()).all():
            remedy = "train or download the model again"
            raise MpcifyError(205, name, "the tensor holds values that are not finite", remedy)


def examine(model: PreTrainedModel) -> Survey:
    """What a model's encoder layers call, proven by one forward. Raises MPC-202 to MPC-206."""
    refuse_unsupported(model)
    kind, config = teacher_class(model), teacher_config(model)
    if is_student(model):
        with survey.ALONE, torch.device("meta"):
            built = student_class(kind)._from_config(copy.deepcopy(model.config), attn_implementation=IMPLEMENTATION)
        survey.refuse_strangers(model, built)
        return Survey(encoder_layers(model), ())
    found, twin = survey.survey(kind, config)
    survey.refuse_strangers(model, twin)
    return found


def convert(model: PreTrainedModel | str | Path, recipe: str | Path | Recipe) -> PreTrainedModel:
    """A converted copy of a model, a folder or a hub name; the original is untouched.

    recipe: a name, a JSON file or a Recipe. A student converts on to another recipe, and keeps c and γ if both have
    them. The copy is proven by its trace. Raises MPC-201 to MPC-206 for a model that cannot be converted, MPC-301 to
    MPC-303 for a recipe.
    """
    recipe = read_recipe(recipe)
    student = swapped(model_and_source(model)[0], recipe)
    survey.prove(survey.export_program(student, 1, 8), student)
    return student


def swapped(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel:
    """A converted copy of a model that no trace has proven yet."""
    found = examine(model)
    config, kind = teacher_config(model), teacher_class(model)
    own = survey.own_activation_name(config)
    recipe = resolve(recipe, own)
    recipe.check_layers(len(found.layers))
    base = student_config(model).base if is_student(model) else None
    made = StudentConfig(recipe, own, found.layers, base=base)
    config.mpcify = made.to_json()
    setattr(config, family_of(config.model_type).activation_field, OURS + recipe.activation_of(0))
    with survey.ALONE:
        student = student_class(kind)._from_config(config, attn_implementation=IMPLEMENTATION, dtype=torch.float32)
    carry_over(model, student)
    if is_student(model) and student_config(model).refit and recipe_of(model) != recipe:
        what = f"the weights were fitted to {recipe_name(model)}, and stay: convert the teacher instead"
        warnings.warn(MpcifyWarning(f"{made.recipe_name}: {what}, or distill the student again"), stacklevel=2)
    warn_of_strangers(made)
    return student.train(model.training)


def warn_of_strangers(made: StudentConfig) -> None:
    """Warns of a recipe that needs no distillation by its name, with an activation that is not the model's."""
    for layer in range(len(made.layers)):
        if made.strange(layer) and not made.recipe.approximates(layer):
            name = made.recipe.activation_of(layer)
            what = f"{name} stands for the model's own activation {made.own_activation!r}, and answers change with it"
            remedy = "use another recipe, or calibrate and distill the student"
            warnings.warn(MpcifyWarning(f"{made.recipe_name}: {what}: {remedy}"), stacklevel=3)
            return


def resolve(recipe: Recipe, own: str) -> Recipe:
    """The recipe with the checkpoint's own activation by its name. Raises MPC-303 if it has no secure form."""

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
        raise survey.customised(strangers[0], "the weight is missing, or nothing in the model's class reads it")
    stored, buffers = model.state_dict(), dict(student.named_buffers())
    for name, value in model.named_buffers():
        if name not in stored and not (
            name in buffers and torch.equal(value.cpu(), buffers[name].cpu().to(value.dtype))
        ):
            raise survey.customised(name, "it is not what the model's class builds")


def load_model(path: str | Path) -> PreTrainedModel:
    """A checkpoint as it is stored, teacher or student, float32, in evaluation mode.

    Raises MPC-201 to MPC-203, MPC-205, and MPC-206 for a weight that nothing reads.
    """
    config = read_config(path)
    refuse_family(config)
    kind = class_of(config, str(path))
    task_of(config, kind.__name__)
    converted = getattr(config, "mpcify", None) is not None
    if converted:
        prove_sites(path, kind, config)
        kind = student_class(kind)
    options: dict[str, Any] = {"attn_implementation": IMPLEMENTATION} if converted else {}
    tensors = read_tensors(path)
    with survey.ALONE, building(str(path)):
        with torch.device("meta"):
            account_for(tensors, kind._from_config(copy.deepcopy(config), **options))
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    if report["missing_keys"]:
        name = sorted(map(str, report["missing_keys"]))[0]
        remedy = "save the whole model; if it has no head yet, fine-tune it for its task first"
        raise MpcifyError(202, str(path), f"the checkpoint lacks {name}", remedy)
    model.name_or_path = model.config.name_or_path = str(path)
    refuse_not_finite(model)
    if converted:
        bind_ranges(model)
    return model.eval()


@contextmanager
def building(where: str) -> Iterator[None]:
    """Turns whatever transformers raises while it builds a model into MPC-202; our own errors pass."""
    try:
        yield
    except MpcifyError:
        raise
    except Exception as problem:
        what = f"transformers cannot build the model that config.json describes: {reason_of(problem)}"
        raise MpcifyError(202, where, what, "correct config.json, or save the model again") from problem


def model_and_source(model: PreTrainedModel | str | Path) -> tuple[PreTrainedModel, str]:
    """A model, loaded if it is a folder or a hub name, and the checkpoint that it came from ("" if none is known)."""
    if isinstance(model, str | Path):
        return load_model(model), str(model)
    return model, model.name_or_path or ""


def prove_sites(path: str | Path, kind: type[PreTrainedModel], config: Any) -> None:
    """Raises MPC-202 unless a student's config names the attention and activation that each layer calls."""
    stored = StudentConfig.from_json(config.mpcify)
    stored.recipe.check_layers(len(stored.layers))
    found, _ = survey.survey(kind, teacher_config_of(config))
    if stored.layers != found.layers:
        what = 'the layers under "mpcify" in config.json are not the model\'s'
        raise MpcifyError(202, str(path), what, "convert the model again")


def load(path: str | Path) -> PreTrainedModel:
    """A student from its folder, with c and γ. Raises MPC-201, MPC-202, and MPC-207 for another model."""
    if getattr(read_config(path), "mpcify", None) is None:
        raise MpcifyError(207, str(path), "the model is not a student", "convert it first: mpcify convert MODEL OUT")
    return load_model(path)


def as_student(model: PreTrainedModel) -> PreTrainedModel:
    """A student as it is; a teacher under the recipe `exact`. Both are proven when they are traced for a graph."""
    return model if is_student(model) else swapped(model, read_recipe("exact"))


def extra_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """c and log γ of every layer, by name."""
    return {name: value for name, value in model.named_parameters() if name.rsplit(".", 1)[-1] in ("c", "log_gamma")}
