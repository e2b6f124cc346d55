"""The proof that a client's inputs and a student's graph answer as transformers does, before any is written or run.

Two halves: what a client shares of a text or an image is what the model would have read (`prove_inputs`), and the graph
computes what the model computes (`prove_graph`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_utils import load_image

from mpcify.conversion.batches import model_inputs
from mpcify.conversion.blocks import evaluating, on_cpu
from mpcify.conversion.facts import longest_text, skipped_token, takes_images, takes_segments, word_table
from mpcify.conversion.processors import backend_of, input_facts, processor_beside
from mpcify.conversion.survey import refusing, sample_inputs, unproven
from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph.about import sides
from mpcify.graph.graph import Graph
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from mpcify.requests.images import ImageRequests, client_patches, unfold
from mpcify.requests.text import Encoded, Text, TextRequests, client_inputs, padded

TOLERANCE = 1e-3  # of the largest value
LENGTH = 16  # tokens of the texts that are tried; longer ones are cut
RUN = 3  # texts of a kind that the model itself runs: the shortest, the longest, and one between
SENTENCES = (
    "The film is not very good, but dull.",
    "ÉCLAIR naïve: 你好 😀 3.14 %",
    "x",
    "the actors and the film " * 9,
)


def prove_equal(student: PreTrainedModel, source: str | Path | None = None, processor: Any = None) -> None:
    """Raises MPC-204, MPC-208 or MPC-401 unless a student is served as transformers runs it.

    source: the folder or hub name with the student's tokenizer or image processor, if that is not given as processor;
    a student without any is proven on token numbers alone.
    """
    if processor is None and source is not None:
        processor = processor_beside(source, student)
    with on_cpu(student):
        prove_inputs(student, processor)
        length = 0 if takes_images(student) else min(LENGTH, longest_text(student))
        with refusing(student.config.model_type):
            graph, weights = lower(*trace_graph(student, 2, length))
        prove_graph(student, graph, weights)


@torch.no_grad()
def prove_inputs(student: PreTrainedModel, processor: Any = None) -> None:
    """Raises MPC-204 or MPC-208 unless a student reads the same in what a client shares as in what transformers makes.

    Texts, single and in pairs, of different lengths, one cut, and with special tokens inside: their token numbers are
    those of the tokenizer, and the values that enter the first layer, and the logits, are those of transformers' own
    forward on them, as on every special token of the config. Images: the pixels are those of the image processor.
    """
    with evaluating(student), refusing(student.config.model_type):
        if takes_images(student):
            if processor is not None:
                prove_pixels(ImageRequests(input_facts(student, processor)), processor)
            return
        requests = None if processor is None else TextRequests(backend_of(processor), input_facts(student, processor))
        encoded = random_tokens(student, 2, min(LENGTH, longest_text(student)))
        compare(student, columns_of(student, encoded), encoded)
        if requests is None:
            return
        for texts in tried(processor, requests):
            limit = min(LENGTH, requests.longest)
            found = requests.encode(texts, truncate=True, longest=limit)
            prove_tokens(processor, texts, found, limit, bool(requests.facts.types))
            order = sorted(range(len(texts)), key=lambda place: len(found[place]))
            some = [order[place] for place in np.linspace(0, len(order) - 1, min(RUN, len(order)), dtype=int)]
            for places in runs(processor, requests, some):
                chosen = [texts[place] for place in places]
                batch = tokenized(processor, chosen, limit, padding=len(places) > 1, return_tensors="pt")
                compare(student, batch, [found[place] for place in places])


@torch.no_grad()
def prove_graph(student: PreTrainedModel, graph: Graph, weights: Mapping[str, np.ndarray]) -> None:
    """Raises MPC-204 unless a lowered graph answers as its student does, on random tokens with padding, or pixels.

    Answers that are not finite prove nothing (exp_t before calibration, say): such requests are refused one by one.
    """
    with evaluating(student), refusing(student.config.model_type):
        if takes_images(student):
            shape = sample_inputs(student)["pixel_values"].shape[1:]
            pixels = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
            expected = student(pixel_values=pixels).logits
            inputs = client_patches([unfold(pixels[0].numpy(), sides(student.config.patch_size))], graph)
        else:
            encoded = random_tokens(student, min(graph.batch, 2), graph.length)
            expected = student(**shared(student, encoded)).logits
            inputs = client_inputs(encoded, graph, word_table(student))
        with PlainEngine().compile(graph).load(weights) as session:
            outputs, _ = session.run(inputs)
    if not alike(outputs["logits"][: len(expected)], expected):
        raise unproven(student.config.model_type, "the graph does not compute what the model computes")


def compare(student: PreTrainedModel, batch: Mapping[str, Any], encoded: Sequence[Encoded]) -> None:
    """Raises MPC-204 unless a student answers on a batch of transformers' as on what a client shares of the texts."""
    theirs = student(**model_inputs(student, batch), output_hidden_states=True)
    ours = student(**shared(student, encoded), output_hidden_states=True)
    real = torch.from_numpy(padded(encoded, max(map(len, encoded)))[2] > 0)
    pairs = [(ours.logits, theirs.logits)]
    if theirs.hidden_states is not None:
        pairs.append((ours.hidden_states[0][real], theirs.hidden_states[0][real]))
    if not all(alike(mine.numpy(), his) for mine, his in pairs):
        what = "it reads a token's number, position, type or padding otherwise than a client can share them"
        raise unproven(student.config.model_type, what)


def alike(ours: np.ndarray, theirs: Tensor) -> bool:
    """Whether values are equal up to rounding, those left out that are not finite."""
    expected = theirs.numpy()
    kept = np.isfinite(expected)
    largest = np.abs(expected[kept]).max(initial=0.0)
    return bool((np.abs(ours[kept] - expected[kept]) <= TOLERANCE * largest).all())


