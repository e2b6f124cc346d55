"""A teacher that may be guessing is said, and one that is worse than chance is refused, before anything is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from mpcify.conversion.convert import load_model
from mpcify.conversion.rows import batches_of
from mpcify.distillation.distill import distill, refuse_chance
from mpcify.errors import MpcifyError, MpcifyWarning
from tests.distillation.test_distill import SETTINGS

Make = Callable[..., Any]
# whether a few steps make so small a student better is chance
pytestmark = [
    pytest.mark.filterwarnings("ignore:training. :mpcify.errors.MpcifyWarning"),
    pytest.mark.filterwarnings("ignore:.*guessing may give:mpcify.errors.MpcifyWarning"),  # so random teachers do
]


def answered(folder: Path, examples: Any, shift: int) -> Any:
    """The same examples labelled by the teacher itself, `shift` labels further."""
    teacher, tokens = load_model(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [teacher.eval()(**tokens(text, return_tensors="pt")).logits[0] for text in examples.texts]
    count = teacher.config.num_labels
    return replace(examples, labels=[(int(row.argmax()) + shift) % count for row in logits])


def test_a_teacher_worse_than_chance_is_refused_before_training(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path
) -> None:
    wrong = answered(folders[1], texts(60), 1)
    with pytest.raises(MpcifyError, match=r"MPC-605 .*accuracy on 30 of these examples is 0\.000, worse than chance"):
        distill(*folders, wrong, texts(8, seed=1), tmp_path / "out", SETTINGS)
    with pytest.raises(MpcifyError, match=r"MPC-605 data-0\.tsv: .*worse than chance"):  # labels to measure on alone
        distill(*folders, texts(labels=False), wrong, tmp_path / "out", SETTINGS)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]
    distill(*folders, answered(folders[1], texts(), 0), texts(8, seed=1), tmp_path / "out", replace(SETTINGS, epochs=1))


def test_a_teacher_that_gives_the_most_frequent_label_alone_is_said(teacher_of: Make, rows_for: Make) -> None:
    teacher = teacher_of()
    rows = [{**row, "labels": int(index % 10 == 0)} for index, row in enumerate(rows_for(teacher))]
    batches = batches_of(rows, teacher, labels=True)
    torch.nn.init.zeros_(teacher.classifier.weight)
    teacher.classifier.bias.data = torch.tensor([1.0, 0.0])
    with pytest.warns(MpcifyWarning, match=r"the teacher's accuracy .* 0\.900, no more than .* \(about 0\.900\)"):
        refuse_chance(teacher, "data.tsv", batches)
    teacher.classifier.bias.data = torch.tensor([0.0, 1.0])
    with pytest.raises(MpcifyError, match=r"MPC-605 data\.tsv: .* 0\.100, worse than chance"):
        refuse_chance(teacher, "data.tsv", batches)


def test_a_teacher_that_may_be_guessing_is_said(folders: tuple[Path, Path], texts: Make, tmp_path: Path) -> None:
    right, wrong = (answered(folders[1], texts(), shift).labels for shift in (0, 1))
    labels = [(right, wrong)[index % 2][index] for index in range(40)]
    guessing = replace(texts(), labels=labels)
    what = r"data-0\.tsv: the teacher's accuracy on 30 of these examples is 0\.\d+, no more than guessing may give"
    with pytest.warns(MpcifyWarning, match=what):
        distill(*folders, guessing, texts(8, seed=1), tmp_path / "out", replace(SETTINGS, epochs=1))
    assert (tmp_path / "out" / "config.json").is_file()


@pytest.mark.parametrize("label", [-1, None])
def test_training_goes_on_without_labels_that_the_model_does_not_have_and_says_so(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, label: Any
) -> None:
    train = answered(folders[1], texts(), 1)
    unlabelled = replace(train, labels=[label, *train.labels[1:]])
    with pytest.warns(MpcifyWarning, match="row 1: the label is none of the model's"):
        distill(*folders, unlabelled, texts(8, seed=1), tmp_path / "out", replace(SETTINGS, epochs=1))
    assert (tmp_path / "out" / "config.json").is_file()
