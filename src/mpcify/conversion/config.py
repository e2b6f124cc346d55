"""A checkpoint's config.json: read without running its author's code, and judged field by field."""

import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.activations import ACT2CLS

from mpcify.conversion.contents import ADAPTER, an_adapter, describe_folder
from mpcify.conversion.families import UnsupportedError, family_of
from mpcify.conversion.folder import beside
from mpcify.errors import MpcifyError

# How a model is run, not what it computes: mpcify decides these itself, whatever a config says.
RUNNING = (
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "fusion_config",
    "dtype",
    "torch_dtype",
    "torchscript",
    "gradient_checkpointing",
    "chunk_size_feed_forward",
    "use_cache",
    "return_dict",
    "use_return_dict",
    "output_attentions",
    "_output_attentions",
    "output_hidden_states",
    "tie_last_hidden_states",
)
# What stands for weights that are not simply the model's own, as floats, in model.safetensors.
ELSEWHERE = {
    "quantization_config": (
        "its weights are quantised",
        "save the float model that it was made from, without the field",
    ),
    "pruned_heads": (
        "heads are pruned, and transformers no longer builds layers without them",
        "put the heads back, with weights of zero, and remove the field",
    ),
    "transformers_weights": ("the weights are in another file", "save the model again with save_pretrained"),
}
PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")
# A field whose name ends so counts something, and is at least 1 unless its default is 0.
COUNTS = ("size", "dim", "layers", "heads", "channels", "embeddings")


def read_config(path: str | Path) -> PreTrainedConfig:
    """The config of a local folder or a hub name, without what only says how the model is run.

    Raises MPC-201, MPC-202, and MPC-203 for a model that needs its own code.
    """
    config = build_config(config_values(path), str(path))
    config.name_or_path = str(path)
    return config


def config_values(path: str | Path) -> dict[str, Any]:
    """What config.json holds. Raises MPC-201, MPC-202."""
    folder = Path(path)
    if folder.is_file():
        raise MpcifyError(202, str(path), "this is a file", "name the folder that holds it")
    if folder.is_dir() and beside(path, ADAPTER) is None and beside(path, "config.json") is None:
        raise describe_folder(folder, "config.json")
    values: Any = None
    try:
        values, _ = PreTrainedConfig.get_config_dict(str(path))
    except Exception as problem:  # transformers' readers raise whatever a broken file or line makes of them
        if not folder.is_dir() and "does not appear to have a file" not in str(problem):  # it is there, without one
            what = "no such folder, and no such name on the hub within reach"
            raise MpcifyError(201, str(path), what, "check the path") from problem
    if beside(path, ADAPTER) is not None:
        raise an_adapter(path)
    if not isinstance(values, dict):
        remedy = "save the model again with save_pretrained, or download it again (in a clone with `git lfs pull`)"
        raise MpcifyError(202, str(path), "config.json is missing or no JSON object", remedy)
    return values


def build_config(values: dict[str, Any], where: str) -> PreTrainedConfig:
    """The config that a checkpoint's values make. Raises MPC-202 that names the field, and MPC-203."""
    if any(name in str(values.get("auto_map")) for name in ("AutoModel", "AutoConfig")):
        what = "the model needs code of its own (auto_map in config.json), and mpcify never runs a checkpoint's code"
        raise UnsupportedError(where, what, "use a model that transformers itself has the code of", "never")
    if values.get("per_layer_config"):
        what = "its layers have configs of their own (per_layer_config)"
        raise UnsupportedError(where, what, "use a model whose layers are alike")
    for field, (what, remedy) in ELSEWHERE.items():
        if values.get(field):
            raise MpcifyError(202, where, f"{field} in config.json: {what}", remedy)
    known = {"problem_type": PROBLEMS, "model_type": tuple(CONFIG_MAPPING)}
    for field, words in known.items():
        if values.get(field) not in words:
            what = f"{values[field]!r} is not one that transformers knows" if field in values else "it is missing"
            raise wrong_field(where, field, what)
    names, labels = values.get("architectures"), values.get("num_labels", 1)
    if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
        raise wrong_field(where, "architectures", "it is not a list of names")
    if type(labels) is not int or labels < 1:
        raise wrong_field(where, "num_labels", f"{labels!r} is not a number of classes")
    check_names(values.get("id2label"), where)
    try:
        config = CONFIG_MAPPING[values["model_type"]].from_dict(
            {name: value for name, value in values.items() if name not in RUNNING}
        )
    except Exception as problem:  # a config's own checks raise whatever they like
        raise MpcifyError(202, where, f"config.json: {reason_of(problem)}", "correct the field") from problem
    check_fields(config, where)
    return config


