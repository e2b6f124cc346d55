"""Tiny models, tokenizers, checkpoints, data, graphs and requests for the tests; importing it loads no torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpcify.data.files import Examples
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import recorded

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (*SPECIAL, "the", "film", "is", "not", "very", "good", "bad", "dull", "but", "a", "and")
LETTERS = (*SPECIAL, *"abcdefgh")
NUMBERED = (*SPECIAL, *(f"word{index}" for index in range(28)))
MPNET_SPECIAL = ("<s>", "<pad>", "</s>", "[UNK]")  # in the places of SPECIAL: MPNet's padding is token 1 in every model
FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "albert", "vit")
PROCESSOR = (
    '{"do_resize": true, "resample": 2, "do_rescale": true, "rescale_factor": 0.00392156862745098,'
    ' "do_normalize": true, "image_mean": [0.5], "image_std": [0.5], "size": {"height": 8, "width": 8}}'
)

Arrays = dict[str, np.ndarray]


# Models


def make_model(
    family: str, *, width: int = 32, layers: int = 2, vocabulary: int = len(WORDS), seed: int = 0, **options: Any
) -> Any:
    """A random classifier as Hugging Face makes it: of 40 positions, or of images of 8 × 8. options: of its config."""
    import torch
    import transformers as hf

    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 8}
    shape |= {"intermediate_size": 2 * width}
    table = {"vocab_size": vocabulary, "max_position_embeddings": 40}
    text, split = {**shape, **table}, {**shape, **table, "embedding_size": width // 2}
    narrow = {**table, "dim": width, "n_layers": layers, "n_heads": width // 8, "hidden_dim": 2 * width}
    image = {**shape, "image_size": 8, "patch_size": 2, "num_channels": 1}
    model_class, config_class, values = {
        "bert": (hf.BertForSequenceClassification, hf.BertConfig, text),
        "roberta": (hf.RobertaForSequenceClassification, hf.RobertaConfig, text),
        "distilbert": (hf.DistilBertForSequenceClassification, hf.DistilBertConfig, narrow),
        "electra": (hf.ElectraForSequenceClassification, hf.ElectraConfig, split),
        "mpnet": (hf.MPNetForSequenceClassification, hf.MPNetConfig, text),
        "albert": (hf.AlbertForSequenceClassification, hf.AlbertConfig, split),
        "vit": (hf.ViTForImageClassification, hf.ViTConfig, image),
    }[family]
    torch.manual_seed(seed)
    return model_class(config_class(**{**values, **options})).eval()


def make_teacher(family: str, *, labels: int = 3, layers: int = 2, seed: int = 0, **options: Any) -> Any:
    """A random classifier, 32 wide, with weights large enough that every part of it matters."""
    import torch

    special = {} if family in ("vit", "mpnet") else {"pad_token_id": 0}
    special |= {"type_vocab_size": 1} if family == "roberta" else {}
    usual = {"num_labels": labels, "initializer_range": 0.2}
    model = make_model(family, layers=layers, seed=seed, **{**special, **usual, **options})
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model


def make_calm_teacher(
    family: str = "bert", *, scale: float = 0.2, vocabulary: int = len(NUMBERED), **options: Any
) -> Any:
    """A random classifier, 16 wide, whose scores and activations are of ordinary size: it can be trained."""
    import torch

    model = make_model(family, width=16, vocabulary=vocabulary, **options)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=scale)
    return model


# Tokenizers, processors, checkpoints


def make_tokenizer(words: Sequence[str] = WORDS) -> Any:
    """A tokenizer of whole words in lower case, of `tokenizers`; it treats pairs as BERT does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def make_fast_tokenizer(words: Sequence[str] = WORDS, types: bool = True) -> Any:
    """The same tokenizer, of transformers. types: whether it says that its texts have token types."""
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]} if types else {}
    return PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(words), **names, **special)