def random_tokens(student: PreTrainedModel, rows: int, length: int) -> list[Encoded]:
    """Random tokens, every other row a third shorter than `length`, with the config's special tokens among them."""
    random = np.random.default_rng(0)
    words, skipped = len(student.get_input_embeddings().weight), skipped_token(student)
    values = {value for name, value in student.config.to_dict().items() if name.endswith("_token_id")}
    special = sorted(value for value in values if isinstance(value, int) and 0 <= value < words and value != skipped)
    choices = [word for word in range(words) if word != skipped]
    encoded = []
    for row in range(rows):
        count = length if row % 2 else max(length - length // 3, 1)
        ids = random.choice(choices, count)
        ids[: len(special)] = special[:count]
        types = np.arange(count) >= count // 2 if takes_segments(student) else np.zeros(count)
        encoded.append(Encoded(tuple(ids.tolist()), tuple(types.astype(int).tolist())))
    return encoded


def columns_of(student: PreTrainedModel, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
    """Texts as a model takes them, padded on the right."""
    ids, segment, mask = map(torch.from_numpy, padded(encoded, max(map(len, encoded))))
    ids[mask == 0] = student.config.pad_token_id or 0
    columns = {"input_ids": ids, "attention_mask": mask}
    return {**columns, "token_type_ids": segment} if takes_segments(student) else columns


def shared(student: PreTrainedModel, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
    """What a student's trace takes of texts: rows of the word table, M, and token types."""
    ids, segment, mask = padded(encoded, max(map(len, encoded)))
    real = mask.astype(np.float32)
    inputs = {
        "inputs_embeds": torch.from_numpy(word_table(student)[ids] * real[..., None]),
        "attention_mask": torch.from_numpy(real)[:, None, None],
    }
    if takes_segments(student):
        inputs["token_type_ids"] = torch.from_numpy(segment)
    return inputs


def tried(tokenizer: Any, requests: TextRequests) -> list[list[Text]]:
    """Texts to compare on, and pairs of them, all of which a request may have. Raises MPC-208 if none may."""
    singles: list[Text] = [*SENTENCES, *(f"the {token} film" for token in tokenizer.all_special_tokens)]
    pairs: list[Text] = [(SENTENCES[0], SENTENCES[2]), (SENTENCES[1], SENTENCES[3])]
    groups: list[list[Text]] = []
    for texts in (singles, pairs):
        least = tokenizer.num_special_tokens_to_add(pair=texts is pairs) + 2
        ids = [encoding.ids for encoding in requests.tokenizer.encode_batch(texts)]
        allowed = [
            text
            for text, row in zip(texts, ids, strict=True)
            if row and max(row) < requests.facts.vocabulary and requests.facts.skipped not in row
        ]
        if all(row and max(row) >= requests.facts.vocabulary for row in ids):
            requests.encode(texts, truncate=True)  # every text is refused: so is the tokenizer, in the same words
        if allowed and least <= min(LENGTH, requests.longest):
            groups.append(allowed)
    return groups


def tokenized(tokenizer: Any, texts: Sequence[Text], limit: int, **options: Any) -> Mapping[str, Any]:
    """Texts as transformers' user encodes them; padding, if any, stands on the right."""
    columns = zip(*((text,) if isinstance(text, str) else text for text in texts), strict=True)
    side = {"padding_side": "right"} if options.get("padding") else {}
    return dict(tokenizer(*map(list, columns), truncation=True, max_length=limit, **side, **options))


def prove_tokens(tokenizer: Any, texts: Sequence[Text], found: Sequence[Encoded], limit: int, types: bool) -> None:
    """Raises MPC-208 unless transformers' tokenizer gives the token numbers, and the types, that a client makes."""
    theirs = tokenized(tokenizer, texts, limit)
    same = [list(item.ids) for item in found] == theirs["input_ids"]
    if not same or (types and [list(item.types) for item in found] != theirs["token_type_ids"]):
        what = f"its tokenizer.json alone gives other tokens than transformers' {type(tokenizer).__name__}"
        raise MpcifyError(208, "tokenizer", what, "save a tokenizer whose tokenizer.json holds all that it does")


def runs(tokenizer: Any, requests: TextRequests, places: list[int]) -> list[list[int]]:
    """The texts that transformers can run together: all, or each alone if there is nothing to pad with."""
    padding = tokenizer.pad_token_id
    together = padding is not None and 0 <= padding < requests.facts.vocabulary
    return [places] if together else [[place] for place in places]


def prove_pixels(requests: ImageRequests, processor: Any) -> None:
    """Raises MPC-208 unless images of several sizes and modes become the pixels that transformers makes of them."""
    wide, high = requests.width, requests.height
    sizes = [(wide, high)] if not requests.facts.do_resize else [(wide, high), (2 * wide + 3, high + 1), (9, 21)]
    random = np.random.default_rng(0)
    for size in sizes:
        for mode in ("RGB", "L", "RGBA", "P"):
            image = Image.fromarray(random.integers(0, 256, (size[1], size[0], 4), np.uint8)).convert(mode)
            image.getexif()[0x0112] = 1 if size == (wide, high) else 6  # on its side
            upright = load_image(image) if requests.mode == "RGB" else requests.convert(image, "image")
            pixels = np.atleast_3d(np.asarray(upright))
            theirs = processor(images=pixels, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
            ours = requests.pixels(image)
            same = theirs.shape == ours.shape and np.abs(ours - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), 1)
            if not same:  # nor what is not a number
                what = f"transformers' {type(processor).__name__} makes other pixels of an image than mpcify"
                remedy = "use a ViTImageProcessor that resizes, rescales and normalises, and nothing else"
                raise MpcifyError(208, "image processor", what, remedy)
