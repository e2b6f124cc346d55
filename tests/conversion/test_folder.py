"""Folders: what one without a model holds instead, and the companions that go with a student."""

import shutil

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import mpcify
from mpcify.conversion.convert import convert, load_model, model_and_source
from mpcify.errors import MpcifyError


def refusal(folder):
    """The error that loading a folder raises."""
    with pytest.raises(MpcifyError) as raised:
        load_model(folder)
    assert raised.value.code == 202
    return raised.value


@pytest.mark.parametrize(
    "name, words",
    [
        ("pytorch_model.bin", "pickle"),
        ("model.ckpt", "pickle"),
        ("tf_model.h5", "other software"),
        ("flax_model.msgpack", "other software"),
        ("model.onnx", "other software"),
        ("optimizer.pt", "there is no model.safetensors"),
    ],
)
def test_weights_in_another_format_are_named(name, words, checkpoint):
    folder = checkpoint("bert")
    (folder / "model.safetensors").rename(folder / name)
    error = refusal(folder)
    assert words in error.what
    assert name in error.what or name == "optimizer.pt"


def test_weights_without_a_config(checkpoint):
    folder = checkpoint("bert")
    (folder / "config.json").unlink()
    assert "no config.json beside them" in refusal(folder).what


def test_a_tokenizer_alone(checkpoint):
    folder = checkpoint("bert")
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert "a tokenizer" in refusal(folder).what


def test_a_model_inside_the_folder_is_named(checkpoint, tmp_path):
    outer = tmp_path / "outer"
    (outer / "1_Pooling").mkdir(parents=True)
    (outer / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 32}')
    shutil.copytree(checkpoint("bert"), outer / "0_Transformer")
    assert refusal(outer).remedy == f"name {outer / '0_Transformer'}"


@pytest.mark.parametrize("source", ["folder", "memory"])
def test_a_student_takes_its_tokenizer_along(source, checkpoint, tmp_path):
    folder = checkpoint("bert", labels=2)
    model = folder if source == "folder" else AutoModelForSequenceClassification.from_pretrained(folder)
    convert(model, "2quad-freediv").save_pretrained(tmp_path / "student")
    assert AutoTokenizer.from_pretrained(tmp_path / "student")("the film")["input_ids"] == [2, 4, 5, 3]
    with mpcify.compile(tmp_path / "student", engine="plain") as private:
        assert private.classify(["the film"])[0]["label"] in ("LABEL_0", "LABEL_1")


def test_so_does_an_image_processor_and_a_student_of_a_student(checkpoint, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    convert(checkpoint("vit"), "2quad-freediv").save_pretrained(first)
    convert(mpcify.load(first), "exact").save_pretrained(second)
    assert (first / "preprocessor_config.json").read_text() == (second / "preprocessor_config.json").read_text()


def test_companions_that_are_there_stay(checkpoint, tmp_path):
    out = tmp_path / "student"
    out.mkdir()
    (out / "tokenizer.json").write_text("mine")
    student = convert(checkpoint("bert"), "2quad-freediv")
    student.save_pretrained(out)
    assert (out / "tokenizer.json").read_text() == "mine"
    assert not (out / "tokenizer_config.json").exists()
    student.save_pretrained(student.name_or_path)  # nor does a folder copy its own


def test_a_source_that_is_gone_or_unknown_stops_nothing(checkpoint, teacher, tmp_path):
    folder = checkpoint("bert")
    student = convert(folder, "2quad-freediv")
    shutil.rmtree(folder)
    student.save_pretrained(tmp_path / "gone")
    convert(teacher("bert"), "2quad-freediv").save_pretrained(tmp_path / "unknown")
    assert mpcify.load(tmp_path / "gone").name_or_path == str(tmp_path / "gone")
    assert not (tmp_path / "unknown" / "tokenizer.json").exists()


def test_a_model_and_where_it_came_from(checkpoint, teacher):
    folder = checkpoint("bert")
    loaded, source = model_and_source(folder)
    assert source == str(folder)
    assert model_and_source(loaded) == (loaded, str(folder))
    assert model_and_source(teacher("bert"))[1] == ""
