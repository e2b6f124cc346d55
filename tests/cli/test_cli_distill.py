"""mpcify distill: trains, resumes, and writes a student whole or not at all."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mpcify.cli.distill import metric_rows
from mpcify.conversion.convert import load_model


@pytest.fixture
def student(mpcify: Callable, model: Path, tmp_path: Path) -> Path:
    """The model converted and not calibrated."""
    assert mpcify("convert", model, tmp_path / "raw", "--recipe", "2quad-freediv").code == 0
    return tmp_path / "raw"


def words(model: Path, data: Path) -> tuple[object, ...]:
    """The options of a training of two epochs."""
    return ("--teacher", model, "--train", data, "--eval", data, "--epochs", 2)


def test_the_student_is_distilled_and_its_card_written(
    mpcify: Callable, model: Path, student: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more.txt").write_text("the film\n\nnot a good film and not a bad film\n", encoding="utf-8")
    base = tmp_path / "base"
    load_model(model).base_model.save_pretrained(base)
    AutoTokenizer.from_pretrained(model).save_pretrained(base)
    arguments = (*words(model, data), "--texts", tmp_path / "more.txt", "--base", base, "--format", "json")
    monkeypatch.setattr(sys, "argv", ["mpcify", "distill", str(student), "--base", str(base)])
    outcome = mpcify("distill", student, tmp_path / "out", *arguments)
    assert outcome.code == 0, outcome.err
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "distill raw --base base" in card
    assert not any(str(folder) in card for folder in (tmp_path, model.parent))
    assert set(outcome.json) >= {"format", "model", "recipe", "teacher", "student", "agreement"}
    assert outcome.json["task"] == "classification"
    assert outcome.json["general_texts"] == 2
    assert [epoch["epoch"] for epoch in outcome.json["epochs"]] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
    evaluated = mpcify("evaluate", tmp_path / "out", "--data", data, "--engine", "fixed", "--format", "json")
    assert (evaluated.code, evaluated.err) == (0, "")
    assert evaluated.json["accuracy"] == outcome.json["student"]["accuracy"]
    assert mpcify("export", tmp_path / "out", tmp_path / "parties", "--length", "16").code == 0


@pytest.mark.parametrize(
    "change, code",
    [
        ({"--teacher": "nothing/at/all"}, 201),
        ({"--train": "nothing.tsv"}, 101),
        ({"--texts": "nothing.txt", "--teacher": "nothing/at/all"}, 101),  # before a model is looked at
        ({"--base": "nothing/at/all"}, 201),
        ({"--epochs": "-1"}, 901),
        ({"--device": "quantum"}, 901),
        ({"--resume": None}, 601),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    mpcify: Callable, model: Path, student: Path, data: Path, tmp_path: Path, change: dict, code: int
) -> None:
    options = {"--teacher": model, "--train": data, "--eval": data, "--epochs": "1", **change}
    flat = [model if word == "TEACHER" else word for pair in options.items() for word in pair if word is not None]
    outcome = mpcify("distill", student, tmp_path / "out", *flat)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-{code} ")
    assert not (tmp_path / "out").exists()


def test_a_teacher_is_no_student(mpcify: Callable, model: Path, data: Path, tmp_path: Path) -> None:
    outcome = mpcify("distill", model, tmp_path / "out", "--teacher", model, "--train", data, "--eval", data)
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-207 ")


def test_an_interrupted_run_resumes(
    mpcify: Callable, model: Path, student: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpcify.distillation.trainer import DistillationTrainer

    arguments = ("distill", student, tmp_path / "out", *words(model, data))
    work = DistillationTrainer.compute_loss

    def stop(trainer: DistillationTrainer, *args, **options):
        if trainer.state.epoch is not None and trainer.state.epoch > 1:
            raise KeyboardInterrupt
        return work(trainer, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", stop)
        interrupted = mpcify(*arguments, "--batch-size", 2)
    assert (interrupted.code, interrupted.err.splitlines()[-1][:8]) == (2, "MPC-902 ")
    assert not (tmp_path / "out").exists()
    resumed = mpcify(*arguments, "--batch-size", 2, "--resume", "--format", "json")
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_seed_that_no_generator_takes_is_refused_at_once(mpcify: Callable) -> None:
    words = ("--teacher", "t", "--train", "a.tsv", "--eval", "b.tsv", "--seed", 2**32)
    outcome = mpcify("distill", "student", "out", *words)
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-901 ")


def test_a_correlation_that_one_of_the_two_has_is_shown_beside_a_dash() -> None:
    found = {"teacher": {"pearson": None, "spearman": None}, "student": {"pearson": 0.5, "spearman": None}}
    assert list(metric_rows({**found, "agreement": 1.0})) == [
        ("pearson", "–", "0.5000"),
        ("equal answers", "", "1.0000"),
    ]
