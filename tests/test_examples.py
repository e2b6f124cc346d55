"""examples/finetune_text.py makes a teacher of any file that the verbs read, and says when it learned nothing."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

SCRIPT = Path(__file__).parents[1] / "examples" / "finetune_text.py"


@pytest.fixture
def fine_tune(checkpoint: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs the script on the lines of a training file, which is its own evaluation; the teacher's config."""

    def call(
        name: str, lines: list[str], *options: str, labels: int = 3, base: str = "bert"
    ) -> dict[str, dict[str, object]]:
        data, out = tmp_path / name, tmp_path / "out"
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files = ["--model", str(checkpoint(base, labels=labels)), "--train", str(data), "--eval", str(data)]
        monkeypatch.setattr(sys, "argv", ["finetune_text.py", str(out), *files, *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return json.loads((out / "config.json").read_text(encoding="utf-8"))

    return call


def test_a_csv_of_named_labels_becomes_a_teacher_with_those_names(
    fine_tune: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"good film": "pos", "bad film": "neg", "the , a": " so so"}
    rows = [f'{index},"{text}",{label}' for index, (text, label) in enumerate(texts.items())] * 8
    columns = ("--text-column", "review", "--label-column", "sentiment")
    config = fine_tune("a.csv", ["\ufeff,review,sentiment", *rows], *columns, "--lr", "1e-2", "--epochs", "20")
    assert config["id2label"] == {"0": "neg", "1": "pos", "2": "so so"}
    assert config["label2id"] == {"neg": 0, "pos": 1, "so so": 2}
    assert "most frequent label" not in capsys.readouterr().err


def test_numbers_are_names_in_their_order_and_a_teacher_that_learned_nothing_is_a_warning(
    fine_tune: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["sentence\tlabel", *[f"a film\t{label}" for label in ("-1", "10", "2", "2")]]
    config = fine_tune("a.tsv", lines, "--epochs", "1")
    assert config["id2label"] == {"0": "-1", "1": "2", "2": "10"}
    said = capsys.readouterr().err
    assert "not above always giving the most frequent label (0.500)" in said


@pytest.mark.parametrize("options, kept", [(["--freeze-table"], True), ([], False)])
@pytest.mark.parametrize("base", ["bert", "mpnet"])
def test_a_frozen_word_table_stays_that_of_the_base(
    base: str, options: list[str], kept: bool, fine_tune: Callable, tmp_path: Path
) -> None:
    lines = ["sentence\tlabel", *["good film\t1", "bad film\t0"] * 4]
    fine_tune("a.tsv", lines, "--epochs", "4", *options, labels=2, base=base)
    before, after = (
        {name: value for name, value in load_file(folder / "model.safetensors").items() if base in name}
        for folder in (tmp_path / "teacher", tmp_path / "out")
    )
    table = f"{base}.embeddings.word_embeddings.weight"
    assert np.array_equal(before[table], after[table]) == kept
    assert not all(np.array_equal(before[name], after[name]) for name in before if name != table)


def test_decimals_make_a_teacher_that_predicts_a_number_which_is_said(
    fine_tune: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["sentence\tlabel", "good film\t1", "bad film\t-0.5", "a film\t.25"]
    config = fine_tune("a.tsv", lines, "--epochs", "1", labels=1)
    assert config["id2label"] == {"0": "value"}
    said = capsys.readouterr()
    assert "the labels are decimals: the model predicts a number (regression)" in said.err
    assert "eval_pearson" in said.out


@pytest.mark.parametrize("label", ["good", "0"])
def test_a_file_of_one_label_is_refused(fine_tune: Callable, capsys: pytest.CaptureFixture[str], label: str) -> None:
    with pytest.raises(SystemExit):
        fine_tune("a.tsv", ["sentence\tlabel", f"a film\t{label}", f"the film\t{label}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("MPC-104 ")
    assert "all labels are the same, and a classifier needs two. Do this: give examples of another label" in said


def test_a_file_that_is_refused_is_one_numbered_line(fine_tune: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fine_tune("a.csv", ["text;label", "a film;good"])
    assert caught.value.code == 2
    assert "MPC-103 " in capsys.readouterr().err.splitlines()[-1]
