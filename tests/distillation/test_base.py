"""The public table that a student takes over: which one, and what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from mpcify.conversion.convert import convert
from mpcify.conversion.student import table_is_public
from mpcify.distillation.base import freeze_base
from mpcify.errors import MpcifyError, MpcifyWarning

Make = Callable[..., Any]
BERT = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize("change", ["table", "words", "tokenizer"])
def test_a_base_that_does_not_fit_is_refused(teacher_of: Make, tokenizer: Any, tmp_path: Path, change: str) -> None:
    student = convert(teacher_of(), "2quad-freediv")
    before = student.get_input_embeddings().weight.detach().clone()
    config = student.config.__class__(**{**BERT, "hidden_size": 8} if change == "table" else BERT)
    BertModel(config).save_pretrained(tmp_path / "base")
    if change != "tokenizer":
        tokenizer.save_pretrained(tmp_path / "base")
    if change == "words":
        tokenizer.add_tokens(["more"])
    with pytest.raises(MpcifyError, match="MPC-603"):
        freeze_base(student, tmp_path / "base", tokenizer)
    assert torch.equal(student.get_input_embeddings().weight, before)
    assert student.config.mpcify["base"] is None


def test_no_base_is_an_error(teacher_of: Make, tmp_path: Path) -> None:
    student = convert(teacher_of(), "2quad-freediv")
    with pytest.raises(MpcifyError, match="MPC-202"):
        freeze_base(student, tmp_path)
    with pytest.raises(MpcifyError, match="MPC-603"):
        freeze_base(convert(teacher_of("vit"), "2quad-freediv"), tmp_path)


def test_a_pickled_base_is_not_read(teacher_of: Make, tmp_path: Path) -> None:
    student = convert(teacher_of(), "2quad-freediv")
    base = BertModel(student.config.__class__(**BERT))
    base.config.save_pretrained(tmp_path)
    torch.save(base.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(MpcifyError, match="MPC-603"):
        freeze_base(student, tmp_path)


def test_mpnet_takes_over_the_table_of_its_base(teacher_of: Make, tmp_path: Path) -> None:
    teacher, student = teacher_of("mpnet"), convert(teacher_of("mpnet", seed=1), "2quad-freediv")
    teacher.mpnet.save_pretrained(tmp_path / "base")
    freeze_base(student, tmp_path / "base")
    table = student.get_input_embeddings().weight
    assert torch.equal(table, teacher.get_input_embeddings().weight)
    assert not table.requires_grad
    assert table_is_public(student)


def test_a_new_table_asks_for_a_new_calibration(teacher_of: Make, tmp_path: Path) -> None:
    teacher = teacher_of()
    student = convert(teacher, "2quad-freediv")
    student.config.mpcify = {**student.config.mpcify, "calibrated": True}
    teacher.bert.save_pretrained(tmp_path / "same")
    freeze_base(student, tmp_path / "same")
    assert student.config.mpcify["calibrated"]
    BertModel(student.config.__class__(**BERT)).save_pretrained(tmp_path / "other")
    freeze_base(student, tmp_path / "other")
    assert not student.config.mpcify["calibrated"]


def test_a_base_that_is_a_classifier_is_said(teacher_of: Make, tmp_path: Path) -> None:
    teacher = teacher_of()
    teacher.save_pretrained(tmp_path / "other-teacher")
    with pytest.warns(MpcifyWarning, match="other-teacher: it is a fine-tuned classifier, .* every client"):
        freeze_base(convert(teacher, "2quad-freediv"), tmp_path / "other-teacher")


def test_a_base_without_a_table_that_holds_numbers_is_refused(teacher_of: Make, tokenizer: Any, tmp_path: Path) -> None:
    """transformers draws weights that it does not find at random, and says so to nobody who does not ask."""
    teacher = teacher_of()
    student, base = convert(teacher, "2quad-freediv"), tmp_path / "base"
    tokenizer.save_pretrained(base)
    teacher.bert.save_pretrained(base)
    weights = load_file(base / "model.safetensors")
    before = student.get_input_embeddings().weight.detach().clone()
    renamed = {f"inner.{name}": value for name, value in weights.items()}
    table = weights["embeddings.word_embeddings.weight"].clone()
    table[3, 1] = math.nan
    for changed, said in (
        (renamed, "no word table"),
        (weights | {"embeddings.word_embeddings.weight": table}, "finite"),
    ):
        save_file(changed, base / "model.safetensors", {"format": "pt"})
        with pytest.raises(MpcifyError, match=f"MPC-603 .*{said}"):
            freeze_base(student, base, tokenizer)
        assert torch.equal(student.get_input_embeddings().weight, before)
