"""The rates of the kernels: every product and formula has one for each way to compute it, and the file says whence."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import kernels
from mpcify.engines.ring.kernels.products import there


def test_each_product_and_formula_has_a_rate_of_each_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PRODUCTS", {"small": (8, 16, 16)})
    monkeypatch.setattr(kernels, "HEADS", (2, 8, 8, 8))
    monkeypatch.setattr(kernels, "WORDS", (8, 64))
    monkeypatch.setattr(sys, "argv", ["kernels", "--repeat", "1", "--out", str(tmp_path / "kernels.json")])
    kernels.main()
    found = json.loads((tmp_path / "kernels.json").read_text())
    assert found["format"] == 1
    assert {"commit", "machine", "seed", "command"} <= found.keys()
    assert found["products"].keys() == {"small", "scores"}
    names = [kernel.name for kernel in there()]
    assert found["products"]["small"].keys() == {"float32", *names, *(f"{name}, weights" for name in names)}
    assert found["products"]["scores"].keys() == {"float32", *names}
    assert {tuple(rates) for rates in found["formulas"].values()} == {("native", "numpy")}
    assert "square" in found["formulas"]