def make_mpnet_tokenizer() -> Any:
    """A tokenizer of the same words, of transformers; it treats pairs as MPNet does: no types, and two ends between."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = (*MPNET_SPECIAL, *WORDS[len(SPECIAL) :])
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"pad_token": "<pad>", "unk_token": "[UNK]", "cls_token": "<s>", "sep_token": "</s>"}
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=names, **special)


def write_checkpoint(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Saves a small random teacher with its tokenizer, or its image processor; the folder."""
    make_teacher(family, **options).save_pretrained(folder)
    if family == "vit":
        (folder / "preprocessor_config.json").write_text(PROCESSOR)
    else:
        tokenizer = make_mpnet_tokenizer() if family == "mpnet" else make_fast_tokenizer(types=False)
        tokenizer.save_pretrained(folder)
    return folder


def declare_on(student: Any, folder: Path, texts: list[Any]) -> None:
    """Declares a student's ranges on texts, with the tokenizer in a folder."""
    from mpcify.conversion.processors import read_processor
    from mpcify.conversion.rows import batches_of, rows_of
    from mpcify.lowering.calibrate import declare_ranges

    kind = "single" if isinstance(texts[0], str) else "pair"
    rows = rows_of(Examples(kind, texts, None, ""), student, read_processor(folder, student))
    declare_ranges(student, batches_of(rows, student))


def write_student(folder: Path, texts: list[Any], **options: Any) -> Path:
    """Converts and saves a small random teacher, its ranges declared on texts; the student's folder."""
    from mpcify.conversion.convert import convert, load_model
    from mpcify.conversion.folder import save

    source = write_checkpoint(folder / "teacher", **options)
    student = convert(load_model(source), "2quad-freediv")
    declare_on(student, source, texts)
    save(student, folder / "student", source)
    return folder / "student"


# Data


