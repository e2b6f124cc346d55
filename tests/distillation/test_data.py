"""What a distillation reads: texts to learn from that a student cannot read are refused before it is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpcify.conversion.convert import convert
from mpcify.distillation.distill import distill
from mpcify.distillation.settings import Settings
from mpcify.errors import MpcifyError

Make = Callable[..., Any]
SETTINGS = Settings(epochs=1, batch_size=8, device="cpu", calibration=30)


@pytest.mark.parametrize(
    "wrong, line",
    [
        ({"kind": "pair", "texts": [("one", "two")]}, "MPC-103 .*single"),
        ({"texts": ["word1", " "]}, r"MPC-105 data-0\.tsv row 2"),
        ({"texts": ["word1", "half \ud800"]}, r"MPC-102 data-0\.tsv row 2"),
    ],
    ids=str,
)
def test_texts_to_learn_from_that_cannot_be_read_are_refused_before_training(
    folders: tuple[Path, Path], texts: Make, tmp_path: Path, wrong: dict[str, Any], line: str
) -> None:
    more = replace(texts(2, labels=False), **wrong)
    with pytest.raises(MpcifyError, match=line):
        distill(*folders, texts(labels=False), texts(8, seed=1), tmp_path / "out", SETTINGS, texts=more)
    assert not (tmp_path / "out-training").exists()


def test_a_student_of_images_learns_from_no_texts(
    teacher_of: Make, image_processor: Any, images: Make, texts: Make, tmp_path: Path
) -> None:
    teacher, out = teacher_of("vit"), tmp_path / "out"
    student, more = convert(teacher, "2quad-freediv"), texts(2, labels=False)
    with pytest.raises(MpcifyError, match=r"MPC-103 data-0\.tsv: the student reads images"):
        distill(student, teacher, images(), images(6, seed=1), out, SETTINGS, texts=more, processor=image_processor)
