"""A student is served as transformers runs it, or refused: token numbers, positions, types, padding, pixels, graph."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel

import mpcify
from mpcify.conversion.convert import as_student, convert, load_model
from mpcify.conversion.processors import read_processor
from mpcify.errors import MpcifyError
from mpcify.lowering import prove as proof
from mpcify.lowering.prove import prove_equal, prove_inputs
from mpcify.lowering.trace import trace_graph
from mpcify.requests.images import ImageRequests
from tests.makers import FAMILIES

PAIR = ("the film is good", "not very bad")


def configure(folder: Path, **values: Any) -> Path:
    """Changes tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", ["exact", "2quad-freediv", "softmax-freediv"])
def test_every_family_is_proven(family: str, recipe: str, checkpoint: Any) -> None:
    folder = checkpoint(family)
    prove_equal(convert(load_model(folder), recipe), folder)


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]])
def test_pairs_have_the_token_types_that_the_tokenizer_gives(names: list[str], checkpoint: Any) -> None:
    folder = configure(checkpoint("bert"), model_input_names=names)
    tokens = AutoTokenizer.from_pretrained(folder)(*PAIR, return_tensors="pt")
    assert ("token_type_ids" in tokens) == (len(names) == 3)
    with mpcify.compile(folder, "plain") as private, torch.no_grad():
        np.testing.assert_allclose(private([PAIR])[0], load_model(folder)(**tokens).logits.numpy(), atol=1e-4)


def test_mpnet_reads_pairs_without_token_types_and_with_two_ends_between_them(checkpoint: Any) -> None:
    folder = checkpoint("mpnet")
    tokens = AutoTokenizer.from_pretrained(folder)(*PAIR, return_tensors="pt")
    assert (tokens["input_ids"] == 2).sum() == 3
    with mpcify.compile(folder, "plain") as private, torch.no_grad():
        np.testing.assert_allclose(private([PAIR])[0], load_model(folder)(**tokens).logits.numpy(), atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_cuts_the_tokenizers_side(side: str, checkpoint: Any) -> None:
    folder, text = configure(checkpoint("bert"), truncation_side=side), "the film is not very good but dull"
    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=6, return_tensors="pt")
    with mpcify.compile(folder, "plain", length=6, truncate=True) as private, torch.no_grad():
        with pytest.warns(mpcify.MpcifyWarning, match="1 of 1"):
            found, _ = private([text])
        np.testing.assert_allclose(found, load_model(folder)(**tokens).logits.numpy(), atol=1e-4)


@pytest.mark.parametrize("token", [2, 3])  # [CLS] and [SEP]
def test_a_model_that_counts_no_position_for_a_token_of_every_text_is_refused(token: int, checkpoint: Any) -> None:
    folder = checkpoint("roberta", pad_token_id=token)
    with pytest.raises(MpcifyError, match=f"MPC-208 tokenizer: it puts token {token} into every text"):
        prove_equal(convert(load_model(folder), "2quad-freediv"), folder)
    with pytest.raises(MpcifyError, match="MPC-208"):
        mpcify.compile(folder, "plain")


def test_a_text_with_the_padding_token_is_refused_if_the_model_skips_it(checkpoint: Any) -> None:
    for family, refused in (("bert", False), ("roberta", True)):
        with mpcify.compile(checkpoint(family, name=family), "plain") as private:
            if refused:
                with pytest.raises(MpcifyError, match="MPC-111 text 2"):
                    private(["the film", "the [PAD] film"])
            else:
                private(["the film", "the [PAD] film"])


def test_special_tokens_that_the_backend_alone_reads_otherwise_are_refused(checkpoint: Any) -> None:
    folder = configure(checkpoint("bert"), split_special_tokens=True)
    with pytest.raises(MpcifyError, match=r"MPC-208 .*other tokens"):
        prove_equal(convert(load_model(folder), "2quad-freediv"), folder)


def test_other_positions_than_a_client_can_share_are_seen(checkpoint: Any) -> None:
    folder = checkpoint("roberta")
    student = convert(load_model(folder), "2quad-freediv")
    student.roberta.embeddings.padding_idx = 2
    with pytest.raises(MpcifyError, match=r"MPC-204 .*position"):
        prove_inputs(student, read_processor(folder, student))
    with pytest.raises(MpcifyError, match=r"MPC-204 .*position"):
        prove_inputs(student)


