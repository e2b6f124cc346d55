"""`distill` from folders and examples to a student's folder: whole or not at all, and resumable."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertModel

from mpcify.conversion.convert import convert, load, load_model
from mpcify.conversion.facts import table_digest
from mpcify.distillation import distill as module
from mpcify.distillation.distill import distill
from mpcify.distillation.settings import Settings
from mpcify.distillation.trainer import DistillationTrainer
from mpcify.errors import MpcifyError, MpcifyWarning
from tests.distillation.runs import SETTINGS

Make = Callable[..., Any]
# calibration leaves so small a student little to learn: whether training makes it better is chance
pytestmark = [
    pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning"),
    pytest.mark.filterwarnings("ignore:.*guessing may give:mpcify.errors.MpcifyWarning"),  # so random teachers do
]


def test_a_distilled_student_is_a_whole_checkpoint(folders: tuple[Path, Path], texts: Make, tmp_path: Path) -> None:
    student, teacher = folders
    out = tmp_path / "out"
    result = distill(
        student, teacher, texts(labels=False), texts(20, seed=1), out, SETTINGS, command="mpcify distill student out"
    )
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    assert not list(out.rglob("*.bin")) + list(out.rglob("*.pt*"))
    assert not (tmp_path / "out-training").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    config = load(out).config.mpcify
    assert (config["calibrated"], config["refit"], config["base"]) == (True, True, None)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(teacher).get_vocab()
    assert "logits" in config["ranges"]
    taught = 2 * 30 if result.best_epoch else 30
    assert sum(config["taught"].values()) == taught, "a piece for each of 30 texts; or what calibration saw"
    assert set(config["taught"]) > {"16"}, "no text has more than 10 tokens; pieces have"
    assert [epoch["epoch"] for epoch in result.epochs] == [0, 1, 2, 3]
    best = min(result.epochs[1:], key=lambda epoch: epoch["selection_loss"])
    assert result.best_epoch in (0, best["epoch"])
    assert (result.train_examples, result.held_out, result.general_texts) == (40, 10, 0)
    json.dumps(result.to_json())


def test_the_card_says_what_was_measured_and_what_leaks(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path
) -> None:
    command = "mpcify distill student out"
    result = distill(*folders, texts(labels=False), texts(20, seed=1), tmp_path / "out", SETTINGS, command=command)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: mpcify\n")
    assert f"| accuracy | {result.teacher['accuracy']:.4f} | {result.student['accuracy']:.4f} |" in card
    assert f"{100 * result.agreement:.2f} %" in card
    for words in ("2quad-freediv", "activation quad", "student of `teacher`", "`data-0.tsv`", "| seed | 0 |", command):
        assert words in card
    assert "owner's secret" in card
    assert str(tmp_path) not in card  # a card tells nothing of the machine


@pytest.mark.usefixtures("last")
def test_the_same_seed_gives_the_same_student(folders: tuple[Path, Path], texts: Make, tmp_path: Path) -> None:
    students = []
    for name in ("a", "b"):
        distill(*folders, texts(labels=False), texts(8, seed=1), tmp_path / name, replace(SETTINGS, epochs=1))
        students.append(load(tmp_path / name).state_dict())
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_a_taken_folder_is_refused_before_anything_runs(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(MpcifyError, match="MPC-109"):
        distill(*folders, texts(labels=False), texts(), out, SETTINGS)
    training = tmp_path / "other-training"
    training.mkdir()
    (training / "notes.txt").write_text("mine")
    with pytest.raises(MpcifyError, match="MPC-109"):
        distill(*folders, texts(labels=False), texts(), tmp_path / "other", SETTINGS)
    assert (training / "notes.txt").read_text() == "mine"


def test_a_calibrated_student_is_not_calibrated_again(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load(folders[0])
    student.config.mpcify = {**student.config.mpcify, "calibrated": True, "refit": True}
    monkeypatch.setattr(module, "calibrate_layers", lambda *_: pytest.fail("calibrated again"))
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    settings = replace(SETTINGS, epochs=1)
    distill(student, folders[1], texts(labels=False), texts(8, seed=1), tmp_path / "out", settings, processor=tokenizer)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_pairs_and_texts_without_labels(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DistillationTrainer, "start_is_best", lambda trainer: True)
    train, evaluation = texts(pairs=True, labels=False), texts(8, seed=1, pairs=True, labels=False)
    result = distill(*folders, train, evaluation, tmp_path / "out", replace(SETTINGS, epochs=1))
    assert (result.teacher, result.student) == ({}, {})
    assert 0 <= result.agreement <= 1
    taught = load(tmp_path / "out").config.mpcify["taught"]
    assert sum(taught.values()) == 30, "the start is kept, and calibration saw 30 rows"
    assert "accuracy" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_images(teacher_of: Make, image_processor: Any, images: Make, tmp_path: Path) -> None:
    teacher = teacher_of("vit")
    student = convert(teacher, "2quad-freediv")
    student.save_pretrained(tmp_path / "student")
    image_processor.save_pretrained(tmp_path / "student")
    train = replace(images(), labels=None)
    result = distill(tmp_path / "student", teacher, train, images(6, seed=1), tmp_path / "out", SETTINGS)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    assert result.task.name == result.to_json()["task"] == "image-classification"
    config = load(tmp_path / "out").config.mpcify
    assert config["refit"]
    assert "taught" not in config


def test_the_base_s_table_is_taken_over_recorded_and_frozen(
    folders: tuple[Path, Path], texts: Make, tokenizer: Any, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    shape = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = BertModel(load(folders[0]).config.__class__(**shape, intermediate_size=8))
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    out = tmp_path / "out"
    distill(*folders, texts(labels=False), texts(8, seed=1), out, replace(SETTINGS, base=str(tmp_path / "base")))
    student = load(out)
    table = base.embeddings.word_embeddings.weight.detach()
    assert torch.equal(student.get_input_embeddings().weight, table)
    assert student.config.mpcify["base"] == {
        "name": f"{tmp_path.name}/base",
        "sha256": table_digest(table.numpy()),
    }
    assert student.config.mpcify["base"]["sha256"] in (out / "README.md").read_text(encoding="utf-8")


def test_a_missing_tokenizer_is_an_error(teacher_of: Make, texts: Make, tmp_path: Path) -> None:
    teacher = teacher_of("vit")
    student = convert(teacher, "2quad-freediv")
    student.save_pretrained(tmp_path / "student")
    with pytest.raises(MpcifyError, match="MPC-208"):
        distill(tmp_path / "student", teacher, texts(), texts(), tmp_path / "out", SETTINGS)


def test_settings_that_make_no_sense_are_refused(folders: tuple[Path, Path], texts: Make, tmp_path: Path) -> None:
    for settings in ({"epochs": 0}, {"learning_rate": -1.0}, {"batch_size": 0}, {"learning_rate": float("nan")}):
        with pytest.raises(MpcifyError, match="MPC-901"):
            Settings(**settings)
    with pytest.raises(MpcifyError, match="MPC-901 device cuda:7"):
        distill(*folders, texts(labels=False), texts(), tmp_path / "out", replace(SETTINGS, device="cuda:7"))


def test_if_no_epochs_are_given_a_small_file_is_seen_often_and_measured_twelve_times(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcify.distillation.settings.STEPS", 105)  # 14 epochs of 60 rows
    result = distill(*folders, texts(labels=False), texts(20, seed=1), tmp_path / "out", replace(SETTINGS, epochs=None))
    assert [epoch["epoch"] for epoch in result.epochs] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert "of 14, of least loss" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


class PreparedError(Exception):
    """All that comes before training is done."""


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`distill` neither calibrates nor trains, and ends with `PreparedError`; how many steps it would have trained."""
    steps: list[int] = []

    def train(trainer: DistillationTrainer, **options: Any) -> None:
        steps.append(trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1])
        raise PreparedError

    monkeypatch.setattr(DistillationTrainer, "train", train)
    monkeypatch.setattr(module, "calibrate_layers", lambda *_: None)
    monkeypatch.setattr(module, "prove_equal", lambda *_, **__: None)
    return steps


