"""Small random models of every family, in memory and as checkpoints."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# a shell's background job ignores interrupts, and what it starts would, too
signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "film",
    "is",
    "not",
    "very",
    "good",
    "bad",
    "dull",
    "but",
    "a",
    "and",
]
FAMILIES = ("bert", "roberta", "distilbert", "electra", "vit")


def build_teacher(family: str, *, labels: int = 3, layers: int = 2, seed: int = 0, **options: Any) -> Any:
    """A random classifier, 32 wide, with weights large enough that every part of it matters."""
    import torch
    import transformers as hf

    shape = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 64}
    text = {**shape, "vocab_size": len(WORDS), "max_position_embeddings": 40, "pad_token_id": 0}
    image = {**shape, "image_size": 8, "patch_size": 2, "num_channels": 1}
    narrow = {"dim": 32, "n_layers": layers, "n_heads": 4, "hidden_dim": 64}
    table = {
        "bert": (hf.BertForSequenceClassification, hf.BertConfig, text),
        "roberta": (hf.RobertaForSequenceClassification, hf.RobertaConfig, {**text, "type_vocab_size": 1}),
        "distilbert": (hf.DistilBertForSequenceClassification, hf.DistilBertConfig, {**text, **narrow}),
        "electra": (hf.ElectraForSequenceClassification, hf.ElectraConfig, {**text, "embedding_size": 16}),
        "albert": (hf.AlbertForSequenceClassification, hf.AlbertConfig, {**text, "embedding_size": 16}),
        "vit": (hf.ViTForImageClassification, hf.ViTConfig, image),
    }
    model_class, config_class, values = table[family]
    if family == "distilbert":
        values = {key: value for key, value in values.items() if key not in shape}
    torch.manual_seed(seed)
    model = model_class(config_class(**{**values, "num_labels": labels, "initializer_range": 0.2, **options}))
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model.eval()


def write_tokenizer(folder: Path) -> None:
    """A word tokenizer over WORDS, saved as a fast Hugging Face tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


@pytest.fixture
def teacher() -> Callable[..., Any]:
    """teacher(family, **options): a small random model."""
    return build_teacher


@pytest.fixture(scope="session")
def checkpoint_in() -> Callable[..., Path]:
    """checkpoint_in(place, family, **options): the folder of a small random model, with its tokenizer or processor."""

    def make(place: Path, family: str = "bert", *, name: str = "teacher", **options: Any) -> Path:
        folder = place / name
        build_teacher(family, **options).save_pretrained(folder)
        if family == "vit":
            text = '{"do_resize": true, "resample": 2, "do_rescale": true, "rescale_factor": 0.00392156862745098,'
            text += ' "do_normalize": true, "image_mean": [0.5], "image_std": [0.5], "size": {"height": 8, "width": 8}}'
            (folder / "preprocessor_config.json").write_text(text)
        else:
            write_tokenizer(folder)
        return folder

    return make


@pytest.fixture
def checkpoint(tmp_path: Path, checkpoint_in: Callable[..., Path]) -> Callable[..., Path]:
    """checkpoint(family, **options): the folder of a small random model, in the test's own folder."""
    return partial(checkpoint_in, tmp_path)


@pytest.fixture(scope="session")
def declare() -> Callable[[Any, Path, list[Any]], None]:
    """declare(student, folder, texts): declares a student's ranges on texts, with the tokenizer in a folder."""

    def make(student: Any, folder: Path, texts: list[Any]) -> None:
        from mpcify.conversion.processors import read_processor
        from mpcify.conversion.rows import batches_of, rows_of
        from mpcify.data.files import Examples
        from mpcify.lowering.calibrate import declare_ranges

        kind = "single" if isinstance(texts[0], str) else "pair"
        processor = read_processor(folder, student)
        declare_ranges(student, batches_of(rows_of(Examples(kind, texts, None, ""), student, processor), student))

    return make
