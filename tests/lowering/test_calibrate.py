"""`calibrate` and `convert` do in Python what the command line does with a file."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import mpcify
from mpcify.cli.main import run
from mpcify.conversion.convert import convert, load, load_model
from mpcify.conversion.student import ranges_of, student_config
from mpcify.data.files import read_examples
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.lowering.calibrate import calibrate

WORDS = ("the", "film", "is", "not", "very", "good", "bad", "dull", "but", "a", "and")


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(WORDS, 2 + index % 12)) for index in range(40)]
    path = tmp_path / "train.tsv"
    path.write_text("\n".join(["sentence", *lines]) + "\n")
    return path


def equal(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_a_file_calibrates_in_python_as_on_the_command_line(checkpoint, file, tmp_path):
    source, out = checkpoint("bert"), tmp_path / "out"
    assert run(["convert", str(source), str(out), "--recipe", "2quad-freediv", "--calibration", str(file)]) == 0
    student = mpcify.convert(source, "2quad-freediv", calibration=read_examples(file, labels=False))
    assert equal(student, load(out))
    values = json.loads((out / "config.json").read_text())["mpcify"]
    assert student_config(student).to_json() == student.config.mpcify == values
    assert set(ranges_of(student)) >= {"logits"}
    assert sum(values["taught"].values()) == 2 * 40, "a piece for each text"
    assert set(values["taught"]) > {"16"}, "no text has more than 15 tokens; pieces have"


def test_batches_calibrate_a_conversion_as_they_calibrate_a_student(checkpoint, file):
    source = checkpoint("bert")
    teacher, tokens = load_model(source), AutoTokenizer.from_pretrained(source)
    batches = [dict(tokens(read_examples(file, labels=False).texts, padding=True, return_tensors="pt"))]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = mpcify.convert(teacher, "2quad-freediv", calibration=iter(batches))
    other = convert(teacher, "2quad-freediv")
    calibrate(other, batches, teacher)
    assert equal(student, other)
    assert student.config.mpcify == other.config.mpcify
    assert ranges_of(student)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_conversion_without_data_declares_nothing(checkpoint):
    student = mpcify.convert(checkpoint("bert"), "2quad-freediv")
    assert not ranges_of(student)
    assert not student_config(student).calibrated


def test_examples_need_the_tokenizer_beside_the_checkpoint(teacher, file):
    with pytest.raises(MpcifyError, match="MPC-208"):
        mpcify.convert(teacher("bert"), "2quad-freediv", calibration=read_examples(file, labels=False))


def test_a_calibrated_student_knows_the_lengths_of_its_texts_without_their_padding(checkpoint):
    source = checkpoint("bert")
    tokens = AutoTokenizer.from_pretrained(source)
    batch = dict(tokens(["the film", "a " * 14, "a " * 15, "a " * 30], padding=True, return_tensors="pt"))
    student = mpcify.convert(source, "2quad-freediv", calibration=[batch])
    assert student_config(student).taught == {16: 2, 24: 1, 32: 1}
    calibrate(student, [{name: value[:1] for name, value in batch.items()}])
    assert student_config(student).taught == {16: 1}, "of the last calibration"


def test_images_have_no_lengths(teacher):
    images = [{"pixel_values": torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))}]
    student = mpcify.convert(teacher("vit"), "2quad-freediv", calibration=images)
    assert "taught" not in student.config.mpcify


def test_texts_cut_for_the_layers_are_said_once(checkpoint, tmp_path):
    file = tmp_path / "train.tsv"
    file.write_text("sentence\n" + "the film\n" * 8 + "a " * 200 + "\n")
    with pytest.warns(MpcifyWarning) as said:
        mpcify.convert(checkpoint("bert"), "2quad-freediv", calibration=read_examples(file, labels=False))
    assert ["were cut" in str(item.message) for item in said].count(True) == 1
