"""How a distillation is set: what is refused, and how many epochs a file needs."""

from typing import Any

import pytest

from mpcify.distillation.settings import Settings
from mpcify.errors import MpcifyError


def test_a_small_file_is_seen_more_often_than_a_large_one() -> None:
    epochs = [Settings().for_rows(rows).epochs for rows in (1, 3_668, 20_000, 30_000, 67_349, 1_000_000)]
    assert epochs == [12, 12, 10, 6, 3, 3]
    assert Settings(batch_size=8).for_rows(3_668).epochs == 12
    assert Settings(batch_size=8).for_rows(10_000).epochs == 5
    assert Settings(epochs=0.5).for_rows(10).epochs == 0.5


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
    ],
    ids=str,
)
def test_a_setting_of_another_type_or_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MpcifyError, match="MPC-901"):
        Settings(**wrong)
