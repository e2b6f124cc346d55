"""Rows: what a request encodes, in batches of like length, padded on the right."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedModel

from mpcify.conversion.convert import convert
from mpcify.conversion.rows import collator, lengths_taught, mixed_rows, readable, rows_of, vocabulary
from mpcify.distillation.order import BatchesOfLikeLength
from mpcify.errors import MpcifyError, MpcifyWarning

Make = Callable[..., Any]


def test_batches_of_like_length_come_in_random_order_and_hold_every_row_once() -> None:
    torch.manual_seed(1)
    lengths = torch.randint(3, 60, (410,)).tolist()
    sampler = BatchesOfLikeLength([{"input_ids": [2] * length} for length in lengths], 8)
    torch.manual_seed(0)
    order, other = list(sampler), list(sampler)
    assert sorted(order) == sorted(other) == list(range(len(sampler)))
    assert order != other
    torch.manual_seed(0)
    assert list(sampler) == order
    batches = [[lengths[row] for row in order[start : start + 8]] for start in range(0, 408, 8)]
    assert np.mean([max(batch) - min(batch) for batch in batches]) < 57 / 10
    longest = np.array([max(batch) for batch in batches])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.5  # by falling length it would be near -1
    assert list(BatchesOfLikeLength([{"input_ids": [2]}, {"input_ids": [2, 3]}], 8)) in ([0, 1], [1, 0])


def test_lengths_are_taken_anew_when_an_epoch_begins() -> None:
    rows = [{"input_ids": [2] * (1 + index % 2)} for index in range(80)]
    sampler = BatchesOfLikeLength(rows, 8)
    list(sampler)
    rows.sort(key=lambda row: len(row["input_ids"]))  # as another epoch has other rows in the same places
    order = list(sampler)
    batches = [{len(rows[place]["input_ids"]) for place in order[start : start + 8]} for start in range(0, 80, 8)]
    assert batches.count({1}) == batches.count({2}) == 5


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_what_a_request_encodes(side: str, teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    tokenizer.truncation_side = side
    examples = texts(8, pairs=True)
    with pytest.warns(MpcifyWarning, match="longer than 9 tokens"):
        rows = rows_of(examples, teacher_of(), tokenizer, max_length=9)
    columns = tokenizer(*map(list, zip(*examples.texts, strict=True)), truncation=True, max_length=9)
    assert [{name: rows[index][name] for name in columns} for index in range(8)] == [
        {name: values[index] for name, values in columns.items()} for index in range(8)
    ]


def test_rows_hold_the_columns_that_the_model_takes(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    for family, types in (("bert", True), ("distilbert", False)):
        (row, *_) = rows_of(texts(2, labels=False), teacher_of(family), tokenizer)
        assert ("token_type_ids" in row) == types


def test_a_row_of_another_models_tokens_is_refused(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    narrow = teacher_of()
    narrow.resize_token_embeddings(20)
    with pytest.raises(MpcifyError, match="MPC-208"):
        rows_of(texts(), narrow, tokenizer)


def test_a_row_that_holds_the_padding_token_is_named(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    examples = replace(texts(2), texts=["word1", "word2 [PAD]"])
    rows_of(examples, teacher_of(), tokenizer)
    with pytest.raises(MpcifyError, match=r"MPC-111 data-0\.tsv row 2"):
        rows_of(examples, teacher_of("roberta", pad_token_id=0), tokenizer)


def test_batches_are_padded_on_the_right_whatever_the_rows_hold_besides(teacher_of: Make) -> None:
    rows = [{"input_ids": [2, 5, 3], "idx": 7, "label": 1}, {"input_ids": [2, 3], "idx": 8, "label": 0}]
    batch = collator(teacher_of(pad_token_id=1))(rows)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[2, 5, 3], [2, 3, 1]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [1, 0],
    }


def test_rows_of_different_columns_and_empty_batches_are_refused(teacher_of: Make) -> None:
    collate = collator(teacher_of())
    with pytest.raises(MpcifyError, match=r"MPC-103 .*different columns"):
        collate([{"input_ids": [2, 3], "token_type_ids": [0, 0]}, {"input_ids": [2, 3]}])
    with pytest.raises(MpcifyError, match=r"MPC-103 .*no column input_ids"):
        collate([{"sentence": "word1"}])
    with pytest.raises(MpcifyError, match="MPC-108"):
        collate([])


def test_an_image_of_more_than_8_bits_is_refused_before_any_is_read(
    teacher_of: Make, image_processor: Any, images: Make
) -> None:
    examples = images(3)
    Image.new("I;16", (8, 8)).save(examples.texts[2])
    with pytest.raises(MpcifyError, match=r"MPC-107 images-0\.tsv row 3 .*more than 8 bits"):
        rows_of(examples, teacher_of("vit"), image_processor)


def test_examples_must_fit_the_model(teacher_of: Make, tokenizer: Any, texts: Make, images: Make) -> None:
    student: PreTrainedModel = convert(teacher_of(), "2quad-freediv")
    with pytest.raises(MpcifyError, match="MPC-103"):
        rows_of(images(), student, tokenizer)
    with pytest.raises(MpcifyError, match=r"MPC-104 data-0\.tsv row 3"):
        rows_of(replace(texts(3), labels=[0, 1, 2]), student, tokenizer)


def test_an_unreadable_image_is_named_by_its_row(
    teacher_of: Make, image_processor: Any, images: Make, tmp_path: Path
) -> None:
    examples = images(3)
    rows = rows_of(examples, teacher_of("vit"), image_processor)
    assert rows[0]["pixel_values"].shape == (1, 8, 8)
    Path(examples.texts[1]).write_bytes(b"no image")
    with pytest.raises(MpcifyError, match=r"MPC-107 images-0\.tsv row 2"):
        rows[1]
    with pytest.raises(MpcifyError, match=r"MPC-107 images-0\.tsv row 2"):
        rows_of(examples, teacher_of("vit"), image_processor)


def test_longer_texts_are_cut_and_said(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    model = teacher_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert max(len(row["input_ids"]) for row in rows_of(texts(6), model, tokenizer)) == 10
    with pytest.warns(MpcifyWarning, match="3 of 6 texts are longer than 7 tokens"):
        rows = rows_of(texts(6), model, tokenizer, max_length=7)
    assert max(len(row["input_ids"]) for row in rows) == 7


def test_rows_are_counted_by_the_bucket_of_their_own_tokens(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    examples = replace(texts(4), texts=["word1", "word1 " * 14, "word1 " * 15, "word1 " * 38])
    assert lengths_taught(rows_of(examples, teacher_of(), tokenizer)) == {16: 2, 24: 1, 48: 1}
    with pytest.warns(MpcifyWarning, match="were cut"):
        cut = rows_of(examples, teacher_of(), tokenizer, max_length=20)
    assert lengths_taught(cut) == {16: 2, 24: 2}, "nobody saw what was cut"
    assert lengths_taught([{"input_ids": [2] * 600}]) == {512: 1}
    assert lengths_taught([{"input_ids": [2] * 40, "attention_mask": [1] * 5 + [0] * 35}]) == {16: 1}, "padding is none"
    assert lengths_taught([]) == {}


def test_images_are_not_counted_by_length(teacher_of: Make, image_processor: Any, images: Make) -> None:
    assert lengths_taught(rows_of(images(3), teacher_of("vit"), image_processor)) == {}


def test_an_epoch_is_every_text_as_it_is_and_as_many_pieces(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    model, examples = teacher_of(), texts(6)
    rows = mixed_rows(examples, model, tokenizer, 16, repeats=2, seed=1)
    assert len(rows) == 24
    plain = [*rows_of(replace(examples, labels=None), model, tokenizer)]
    first = [rows[index] for index in range(24)]
    assert first[:12] == [*plain, *plain]
    assert sum(lengths_taught(rows).values()) == 6 + 12, "a text counts once, a piece is another each time"
    assert {name for row in first for name in row} == {"input_ids", "attention_mask", "token_type_ids"}
    rows.set_epoch(1)
    other = [rows[index] for index in range(24)]
    assert other[:12] == first[:12]
    assert other[12:] != first[12:]
    rows.set_epoch(0)
    assert [rows[index] for index in range(24)] == first
    again = mixed_rows(examples, model, tokenizer, 16, repeats=2, seed=1)
    assert [again[index] for index in range(24)] == first
    for place in (24, -25):
        with pytest.raises(IndexError):
            rows[place]


def test_pieces_are_no_longer_than_the_model_takes(teacher_of: Make, tokenizer: Any, texts: Make) -> None:
    for longest, most in ((16, 16), (512, 40)):
        rows = mixed_rows(texts(40), teacher_of(), tokenizer, longest)
        lengths = {len(rows[index]["input_ids"]) for index in range(40, 80)}
        assert min(lengths) == 3, "a word between two special tokens"
        assert most // 2 < max(lengths) <= most


def test_a_text_that_holds_the_padding_token_where_it_is_cut_is_named_before_a_piece_is(
    teacher_of: Make, tokenizer: Any, texts: Make
) -> None:
    examples = replace(texts(2), texts=["word1", "word2 " * 30 + "[PAD]"])
    student = teacher_of("roberta", pad_token_id=0)
    with pytest.warns(MpcifyWarning, match="were cut"):
        rows_of(examples, student, tokenizer, max_length=9)
    with pytest.raises(MpcifyError, match=r"MPC-111 data-0\.tsv row 2"):
        readable(examples, student, tokenizer)
    assert readable(examples, teacher_of(), tokenizer) is examples, "BERT counts a position for it"


def test_images_have_no_pieces(teacher_of: Make, image_processor: Any, images: Make) -> None:
    rows = mixed_rows(images(3), teacher_of("vit"), image_processor, repeats=2)
    assert len(rows) == 6
    assert all(torch.equal(rows[index]["pixel_values"], rows[index + 3]["pixel_values"]) for index in range(3))
    assert set(rows[0]) == {"pixel_values"}


def ids(*words: str) -> dict[str, int]:
    return {word: index for index, word in enumerate(words)}


def test_a_vocabulary_is_of_words_that_a_tokenizer_has_whole() -> None:
    words = ids("[UNK]", "it", "film", "##ing", "1999", "字", "été", "don't")
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["special"])
    assert vocabulary(tokenizer) == ["film", "été", "字"]
    assert vocabulary(Tokenizer(models.WordPiece(ids("[UNK]", "it", "a"), unk_token="[UNK]"))) == ["a", "it"]
    assert vocabulary(Tokenizer(models.WordPiece(ids("[UNK]", "1"), unk_token="[UNK]"))) == []
    tokenizer = Tokenizer(models.WordPiece(ids("UNK", "PAD", "film"), unk_token="UNK"))
    tokenizer.add_special_tokens(["PAD", "UNK"])
    assert vocabulary(tokenizer) == ["film"]


def test_a_mark_that_is_a_letter_or_a_sign_hides_no_word() -> None:
    """Vocabularies of many languages have Maltese Ġ and the block ▁ among their letters."""
    words = ids("[UNK]", "Ġ", "▁", *(f"film{letter}" for letter in "abcdefghijklmnopqrstuvwxyzäöüßéèêëàáâåçñ"))
    assert vocabulary(Tokenizer(models.WordPiece(words, unk_token="[UNK]"))) == sorted(list(words)[3:])


def test_a_vocabulary_of_bytes_is_of_letters() -> None:
    tokenizer = Tokenizer(models.BPE(ids("Ġ", "Ġfilm", "ing", "ĠÃ©tÃ©", "ĠÃ", "Ġ1999", "Ġof", "film"), []))
    tokenizer.decoder = decoders.ByteLevel()
    assert vocabulary(tokenizer) == ["film", "été"]


def test_a_vocabulary_of_sentence_pieces_has_words_and_letters_of_writing_without_spaces() -> None:
    pieces = [("<unk>", 0.0), *((piece, -1.0) for piece in ("▁", "▁film", "ing", "字", "映画", "▁it", "▁of▁the"))]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.decoder = decoders.Metaspace()
    assert vocabulary(tokenizer) == ["film", "字", "映画"]
