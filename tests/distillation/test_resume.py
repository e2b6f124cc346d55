"""A run that was interrupted: what it leaves, and who may go on with it."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcify.conversion.convert import load
from mpcify.distillation import distill as module
from mpcify.distillation.distill import distill
from mpcify.distillation.resume import RUN, look, take_up
from mpcify.errors import MpcifyError
from tests.distillation.runs import SETTINGS, interrupted

Make = Callable[..., Any]
# calibration leaves so small a student little to learn: whether training makes it better is chance
pytestmark = [
    pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning"),
    pytest.mark.filterwarnings("ignore:.*guessing may give:mpcify.errors.MpcifyWarning"),  # so random teachers do
]


@pytest.mark.usefixtures("last")
@pytest.mark.parametrize("epochs", [3, 13])
def test_an_interrupted_run_leaves_no_student_and_resumes_to_the_same_one(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    whole, parts, settings = tmp_path / "whole", tmp_path / "parts", replace(SETTINGS, epochs=epochs)
    data, more = (texts(12, labels=False), texts(8, seed=1)), {"texts": texts(20, seed=2, labels=False)}
    assert settings.repeats == (1 if epochs == 3 else 2)  # every one has pieces of its own
    distill(*folders, *data, whole, settings, **more)
    interrupted(monkeypatch, lambda: distill(*folders, *data, parts, settings, **more), step=7 * settings.repeats)
    assert not parts.exists()
    torn = tmp_path / "parts-training" / "checkpoint-19"  # as a kill in the middle of writing leaves it
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    distill(*folders, *data, parts, settings, **more, resume=True)
    found, start = load(parts).state_dict(), load(folders[0]).state_dict()
    for name, value in load(whole).state_dict().items():
        assert torch.equal(value, found[name]), name
    table = "bert.embeddings.word_embeddings.weight"  # which calibration leaves as it is
    assert not torch.equal(found[table], start[table])
    assert load(parts).config.mpcify == load(whole).config.mpcify


def test_a_run_resumes_only_as_it_was_started(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, data = tmp_path / "out", (texts(labels=False), texts(8, seed=1))
    with pytest.raises(MpcifyError, match=r"MPC-601.*no run to resume"):
        distill(*folders, *data, out, SETTINGS, resume=True)
    interrupted(monkeypatch, lambda: distill(*folders, *data, out, SETTINGS))
    with pytest.raises(MpcifyError, match=r"MPC-601.*unfinished.*--resume"):
        distill(*folders, *data, out, SETTINGS)
    with pytest.raises(MpcifyError, match=r"MPC-601.*another learning_rate"):
        distill(*folders, *data, out, replace(SETTINGS, learning_rate=1.0), resume=True)
    with pytest.raises(MpcifyError, match=r"MPC-601.*another training data"):
        distill(*folders, texts(seed=2, labels=False), data[1], out, SETTINGS, resume=True)
    with pytest.raises(MpcifyError, match=r"MPC-601.*another training data"):
        distill(*folders, *data, out, SETTINGS, texts=texts(seed=2, labels=False), resume=True)
    path = folders[0] / "tokenizer.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    words = sorted(before["model"]["vocab"].items(), key=lambda item: item[1])
    (first, low), (second, high) = words[-2:]
    changed = {**before["model"]["vocab"], first: high, second: low}
    path.write_text(json.dumps({**before, "model": {**before["model"], "vocab": changed}}), encoding="utf-8")
    with pytest.raises(MpcifyError, match=r"MPC-601.*another tokenizer"):
        distill(*folders, *data, out, SETTINGS, resume=True)
    path.write_text(json.dumps(before), encoding="utf-8")
    config = json.loads((folders[1] / "config.json").read_text(encoding="utf-8"))
    (folders[1] / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}), encoding="utf-8")
    with pytest.raises(MpcifyError, match=r"MPC-601.*another teacher"):
        distill(*folders, *data, out, SETTINGS, resume=True)


def test_a_run_that_broke_off_before_its_first_checkpoint_starts_again(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def run(**more: Any) -> None:
        distill(*folders, texts(labels=False), texts(8, seed=1), out, replace(SETTINGS, epochs=1), **more)

    interrupted(monkeypatch, run, step=1)
    run(resume=True)
    assert load(out).config.mpcify["calibrated"]


def test_a_failure_at_the_end_leaves_no_student_and_can_be_resumed(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, student = tmp_path / "out", load(folders[0])
    with monkeypatch.context() as patch:
        patch.setattr(module, "card", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(MpcifyError, match=r"MPC-109.*No space left"):
            distill(student, folders[1], texts(labels=False), texts(8, seed=1), out, SETTINGS)
    assert not out.exists()
    distill(*folders, texts(labels=False), texts(8, seed=1), out, SETTINGS, resume=True)
    assert load(out).config.mpcify == student.config.mpcify


def test_a_resumed_run_keeps_its_epochs_unless_told_otherwise(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ended, out = replace(SETTINGS, epochs=None), tmp_path / "out"
    monkeypatch.setattr("mpcify.distillation.settings.STEPS", 22)
    interrupted(monkeypatch, lambda: distill(*folders, texts(labels=False), texts(8, seed=1), out, open_ended))
    monkeypatch.setattr("mpcify.distillation.settings.STEPS", 120)  # another version's default
    with pytest.raises(MpcifyError, match=r"MPC-601 .* another epochs"):
        distill(*folders, texts(labels=False), texts(8, seed=1), out, replace(SETTINGS, epochs=5), resume=True)
    result = distill(*folders, texts(labels=False), texts(8, seed=1), out, open_ended, resume=True)
    assert [epoch["epoch"] for epoch in result.epochs] == [0, 1, 2, 3]


@pytest.mark.parametrize("record", ["{", "[]", "[" * 100_000], ids=lambda record: record[:2])
def test_a_record_that_cannot_be_read_is_no_run_to_resume(record: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text("{}")
    (tmp_path / "distillation.json").write_text(record)
    with pytest.raises(MpcifyError, match="MPC-601"):
        look(tmp_path, resume=True)


def test_a_training_folder_appears_with_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "out-training", []
    flush = os.fsync

    def watched(file: int) -> None:  # also while the record is half written
        seen.append(look(folder, resume=False))  # as another process of the run does at any moment
        flush(file)

    monkeypatch.setattr(os, "fsync", watched)
    for _ in range(2):
        assert take_up(folder, {"seed": 1}, resume=False) is None
    assert len(seen) >= 4
    assert all(found == ({}, None) for found in seen)
    assert json.loads((folder / RUN).read_text()) == {"seed": 1}
