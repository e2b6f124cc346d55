"""What a folder holds in place of a checkpoint, by its files' names alone: nothing heavy is imported for it."""

from pathlib import Path

from mpcify.errors import MpcifyError

ADAPTER = "adapter_config.json"
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
    "spm.model",
    "tokenizer.model",
    "preprocessor_config.json",
    "processor_config.json",
)
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


def an_adapter(where: object) -> MpcifyError:
    """The error for a folder that holds an adapter."""
    what = "it holds an adapter, which is not part of the model's own weights"
    remedy = "load it with peft, call merge_and_unload() and save the result with save_pretrained"
    return MpcifyError(202, str(where), what, remedy)
