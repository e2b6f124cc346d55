"""How a distillation is set: what is refused, and how many epochs a file needs."""

from typing import Any

import pytest

from mpcify.distillation.settings import Settings
from mpcify.errors import MpcifyError


def test_a_file_is_seen_for_1500_steps_and_twice_at_least() -> None:
    epochs = [Settings().for_rows(rows).epochs for rows in (1, 3_668, 20_000, 30_000, 67_349, 1_000_000)]
    assert epochs == [48_000, 14, 3, 2, 2, 2]
    assert Settings(batch_size=8).for_rows(3_668).epochs == 4
    assert Settings(epochs=0.5).for_rows(10).epochs == 0.5


def test_a_student_is_measured_twelve_times_at_most() -> None:
    repeats = {epochs: Settings(epochs=epochs).repeats for epochs in (0.5, 2, 12, 12.5, 24, 27, 96_000)}
    assert repeats == {0.5: 1, 2: 1, 12: 1, 12.5: 2, 24: 2, 27: 3, 96_000: 8_000}
    assert all(epochs / count <= 12 for epochs, count in repeats.items())


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": True},
        {"batch_size": 8.0},
        {"max_length": 1},
        {"seed": -1},
        {"seed": "0"},
        {"calibration": None},
        {"epochs": 0},
        {"epochs": float("inf")},
        {"epochs": "3"},
        {"learning_rate": float("nan")},
        {"learning_rate": None},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_a_setting_of_another_type_or_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MpcifyError, match="MPC-901"):
        Settings(**wrong)
