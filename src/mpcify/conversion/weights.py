"""A checkpoint's weights: read as safetensors and nothing else, and every tensor accounted for."""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from mpcify.conversion.contents import describe_folder
from mpcify.conversion.folder import beside
from mpcify.conversion.survey import FLOATS, customised
from mpcify.errors import MpcifyError
from mpcify.jsontext import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What a classifier may leave unread: counters, heads of pretraining, a pooler or mask token that no logit comes from.
UNREAD = re.compile(
    r"(?:.*\.)?(?:position_ids|token_type_ids|num_batches_tracked|mask_token)"
    r"|(?:[a-z]+\.)?pooler\.(?:dense\.)?(?:weight|bias)"
    r"|(?:cls\.(?:predictions|seq_relationship)|lm_head|generator_lm_head|generator_predictions|predictions"
    r"|discriminator_predictions|sop_classifier|vocab_transform|vocab_layer_norm|vocab_projector|decoder\.0)\..+"
)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, a local folder or a hub name, by its name in the files.

    Raises MPC-202 that says which file is missing, damaged, pickled or only a pointer.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as problem:
            raise damaged(file) from problem
        twice = found.keys() & tensors.keys()
        if twice:
            raise MpcifyError(202, file.name, f"{min(twice)} is in another file too", "save the model again")
        tensors.update(found)
    return tensors


def weight_files(path: str | Path) -> list[Path]:
    """The files of a checkpoint's weights: one, or those that its index names. Raises MPC-202."""
    whole = beside(path, WEIGHTS)
    if whole is not None:
        return [whole]
    index = beside(path, INDEX)
    if index is None:
        raise describe_folder(Path(path), WEIGHTS)
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        inside = all(Path(name).name == name and name.endswith(".safetensors") for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise damaged(index) from problem
    if not inside:
        raise MpcifyError(202, INDEX, "it names a file that is no safetensors file beside it", "save the model again")
    files = [beside(path, name) for name in names]
    if None in files or not files:
        missing = f"{names[files.index(None)]}, which {INDEX} names, is missing" if files else f"{INDEX} names no file"
        raise MpcifyError(202, str(path), missing, "copy or download all files of the model")
    return [file for file in files if file is not None]


def damaged(file: Path) -> MpcifyError:
    """The error for a file of weights that cannot be read: a Git LFS pointer, or cut off."""
    try:
        with file.open("rb") as stream:
            pointer = stream.read(24).startswith(b"version https://git-lfs")
    except OSError as problem:
        return MpcifyError(202, str(file), problem.strerror or "it cannot be read", "make the file readable")
    if pointer:
        what = "this is a Git LFS pointer, not the file that it points to"
        return MpcifyError(202, str(file), what, "run `git lfs pull` in the model's folder")
    return MpcifyError(202, str(file), "the file is cut off or damaged", "copy or download it again")


def account_for(tensors: dict[str, Tensor], model: PreTrainedModel) -> None:
    """Raises unless a model of this class reads every tensor for what it is.

    model: of the checkpoint's class, empty. MPC-206 for a tensor that nothing reads and that is not known to be
    harmless; MPC-202 for one that has another shape, or is stored as another type than the floats that the model means.
    """
    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    state = model.state_dict()
    read: dict[str, str] = {}
    for name, tensor in tensors.items():
        own, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        if own not in state and name in state:  # as transformers does: a name that should have stayed
            own, converted = name, None
        if own not in state:
            if not UNREAD.fullmatch(name):
                what = "nothing in the model that config.json describes reads this weight"
                remedy = "correct config.json (the number of layers, say), merge adapters, and save the model again"
                raise MpcifyError(206, name, what, remedy)
            continue
        if converted is None and own in read:
            raise customised(name, f"{read[own]} stands for the same weight, so that one of the two is not read")
        read[own] = name
        if state[own].is_floating_point() and tensor.dtype not in FLOATS:
            what = f"it is stored as {str(tensor.dtype).removeprefix('torch.')}, and the model means plain floats"
            raise MpcifyError(202, name, what, "save the float model that it was made from")
        if not state[own].is_floating_point() and (tensor.is_floating_point() or tensor.is_complex()):
            raise MpcifyError(202, name, "it is stored as floats, and the model means integers", "save the model again")
        if converted is None and state[own].shape != tensor.shape:
            shapes = " and ".join("×".join(map(str, shape)) or "1" for shape in (tensor.shape, state[own].shape))
            what = f"its shape and that which config.json gives it are {shapes}"
            raise MpcifyError(202, name, what, "correct config.json, or save the model again")