def reason_of(problem: Exception) -> str:
    """What an exception says, on one line without a full stop; its type if it says nothing."""
    return " ".join(str(problem.__cause__ or problem).split()).rstrip(". ") or type(problem).__name__


def wrong_field(where: str, field: str, what: str) -> MpcifyError:
    """The error for one field of config.json."""
    return MpcifyError(202, where, f"{field} in config.json: {what}", "correct the field, or save the model again")


def check_names(id2label: Any, where: str, key: Callable[[int], Any] | None = None) -> None:
    """Raises MPC-202 unless id2label, if given, gives each class from 0 a name of its own.

    key: what a class is as a key; None: a number, or its digits, as JSON has them.
    """
    if id2label is None:
        return
    if not isinstance(id2label, dict):
        raise wrong_field(where, "id2label", f"it is a {type(id2label).__name__}, not an object of classes and names")
    given = id2label if key else map(str, id2label)
    if {*given} != {(key or str)(index) for index in range(len(id2label))}:
        raise wrong_field(where, "id2label", "the classes are not numbered 0, 1, 2 … without a gap")
    if not id2label:
        raise wrong_field(where, "id2label", "it names no class")
    if not all(isinstance(name, str) for name in id2label.values()):
        raise wrong_field(where, "id2label", "a name is not a string")
    if len(set(id2label.values())) < len(id2label):
        raise wrong_field(where, "id2label", "two classes have the same name")


def possible(field: Field[Any], value: float) -> bool:
    """Whether a value can stand in a field of config.json: a count, a share, or something else that is finite."""
    usual = field.default if isinstance(field.default, int | float) else 0
    least = 1 if field.name.endswith(COUNTS) and usual > 0 else min(usual, 0)
    return least <= value <= (1 if "drop" in field.name else sys.float_info.max)


def check_fields(config: PreTrainedConfig, where: str) -> None:
    """Raises MPC-202 for a value that no model can be built with: transformers itself checks types alone."""
    for field in fields(type(config)):
        value = getattr(config, field.name, None)
        listed = value if isinstance(value, list | tuple) else (value,)
        counts = [item for item in listed if type(item) in (int, float)]
        if not field.name.endswith("_token_id") and not all(possible(field, item) for item in counts):
            raise wrong_field(where, field.name, f"{value} is not a value that it can take")
    width, heads = (getattr(config, name, None) for name in ("hidden_size", "num_attention_heads"))
    if isinstance(width, int) and isinstance(heads, int) and not getattr(config, "head_dim", None) and width % heads:
        raise wrong_field(where, "num_attention_heads", f"the hidden size {width} is not a multiple of {heads}")
    words, padding = (getattr(config, name, None) for name in ("vocab_size", "pad_token_id"))
    if isinstance(words, int) and isinstance(padding, int) and not 0 <= padding < words:
        raise wrong_field(where, "pad_token_id", f"{padding} is not one of the {words} tokens")
    activation = str(getattr(config, family_of(config.model_type).activation_field, "gelu"))
    if activation not in ACT2CLS and getattr(config, "mpcify", None) is None:
        raise wrong_field(
            where, family_of(config.model_type).activation_field, f"there is no activation {activation!r}"
        )
