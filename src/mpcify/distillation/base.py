"""The public embedding table: what lets a client look its tokens up by itself."""

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from mpcify.conversion.config import read_config
from mpcify.conversion.facts import table_digest, takes_images, word_table
from mpcify.conversion.student import Base, student_config, update_config
from mpcify.errors import MpcifyError, MpcifyWarning


@torch.no_grad()
def freeze_base(student: PreTrainedModel, base: str | Path, tokenizer: Any = None) -> None:
    """Puts a public checkpoint's word-embedding table into a student, and freezes it there.

    `config.mpcify["base"]` records the base's name (of the hub, or a path's last two parts) and the table's SHA-256. A
    student whose table changes so needs calibrating again. tokenizer: the student's, compared with the base's if
    given. A base that is a classifier itself (the teacher, say) is a warning: its table may hold what private texts
    taught it.
    Raises MPC-201 and MPC-202 if there is no base, MPC-603 if its table or its vocabulary is another.
    """
    if takes_images(student):
        raise MpcifyError(603, str(base), "an image model has no word embeddings", "leave the base out")
    config = read_config(base)
    try:
        loaded, found = AutoModel.from_pretrained(
            str(base), dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        words_of = loaded.get_input_embeddings()
        source = words_of.weight.detach()
        made_up = any(loaded.get_submodule(name.rpartition(".")[0]) is words_of for name in found["missing_keys"])
        own = None if tokenizer is None else AutoTokenizer.from_pretrained(str(base), trust_remote_code=False)
        words = None if own is None else own.get_vocab()
    except Exception as problem:
        reason = "its weights or its tokenizer cannot be read"
        raise MpcifyError(603, str(base), reason, "name a pretrained encoder with its tokenizer") from problem
    if made_up or not torch.isfinite(source).all():
        what = "its weights hold no word table" if made_up else "its word table holds values that are not finite"
        raise MpcifyError(603, str(base), what, "name a pretrained encoder as save_pretrained writes it")
    table = student.get_input_embeddings().weight
    if source.shape != table.shape:
        shapes = " and ".join(" × ".join(map(str, weight.shape)) for weight in (source, table))
        remedy = "name the pretrained model that the teacher was fine-tuned from"
        raise MpcifyError(603, str(base), f"the base's table and the student's are {shapes}", remedy)
    if tokenizer is not None and words != tokenizer.get_vocab():
        remedy = "name the pretrained model that the teacher was fine-tuned from"
        raise MpcifyError(603, str(base), "its tokenizer knows other words than the student's", remedy)
    if any(name.endswith("Classification") for name in config.architectures or ()):
        what = "it is a fine-tuned classifier, and its word table will be given to every client"
        warnings.warn(MpcifyWarning(f"{base}: {what}; name the pretrained model unless it is public"), stacklevel=2)
    same = torch.equal(table, source.to(table.device))
    table.copy_(source)
    table.requires_grad_(False)
    name = "/".join(Path(base).resolve().parts[-2:]) if Path(base).is_dir() else str(base)
    calibrated = student_config(student).calibrated and same
    update_config(student, base=Base(name, table_digest(word_table(student))), calibrated=calibrated)