def test_other_token_types_are_seen(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint("bert")
    student, encode = convert(load_model(folder), "2quad-freediv"), proof.TextRequests.encode

    def mistaken(*arguments: Any, **options: Any) -> Any:
        return [replace(item, types=tuple(1 for _ in item.types)) for item in encode(*arguments, **options)]

    monkeypatch.setattr(proof.TextRequests, "encode", mistaken)
    with pytest.raises(MpcifyError, match="MPC-204"):
        prove_equal(student, folder)


def test_a_graph_that_computes_something_else_is_seen(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, trace_graph = checkpoint("bert"), proof.trace_graph

    def twisted(student: Any, *shape: Any) -> Any:
        graph, weights = trace_graph(student, *shape)
        table = student.bert.embeddings.token_type_embeddings.weight.detach().double().numpy()
        step = next(name for name in weights if name.endswith(".step"))
        return graph, {**weights, step: (table[0] - table[1])[None]}

    monkeypatch.setattr(proof, "trace_graph", twisted)
    with pytest.raises(MpcifyError, match=r"MPC-204 .*graph"):
        prove_equal(convert(load_model(folder), "2quad-freediv"), folder)


@pytest.mark.parametrize("module", ["attention.self", "intermediate"])
def test_a_layer_that_calls_another_function_is_seen_when_it_is_traced(module: str, checkpoint: Any) -> None:
    student = as_student(load_model(checkpoint("bert")))
    exact = BertModel._from_config(load_model(checkpoint("bert")).config, attn_implementation="eager")
    layer = "encoder.layer.1"
    student.bert.set_submodule(f"{layer}.{module}", exact.get_submodule(f"{layer}.{module}"))
    with pytest.raises(MpcifyError, match=r"MPC-204 .* 1 of 2 layers call the replaced"):
        trace_graph(student, 1, 8)


def test_a_compiled_model_proves_the_first_graph_it_traces(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proven: list[int] = []
    monkeypatch.setattr("mpcify.lowering.export.prove_graph", lambda _, graph, __: proven.append(graph.length))
    with mpcify.compile(checkpoint("bert"), "plain") as private:
        private(["the film", "the film is not very good but dull and a very bad film is the film"])
    assert proven == [16]


@pytest.mark.parametrize(
    "change",
    [
        {"do_center_crop": True},
        {"size": {"shortest_edge": 8}},
        {"size": {"height": 9, "width": 8}},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}},
        {"image_processor_type": "Nobody's"},
        {"image_std": 0.0},
        {"image_std": [0.0]},
        {"image_std": math.nan},
        {"image_mean": math.inf},
        {"image_mean": []},
        {"rescale_factor": 1e39},
        {"rescale_factor": "1"},
        {"resample": "bilinear"},
    ],
)
def test_an_image_processor_that_does_more_is_refused(change: dict[str, Any], checkpoint: Any) -> None:
    folder = checkpoint("vit")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(MpcifyError, match="MPC-208"):
        prove_equal(convert(load_model(folder), "2quad-freediv"), folder)


def test_a_deviation_of_0_is_found_by_check(checkpoint: Any) -> None:
    folder = checkpoint("vit")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_std": [0.0]}))
    (finding,) = (finding for finding in mpcify.check(folder) if finding.blocks)
    assert (finding.code, finding.kind) == ("MPC-208", "config")


def test_pixels_that_are_no_numbers_prove_nothing(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint("vit")
    student = convert(load_model(folder), "2quad-freediv")
    processor = read_processor(folder, student)
    monkeypatch.setattr(ImageRequests, "pixels", lambda *_: np.full((1, 8, 8), np.nan, np.float32))
    with pytest.raises(MpcifyError, match=r"MPC-208 image processor: .*other pixels"):
        prove_inputs(student, processor)


@pytest.mark.parametrize("longest", [0, -1, -5.0])
def test_a_tokenizer_that_no_text_fits_is_refused(longest: float, checkpoint: Any) -> None:
    folder = checkpoint("bert")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": longest}))
    with pytest.raises(MpcifyError, match=r"MPC-208 .*model_max_length"):
        prove_equal(convert(load_model(folder), "exact"), folder)


def test_other_pixels_than_transformers_are_seen(checkpoint: Any) -> None:
    folder = checkpoint("vit")
    student = convert(load_model(folder), "2quad-freediv")
    processor = read_processor(folder, student)
    prove_inputs(student, processor)
    preprocess = processor._preprocess
    processor._preprocess = lambda images, **options: preprocess([image[:, ::-1] for image in images], **options)
    with pytest.raises(MpcifyError, match=r"MPC-208 image processor: .*other pixels"):
        prove_inputs(student, processor)


def test_a_tokenizer_whose_every_text_is_beyond_the_models_table_is_refused(checkpoint: Any) -> None:
    folder = checkpoint("bert")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] = {word: index + 100 for word, index in tokenizer["model"]["vocab"].items()}
    tokenizer["added_tokens"] = [{**token, "id": token["id"] + 100} for token in tokenizer["added_tokens"]]
    for token in tokenizer["post_processor"]["special_tokens"].values():
        token["ids"] = [number + 100 for number in token["ids"]]
    path.write_text(json.dumps(tokenizer))
    said = "MPC-208 tokenizer: it gives token numbers beyond the model's"
    with pytest.raises(MpcifyError, match=said):
        prove_equal(convert(load_model(folder), "exact"), folder)
    (finding,) = (finding for finding in mpcify.check(folder) if finding.blocks)
    assert (finding.code, finding.kind) == ("MPC-208", "config")