@pytest.mark.parametrize("rows", [2, 5, 20, 300])
def test_a_small_file_is_trained_on_for_1500_steps_too(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, prepared: list[int], rows: int
) -> None:
    with pytest.raises(PreparedError):
        distill(*folders, texts(rows, labels=False), texts(8, seed=1), tmp_path / "out", Settings(device="cpu"))
    assert 1500 <= prepared[0] < 1600


def test_a_base_that_makes_it_calibrate_again_is_said_unless_the_run_goes_on(
    folders: tuple[Path, Path], texts: Make, tokenizer: Any, tmp_path: Path, prepared: list[int]
) -> None:
    student, out, data = load(folders[0]), tmp_path / "out", (texts(labels=False), texts(8, seed=1, labels=False))
    student.config.mpcify = {**student.config.mpcify, "calibrated": True, "refit": True}
    base = load_model(folders[1]).bert
    base.embeddings.word_embeddings.weight.data += 1
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")

    def run(**more: Any) -> None:
        settings = replace(SETTINGS, base=str(tmp_path / "base"))
        with pytest.raises(PreparedError):
            distill(copy.deepcopy(student), folders[1], *data, out, settings, processor=tokenizer, **more)

    with pytest.warns(MpcifyWarning, match="base: its word table takes the place .* that is done again"):
        run()
    checkpoint = tmp_path / "out-training" / "checkpoint-8"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text("{}")
    run(resume=True)


