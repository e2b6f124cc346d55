"""What makes a model's inputs: the tokenizer or image processor beside a checkpoint, and the facts that a client needs.

Training, the proof and every request encode by these facts, with the same code (`mpcify.requests`).
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel

from mpcify.conversion.facts import columns, longest_text, skipped_token, takes_images, takes_segments
from mpcify.conversion.folder import beside
from mpcify.errors import MpcifyError
from mpcify.graph.about import LARGEST, SMALLEST, ImageFacts, TextFacts, finite, sides

SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)
PREPROCESSING = "preprocessor_config.json"


def read_processor(source: str | Path, model: PreTrainedModel) -> Any:
    """The tokenizer, or the image processor, beside a checkpoint, as transformers reads it. Raises MPC-208."""
    if takes_images(model):
        return read_image_processor(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), config=model.config, trust_remote_code=False)
    except Exception as problem:  # transformers' readers raise whatever a broken file makes of them
        if find_spec("sentencepiece") is None and any(beside(source, name) for name in SENTENCEPIECE):
            what = "its tokenizer is a sentencepiece model, and the package sentencepiece is not installed"
            raise no_tokenizer(source, what, "install it: pip install sentencepiece") from problem
        raise no_tokenizer(source, f"there is no readable tokenizer beside the model ({type(problem).__name__})") from (
            problem
        )
    if not any(beside(source, name) for name in set(tokenizer.vocab_files_names.values())):
        raise no_tokenizer(source, "there is no tokenizer beside the model")  # transformers makes an empty one up
    backend_of(tokenizer, source)
    return tokenizer


def processor_beside(source: str | Path, model: PreTrainedModel) -> Any:
    """As `read_processor`, but None for a folder without any. Raises MPC-208 for one that cannot be used."""
    names = (PREPROCESSING,) if takes_images(model) else VOCABULARIES
    if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in names):
        return None
    return read_processor(source, model)


def read_image_processor(source: str | Path) -> Any:
    """The image processor beside a checkpoint, as PIL runs it. Raises MPC-208."""
    remedy = "save the image processor beside the model, with save_pretrained"
    if beside(source, PREPROCESSING) is None:
        raise MpcifyError(208, str(source), f"there is no {PREPROCESSING}", remedy)
    try:
        return AutoImageProcessor.from_pretrained(str(source), backend="pil", trust_remote_code=False)
    except Exception as problem:  # for the same reason
        what = f"{PREPROCESSING} cannot be read ({type(problem).__name__})"
        raise MpcifyError(208, str(source), what, remedy) from problem


def no_tokenizer(
    source: object, what: str, remedy: str = "save its fast tokenizer (tokenizer.json) there"
) -> MpcifyError:
    """The error for a checkpoint without a tokenizer that can be used."""
    return MpcifyError(208, str(source), what, remedy)


def backend_of(tokenizer: Any, source: object = "tokenizer") -> Tokenizer:
    """A tokenizer as the `tokenizers` library runs it, which is what a client has. Raises MPC-208 for any other."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        what = f"a {type(tokenizer).__name__} runs in Python alone, and has no form that a client could run"
        raise no_tokenizer(source, what, "use a model with a fast tokenizer (tokenizer.json)")
    if backend.get_vocab_size() == 0:
        raise no_tokenizer(source, "the tokenizer beside the model knows no words")
    return backend


def input_facts(model: PreTrainedModel, processor: Any) -> Any:
    """What a client must know to make a model's inputs: TextFacts, or ImageFacts of a model that reads images.

    Raises MPC-208 for a processor that does not fit.
    """
    return image_facts(model, processor.to_dict()) if takes_images(model) else text_facts(model, processor)


def processor_digest(model: PreTrainedModel, processor: Any) -> str:
    """SHA-256 of what decides the inputs that a model's tokenizer or image processor makes. Raises MPC-208."""
    words = "" if takes_images(model) else backend_of(processor).to_str()
    return hashlib.sha256(f"{input_facts(model, processor)} {words}".encode()).hexdigest()


def text_facts(model: PreTrainedModel, tokenizer: Any) -> TextFacts:
    """How a tokenizer and a model read texts. Raises MPC-208 for a longest text that no text fits."""
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:
        what = f"its model_max_length is {longest}, and no text has fewer than 1 token"
        raise no_tokenizer(getattr(tokenizer, "name_or_path", "") or "tokenizer", what, "correct tokenizer_config.json")
    known = min(getattr(model.config, "type_vocab_size", 0) or 0, 2) if "token_type_ids" in columns(model) else 0
    return TextFacts(
        vocabulary=len(model.get_input_embeddings().weight),
        positions=longest_text(model),
        segments=takes_segments(model),
        truncation=tokenizer.truncation_side,
        longest=int(min(longest_text(model), longest)),
        types=known if "token_type_ids" in tokenizer.model_input_names else 0,
        skipped=skipped_token(model),
    )


def image_facts(model: PreTrainedModel, values: Mapping[str, Any]) -> ImageFacts:
    """How an image becomes patches: an image processor's settings, and the model's patch.

    Raises MPC-208 for a crop, or another size than the model reads.
    """

    def told(name: str, usual: float) -> Any:
        """A setting; null is as if it were not there."""
        return usual if values.get(name) is None else values[name]

    size, patch = pixels(model.config.image_size), pixels(model.config.patch_size)
    height, width = sides(size)
    resizes = values.get("do_resize") is not False
    if values.get("do_center_crop") or (resizes and values.get("size") != {"height": height, "width": width}):
        raise MpcifyError(
            208,
            PREPROCESSING,
            "it crops images, or scales them to another size than the model reads",
            f"resize images to {height} by {width} without a crop, and save that processor",
        )
    count = model.config.num_channels
    return ImageFacts(
        channels=count,
        size=size,
        patch=patch,
        do_resize=resizes,
        resample=int(numbers("resample", told("resample", 2))[0]),
        do_rescale=values.get("do_rescale") is not False,
        rescale=numbers("rescale_factor", told("rescale_factor", 1 / 255))[0],
        do_normalize=values.get("do_normalize") is not False,
        mean=channels("image_mean", told("image_mean", 0.5), count),
        std=channels("image_std", told("image_std", 0.5), count, SMALLEST),
    )


def pixels(value: Any) -> int | tuple[int, int]:
    """A size in config.json, a number or (height, width), as facts have it."""
    return value if isinstance(value, int) else (value[0], value[1])


def numbers(name: str, value: Any, least: float = -LARGEST) -> tuple[float, ...]:
    """A number, or several, of an image processor. Raises MPC-208 for what float32 does not hold, or below a least."""
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not given or not all(finite(each) and each >= least for each in given):
        what = f"its {name} is {value!r}"[:80]
        remedy = "save the image processor that the model was trained with beside it, with save_pretrained"
        raise MpcifyError(208, PREPROCESSING, what, remedy)
    return given


def channels(name: str, value: Any, count: int, least: float = -LARGEST) -> float | tuple[float, ...]:
    """A number, or one a channel, as facts have it. Raises MPC-208 for others."""
    given = numbers(name, value, least)
    if isinstance(value, int | float):
        return value
    if len(given) != count:
        remedy = "save the image processor beside the model, with save_pretrained"
        raise MpcifyError(208, PREPROCESSING, f"its mean or its deviation is not of {count} channels", remedy)
    return given
