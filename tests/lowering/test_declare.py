"""Ranges are the same whatever length their inputs are padded to, and few lengths are traced."""

from typing import Any

import pytest
import torch

from mpcify.conversion.convert import convert
from mpcify.lowering import calibrate as calibration


def batches(lengths: list[int]) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(4, 15, (1, length), generator=generator)} for length in lengths]


def test_texts_are_measured_at_few_lengths_and_none_is_left_out(
    teacher: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mpcify.progress.PAUSE", 0.0)
    traced, trace_graph = [], calibration.trace_graph
    monkeypatch.setattr(
        calibration, "trace_graph", lambda student, *shape: traced.append(shape[1]) or trace_graph(student, *shape)
    )
    calibration.declare_ranges(convert(teacher("bert"), "2quad-freediv"), batches([2, 9, 16, 17, 24, 30, 32, 33, 40]))
    assert traced == [16, 32, 40]
    assert capfd.readouterr().err.splitlines()[-1] == "ranges, inputs: 9 of 9"


def test_padding_changes_no_range(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = []
    for shortest in (16, 40):
        monkeypatch.setattr(calibration, "SHORTEST", shortest)
        student = convert(teacher("bert"), "2quad-freediv")
        calibration.declare_ranges(student, batches([5, 12, 14]))
        declared.append(student.config.mpcify["ranges"])
    assert declared[0].keys() == declared[1].keys()
    for name, entry in declared[0].items():
        if name.endswith("position_embeddings.slice"):  # the owner's table itself, as far as the padding goes
            continue
        for quantity, pair in entry.items():
            assert pair == pytest.approx(declared[1][name][quantity], rel=1e-4, abs=1e-6)