def test_the_calibrated_student_is_kept_if_training_makes_it_worse_and_this_is_said(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = DistillationTrainer.compute_loss

    def away(trainer: DistillationTrainer, model: Any, *args: Any, **options: Any) -> Any:
        loss = work(trainer, model, *args, **options)
        return -loss if model.training else loss

    monkeypatch.setattr(DistillationTrainer, "compute_loss", away)
    student, out, settings = load(folders[0]), tmp_path / "out", replace(SETTINGS, epochs=2)
    student.config.mpcify = {**student.config.mpcify, "calibrated": True, "refit": True, "taught": {"64": 7}}
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.warns(MpcifyWarning, match=r"training: no checkpoint has less loss .* which is kept; try a lower"):
        result = distill(student, folders[1], texts(labels=False), texts(8, seed=1), out, settings)
    assert result.best_epoch == result.to_json()["best_epoch"] == 0
    assert result.epochs[0]["selection_loss"] == min(epoch["selection_loss"] for epoch in result.epochs)
    card = (out / "README.md").read_text("utf-8")
    assert "| as calibrated, before the first epoch of 2, of least loss" in card
    assert "| taught on | what calibration saw alone |" in card
    assert load(out).config.mpcify["taught"] == {"64": 7}
    assert all(torch.equal(value, before[name]) for name, value in load(out).state_dict().items())


@pytest.mark.usefixtures("last")
def test_general_texts_are_taught_counted_and_said(folders: tuple[Path, Path], texts: Make, tmp_path: Path) -> None:
    students, settings = {}, replace(SETTINGS, epochs=1)
    for count in (1, 20):
        out, more = tmp_path / f"out-{count}", texts(count, seed=2, labels=False)
        result = distill(*folders, texts(labels=False), texts(8, seed=1), out, settings, texts=more)
        assert result.to_json()["general_texts"] == count
        assert f"half of them of {count} other texts" in (out / "README.md").read_text(encoding="utf-8")
        students[count] = load(out).get_input_embeddings().weight
    assert not torch.equal(students[1], students[20])


def test_labels_of_the_evaluation_that_the_model_does_not_have_are_refused(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path
) -> None:
    wrong = replace(texts(8, seed=1), labels=[7] * 8)
    with pytest.raises(MpcifyError, match=r"MPC-104 .*row 1"):
        distill(*folders, texts(labels=False), wrong, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out-training").exists()


def test_a_parallel_environment_that_nobody_launched_is_refused_at_once(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MpcifyError, match=r"MPC-606 .*WORLD_SIZE"):
        distill(*folders, texts(labels=False), texts(8, seed=1), tmp_path / "out", SETTINGS)
