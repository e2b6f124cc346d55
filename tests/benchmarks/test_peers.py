"""CrypTen beside our engines: its party computes the graph that ours do, and its costs are counted as ours."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import readme
from benchmarks.peers import crypten_party, environment
from benchmarks.peers.__main__ import CRYPTEN, RIVALS, Rival
from benchmarks.peers.crypten_session import cost_of
from benchmarks.ring import SECTION
from mpcify.bench.benchmark import model_of, prepare
from mpcify.engines.cost import Cost


class Clear(torch.Tensor):
    """A tensor in the clear, with what CrypTen's have beside torch's."""

    def inv_sqrt(self) -> Any:
        return self.rsqrt()


CLEAR = SimpleNamespace(
    cat=lambda tensors, dim: torch.cat(tensors, dim),
    cfg=SimpleNamespace(temp_override=lambda settings: nullcontext()),
)


@pytest.mark.parametrize("recipe", sorted({recipe for recipe, engine in RIVALS if engine == CRYPTEN}))
def test_the_party_computes_the_graph_that_our_engines_run(recipe: str) -> None:
    graph, plain, inputs = prepare(model_of("minilm", 1, 8), recipe, "plain", 8, 1, "client", {}).sections[SECTION]
    arrays = {**plain.weights, **inputs}  # type: ignore[attr-defined]
    values = {
        name: torch.from_numpy(np.asarray(array, np.float64)).as_subclass(Clear) for name, array in arrays.items()
    }
    found = crypten_party.evaluated(graph.to_json(), values, crypten_party.functions(CLEAR))
    (expected,) = plain.run(inputs)[0].values()
    # float64 on both sides, in other orders of summing
    assert np.abs(np.asarray(found) - expected).max() < 1e-10


def test_what_both_ends_count_is_sent_once_and_tuples_are_ahead() -> None:
    ahead = [{"seconds": 0.5}, {"seconds": 0.25}]
    spent = [{"seconds": 2.0, "bytes": 60, "rounds": 7}, {"seconds": 1.5, "bytes": 60, "rounds": 7}]
    cost = cost_of(ahead, spent)
    assert cost.bytes == 60
    assert cost.online == Cost(2.0, 60, 7, {"client": 30, "owner": 30})
    assert cost.offline is not None
    assert cost.offline.seconds == 0.5
    assert cost.offline.bytes == 0


class Answering:
    """A session whose second request is wrong in one value."""

    def __init__(self) -> None:
        self.turn = 0

    def run(self, inputs: Any) -> tuple[dict[str, np.ndarray], Cost]:
        self.turn += 1
        seconds = float(self.turn)
        return {"y": np.array([1.0, 9.0 if self.turn == 2 else 2.0])}, Cost(seconds, 8, 2, {"client": 4, "owner": 4})


def test_the_first_turn_warms_up_and_the_largest_error_of_any_turn_is_shown() -> None:
    rival = Rival({"recipe": "exact"}, Answering(), {}, {"y": np.array([1.0, 2.25])}, None)  # type: ignore[arg-type]
    for _ in range(4):
        rival.run()
    row = rival.row()
    assert row["seconds"] == [2.0, 3.0, 4.0]
    assert row["cost"]["seconds"] == 3.0
    assert (row["error"], row["error_most"]) == (0.25, 6.75)
    assert row["over"]["wan"] == pytest.approx(3.0 + 0.04 + 4 * 8 / 0.4e9)


def test_the_page_says_what_is_online_and_what_is_ahead() -> None:
    about = {
        "recipe": "exact",
        "engine": "crypten",
        "protocol": "trusted first party",
        "versions": {"crypten": "0.4.1"},
    }
    cost = cost_of([{"seconds": 0.5}] * 2, [{"seconds": 2.0, "bytes": 60_000_000, "rounds": 7}] * 2)
    over = {"0.4,1": 2.25, "wan": 3.0}
    row = {**about, "cost": cost.to_json(), "over": over, "error": 0.01, "error_most": 0.5, "seconds": [2.5]}
    page = readme.peers({"shape": "bert-base", "length": 128, "load_average": 0.1, "rows": [row]})
    cells = "| 2.000 | 0.500 | 2.25 | 3.00 | 60.0 | 0.0 | 7 | 1.0e-02 | 5.0e-01 |"
    assert f"| exact | crypten 0.4.1 trusted first party {cells}" in page


def test_an_environment_is_made_anew_if_a_pin_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(words: list[Any], check: bool) -> None:
        (tmp_path / "peers").mkdir(exist_ok=True)
        ran.append([str(word) for word in words])

    pins = tuple(tmp_path / name for name in ("with", "without"))
    for path in pins:
        path.write_text("a==1\n", encoding="utf-8")
    monkeypatch.setattr(environment, "PINS", pins)
    monkeypatch.setattr(environment.subprocess, "run", run)
    for _ in range(2):
        assert environment.crypten_python(tmp_path / "peers") == tmp_path / "peers" / "bin" / "python"
    assert ["venv" in words for words in ran] == [True, False, False]
    assert ["--no-deps" in words for words in ran] == [False, False, True]
    pins[1].write_text("a==2\n", encoding="utf-8")
    environment.crypten_python(tmp_path / "peers")
    assert len(ran) == 6
