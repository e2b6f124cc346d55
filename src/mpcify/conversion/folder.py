"""Folders with a model in them: written whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import cached_file

from mpcify.errors import MpcifyError

# What stands beside the weights, and goes with them: how text or images become inputs.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "preprocessor_config.json",
    "processor_config.json",
)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill; it takes its place under `path` when the block ends well, and leaves nothing when it does not.

    Raises MPC-109 where something is there already, or the disk refuses.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MpcifyError(109, str(target), "something is there already", "name a new folder")
    made = [parent for parent in target.absolute().parents if not parent.exists()]  # the innermost first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as problem:
        raise MpcifyError(
            109, str(target), problem.strerror or "no folder can be made", "name a folder you may write"
        ) from None
    try:
        yield draft
        draft.chmod(0o755)
        if target.is_dir():
            target.rmdir()
        draft.rename(target)
    except OSError as problem:
        reason = problem.strerror or "the disk refuses"
        raise MpcifyError(109, str(target), reason, "free some space, or name another folder") from problem
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


# Weights in other formats, by the ends of their files' names.
FOREIGN = {
    (".bin", ".pt", ".pth", ".ckpt"): (
        "its weights are pickled ({}), and pickle runs code, so that it is never read",
        "load the model with transformers and save it again with save_pretrained, which writes safetensors",
    ),
    (".onnx", ".h5", ".msgpack", ".gguf", ".tflite", ".xml"): (
        "its weights are in a format of other software ({})",
        "save the PyTorch model that it was made from with save_pretrained",
    ),
}
TRAINING = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")  # a trainer's own files, no weights


def describe_folder(folder: Path, missing: str) -> MpcifyError:
    """The error for a folder (or a hub name) without the file `missing`: what it holds instead, and what to do."""

    def error(what: str, remedy: str) -> MpcifyError:
        return MpcifyError(202, str(folder), what, remedy)

    if not folder.is_dir():
        remedy = "load the model with transformers, save it with save_pretrained, and name that folder"
        return error(f"there is no {missing}: weights in other formats, pickle above all, are never read", remedy)
    names = sorted(path.name for path in (*folder.glob("*"), *folder.glob("onnx/*")) if path.is_file())
    for ends, (what, remedy) in FOREIGN.items():
        found = [name for name in names if name.endswith(ends) and not name.startswith(TRAINING)]
        if found:
            return error(what.format(found[0]), remedy)
    inner = sorted(path.parent.name for path in folder.glob("*/config.json") if b'"model_type"' in path.read_bytes())
    if inner:
        return error(
            f"the model is not in this folder, but in {', '.join(inner)} inside it", f"name {folder / inner[0]}"
        )
    if missing == "config.json" and any(name.endswith(".safetensors") for name in names):
        return error("its weights have no config.json beside them", "save the model with save_pretrained")
    if missing == "config.json" and set(names) & set(COMPANIONS):
        return error("it holds a tokenizer or an image processor, and no model", "save the model there too")
    return error(f"there is no {missing} in it", "name a folder that save_pretrained wrote")


def beside(source: str | Path, name: str) -> Path | None:
    """A file of a checkpoint, a local folder or a hub name; None where it has none of that name."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        found = cached_file(
            str(source),
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # no name that the hub could have
        return None
    return None if found is None else Path(found)


def copy_companions(source: str | Path, target: Path) -> None:
    """Copies what stands beside a model's weights: tokenizer, or image processor."""
    for name in COMPANIONS:
        path = beside(source, name)
        if path is not None:
            shutil.copyfile(path, target / name)


def keep_companions(model: PreTrainedModel, folder: Path) -> None:
    """Copies the companions of the checkpoint that a model came from, unless the folder has some of its own."""
    if model.name_or_path and not any((folder / name).is_file() for name in COMPANIONS):
        copy_companions(model.name_or_path, folder)


def save(model: PreTrainedModel, out: str | Path, companions: str | Path) -> None:
    """Writes a model and the companions of the checkpoint it came from, all or nothing. Raises MPC-109."""
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        copy_companions(companions, folder)