def write_bytes(folder: Path, name: str, content: str | bytes) -> Path:
    """A file in a folder, to the byte (text as UTF-8); its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_texts(count: int = 40, seed: int = 0, pairs: bool = False, labels: bool = True) -> Examples:
    """Random texts of NUMBERED words, or pairs of them."""
    random = np.random.default_rng(seed)
    sentences = [" ".join(random.choice(NUMBERED[4:], 3 + index % 6)) for index in range(count)]
    items = [(text, text) for text in sentences] if pairs else sentences
    given = [index % 2 for index in range(count)] if labels else None
    return Examples("pair" if pairs else "single", items, given, f"data-{seed}.tsv")


def make_images(folder: Path, count: int = 12, seed: int = 0) -> Examples:
    """Random images of 8 × 8 in a folder."""
    from PIL import Image

    random = np.random.default_rng(seed)
    paths = [folder / f"image-{seed}-{index}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return Examples("image", paths, [index % 2 for index in range(count)], f"images-{seed}.tsv")


def make_rows(model: Any, count: int = 40) -> list[dict[str, Any]]:
    """Random rows to train a model on: texts of 5 to 12 of the NUMBERED tokens, or images."""
    import torch

    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        images = torch.randn(count, 1, 8, 8, generator=generator)
        return [{"pixel_values": image, "labels": index % 2} for index, image in enumerate(images)]
    rows = []
    for index in range(count):
        ids = torch.randint(4, len(NUMBERED), (5 + index % 8,), generator=generator).tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
    return rows


# Graphs and their requests


def small_model(length: int = 4, activation: str = "square", width: int = 48) -> tuple[Graph, Arrays]:
    """A LayerNorm, and two linear layers around an activation, for one request `x`; and its weights."""
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (0.1 * generator.standard_normal(shape)).astype(np.float32)

    builder = Builder(1, length)
    x = builder.input("x", "client", (1, length, width))
    scale, bias = builder.weight("norm.g", 1 + random(width)), builder.weight("norm.b", random(width))
    x = builder.emit("norm", "layernorm", [x, scale, bias], eps=1e-12)
    builder.layer, builder.part = 0, "linear"
    x = builder.emit("up", "linear", [x, builder.weight("up.w", random(width, 64)), builder.weight("up.b", random(64))])
    x = builder.emit("activation", activation, [x])
    down = [x, builder.weight("down.w", random(64, 2)), builder.weight("down.b", random(2))]
    return builder.finish(None, [builder.emit("logits", "linear", down)]), builder.weights


def transformer(layers: int = 2, scale: float = 1.0) -> tuple[Graph, Arrays]:
    """A student in small, freeDiv and quad: 2 requests of 6 tokens, 16 wide, 2 heads. scale: of what quad squares."""
    rng, batch, n, width, heads = np.random.default_rng(0), 2, 6, 16, 2
    builder = Builder(batch, n)

    def weight(name: str, *shape: int, scale: float = 1.0) -> str:
        spread = scale / math.sqrt(shape[0]) if len(shape) == 2 else 0.1
        return builder.weight(name, (rng.standard_normal(shape) * spread).astype(np.float32))

    def linear(name: str, x: str, p: int, q: int, scale: float = 1.0) -> str:
        return builder.emit(name, "linear", (x, weight(f"{name}.w", p, q, scale=scale), weight(f"{name}.b", q)))

    def norm(name: str, x: str) -> str:
        g = builder.weight(f"{name}.g", np.ones(width, np.float32))
        return builder.emit(name, "layernorm", (x, g, weight(f"{name}.b", width)), eps=1e-12)

    x, share = builder.input("embeddings", "client", (batch, n, width)), builder.input("share", "client", (batch, n, 1))
    for layer in range(layers):
        builder.layer, builder.part = layer, "attention"
        q, k, v = (linear(f"{layer}.{name}", x, width, width) for name in "qkv")
        v = builder.emit(f"{layer}.masked", "mul", (v, share))
        q, k, v = (
            builder.emit(
                f"{y}.heads",
                "transpose",
                (builder.emit(f"{y}.split", "reshape", (y,), shape=(batch, n, heads, 8)),),
                axes=(0, 2, 1, 3),
            )
            for y in (q, k, v)
        )
        scores = builder.emit(f"{layer}.scores", "matmul", (q, k), transpose=True)
        scores = builder.emit(
            f"{layer}.shifted", "shift", (builder.emit(f"{layer}.scaled", "scale", (scores,), by=0.02),), by=0.2
        )
        context = builder.emit(
            f"{layer}.context", "matmul", (builder.emit(f"{layer}.squares", "square", (scores,)), v), transpose=False
        )
        context = builder.emit(f"{layer}.back", "transpose", (context,), axes=(0, 2, 1, 3))
        context = builder.emit(f"{layer}.joined", "reshape", (context,), shape=(batch, n, width))
        x = norm(
            f"{layer}.norm", builder.emit(f"{layer}.sum", "add", (x, linear(f"{layer}.out", context, width, width)))
        )
        builder.part = "activation"
        hidden = linear(f"{layer}.first", x, width, 32, scale)
        hidden = builder.emit(f"{layer}.quad", "square", (hidden,))
        x = builder.emit(f"{layer}.residual", "add", (x, linear(f"{layer}.second", hidden, 32, width)))
        x = norm(f"{layer}.last", x)
    builder.layer, builder.part = None, "head"
    first = builder.emit("first", "slice", (x,), axis=1, start=0, stop=1)
    pooled = builder.emit("pooled", "tanh", (linear("pool", first, width, width),))
    linear("logits", pooled, width, 3)
    return builder.finish(None, ["logits"]), builder.weights


def transformer_requests(seed: int = 0, padding: float = 0.0) -> Arrays:
    """Two requests, of 6 and of 4 real tokens; `padding` stands in the rows of padding."""
    rng = np.random.default_rng(seed)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.float32)[:, :, None]
    embeddings = rng.standard_normal((2, 6, 16)).astype(np.float32)
    return {"embeddings": np.where(mask > 0, embeddings, padding), "share": 16 * mask / mask.sum(1, keepdims=True)}


def declared(graph: Graph, **special: dict[str, tuple[float, float]]) -> Graph:
    """The graph with a range for every quantity, from 0.5 to 1 but for those named."""
    usual = {item.name: dict.fromkeys(recorded(item, exponent=False), (0.5, 1.0)) for item in graph.operations}
    return graph.with_ranges({name: entry | special.get(name, {}) for name, entry in usual.items()})
