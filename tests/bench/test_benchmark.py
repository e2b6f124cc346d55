"""Recipes side by side: rows, ratios, refusals, pictures, and comparison with an earlier run."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcify.bench import benchmark
from mpcify.bench.benchmark import against_earlier, bench, over
from mpcify.bench.kept import keep
from mpcify.conversion.convert import convert, load_model
from mpcify.conversion.folder import save
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.lowering.compile import compile
from mpcify.measure.estimate import estimate
from mpcify.measure.network import Network
from mpcify.measure.picture import draw
from mpcify.measure.profile import profile

RECIPES = ["naive", "exact-tanh", "puma", "2quad-freediv"]


@pytest.fixture(scope="module")
def found() -> Any:
    """One layer of a small shape under SPU."""
    return bench("minilm", RECIPES, lengths=[16], layers=1, repeat=1)


def test_a_row_a_recipe_with_its_layers_embedding_head_and_total(found: Any) -> None:
    assert found["refused"] == []
    assert [row["recipe"] for row in found["rows"]] == RECIPES
    for row in found["rows"]:
        fields = ("engine", "protocol", "ring", "length", "batch", "layers")
        assert tuple(row[name] for name in fields) == ("spu", "aby3", 64, 16, 1, 1)
        for measure in ("bytes", "rounds"):
            parts = sum(row[part][measure] for part in ("cost", "embedding", "head"))
            assert row["total"][measure] == parts
        assert row["cost"]["bytes"] > row["head"]["bytes"] > 0
        inside = sum(values["bytes"] for values in row["kinds"].values())
        assert 0 < inside < row["total"]["bytes"], "the kinds are the operations, without inputs and outputs"


def test_conversion_costs_less_and_what_jax_writes_costs_more(found: Any) -> None:
    rows = {row["recipe"]: row for row in found["rows"]}
    exact = [rows[name] for name in ("exact-tanh", "puma")]
    for row in found["rows"]:
        for measure in ("seconds", "bytes", "rounds"):
            least = min(exact, key=lambda base: base["cost"][measure])
            assert row["ratios"]["to"][measure] == least["recipe"]
            assert row["ratios"][measure] == least["cost"][measure] / row["cost"][measure]
    assert rows["2quad-freediv"]["ratios"]["bytes"] > 3
    assert rows["2quad-freediv"]["ratios"]["rounds"] > 2
    assert rows["2quad-freediv"]["ratios"]["wan"] > 1.5
    assert rows["naive"]["ratios"]["bytes"] < 0.5


def test_each_row_tells_what_an_estimate_says_of_it(found: Any) -> None:
    for row in found["rows"]:
        if row["recipe"] == "naive":
            assert row["told"] is None
            continue
        assert row["told"]["bytes"] == pytest.approx(row["cost"]["bytes"], abs=60), "descriptions of shares"
        chance = 4 * math.sqrt(2 / 9 * row["told"]["rounds"] / 2)  # ABY3's roles, drawn anew for each truncation
        assert row["told"]["rounds"] == pytest.approx(row["cost"]["rounds"], rel=0.05, abs=chance)


def test_naive_computes_what_exact_computes(teacher: Callable) -> None:
    import numpy as np

    from mpcify.engines.plain import PlainEngine
    from mpcify.lowering.passes import lower
    from mpcify.lowering.trace import trace_graph

    logits = []
    for naive in (False, True):
        graph, weights = lower(*trace_graph(convert(teacher("bert"), "exact"), 1, 9), naive=naive)
        inputs = {item.name: np.random.default_rng(1).standard_normal(item.shape) for item in graph.held_by("client")}
        inputs |= {"mask": np.ones((1, 9, 1)), "segment": np.zeros((1, 9, 1))}
        logits.append(PlainEngine().compile(graph).load(weights).run(inputs)[0]["logits"])
    np.testing.assert_allclose(*logits, atol=1e-9)


def test_an_engine_that_refuses_a_recipe_stands_beside_the_rows_that_ran() -> None:
    both = bench("minilm", ["puma", "2quad-freediv"], lengths=[8], layers=1, repeat=1, rings=[32], force=True)
    assert [row["recipe"] for row in both["rows"]] == ["2quad-freediv"]
    (refused,) = both["refused"]
    assert refused["recipe"] == "puma"
    assert refused["error"].startswith("MPC-501 layer 0 attention")


def test_if_every_recipe_is_refused_the_first_refusal_comes_out() -> None:
    with pytest.raises(MpcifyError, match="MPC-501 layer 0 attention"):
        bench("minilm", ["puma"], lengths=[8], layers=1, repeat=1, rings=[32], force=True)


def test_an_engine_without_exact_recipes_is_compared_with_the_one_beside_it() -> None:
    found = bench("minilm", ["puma", "2quad-freediv"], engines=["spu", "ring"], lengths=[8], layers=1, repeat=1)
    (refused,) = found["refused"]
    assert (refused["recipe"], refused["engine"]) == ("puma", "ring")
    exact, _, ring = found["rows"]
    assert (exact["recipe"], ring["engine"], ring["recipe"]) == ("puma", "ring", "2quad-freediv")
    assert set(ring["ratios"]["to"].values()) == {"puma"}
    assert ring["ratios"]["bytes"] == exact["cost"]["bytes"] / ring["cost"]["bytes"] > 5
    assert ring["ratios"]["online"] == exact["cost"]["seconds"] / ring["cost"]["online"]["seconds"]
    assert "online" not in exact["ratios"]
    ahead, rest = ring["cost"]["offline"], ring["cost"]["online"]
    lines = [Network.named("wan").seconds(cost["bytes_per_party"], cost["rounds"]) for cost in (ahead, rest)]
    assert over("wan", ring["cost"]) == pytest.approx(ring["cost"]["seconds"] + sum(lines))


def test_the_shape_of_a_checkpoint(checkpoint: Callable) -> None:
    folder = checkpoint("bert")
    result = bench(str(folder), ["exact", "2quad-freediv"], engines=["plain", "fixed"], lengths=[8], repeat=1)
    assert result["shape"] == folder.name
    assert [(row["engine"], row["layers"]) for row in result["rows"]] == [("plain", 2)] * 2 + [("fixed", 2)] * 2
    assert result["rows"][0]["cost"]["bytes"] == 0
    assert result["rows"][0]["ratios"]["bytes"] is None
    assert result["rows"][0]["told"] is None


def test_a_checkpoint_runs_as_its_declared_ranges_say(checkpoint: Callable, tmp_path: Path, declare: Callable) -> None:
    source = checkpoint("bert")
    student = convert(load_model(source), "2quad-freediv")
    declare(student, source, ["the film is good", "a very dull film"])
    ranges = student.config.mpcify["ranges"]
    layers = [name for name in ranges if name.endswith("output.dense") and "attention" not in name]
    ranges[layers[0]]["product"] = [-2000.0, 2000.0]  # no room for a square that was not truncated
    save(student, tmp_path / "student", source)
    (row,) = bench(str(tmp_path / "student"), ["2quad-freediv"], lengths=[16], repeat=1)["rows"]
    (free,) = bench(str(source), ["2quad-freediv"], lengths=[16], repeat=1)["rows"]
    assert row["told"]["bytes"] == pytest.approx(row["cost"]["bytes"], abs=60)
    assert row["cost"]["bytes"] > 1.01 * free["cost"]["bytes"], "one layer truncates its squares"
    with compile(tmp_path / "student", "spu", length=16, accept_embedding_leak=True) as private:
        estimated = estimate(private).to_json()["operations"]
        found = profile(private).to_json()["operations"]
    assert {operation["name"] for operation in found} == {operation["name"] for operation in estimated}


@pytest.mark.parametrize(
    ("shape", "options", "code"),
    [
        ("bert-huge", {}, "MPC-501 shape bert-huge"),
        ("bert-base", {"lengths": [513]}, "MPC-405 length 513"),
        ("minilm", {"recipes": ["2quad-freedivs"]}, "MPC-301"),
        ("minilm", {"engines": ["ringo"], "lengths": [8], "layers": 1}, "MPC-501 engine ringo"),
        ("minilm", {"layers": 7}, "MPC-501 layers 7: minilm has 6"),
    ],
)
def test_what_there_is_not_is_refused(shape: str, options: dict[str, Any], code: str) -> None:
    with pytest.raises(MpcifyError, match=code):
        bench(shape, **{"recipes": ["puma"], **options})


def test_weights_that_memory_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "HEADROOM", 1e-6)
    with pytest.raises(MpcifyError, match="MPC-501 memory"):
        bench("minilm", ["puma"], lengths=[8], layers=1, repeat=1)


def test_against_an_earlier_result(found: Any, tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    keep({**found, "commit": None}, path)
    now = json.loads(path.read_text())
    now["rows"][0]["cost"]["seconds"] /= 2
    against_earlier(now, path)
    assert now["rows"][0]["earlier"]["seconds"] == pytest.approx(2)
    assert now["rows"][1]["earlier"]["bytes"] == 1
    now["rows"] = [{**row, "length": 17} for row in found["rows"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        against_earlier(now, path)
    assert [warning.category for warning in caught] == [MpcifyWarning]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "rows": []}', '{"format": 1, "rows": [{}]}', "[" * 100_000])
def test_another_file_is_no_earlier_result(text: str, tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    with pytest.raises(MpcifyError, match="MPC-110"):
        against_earlier({"rows": []}, path)
    with pytest.raises(MpcifyError, match="MPC-101"):
        against_earlier({"rows": []}, tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "cost",
    [
        {},
        {"seconds": "1"},
        {"seconds": -1.0},
        {"seconds": math.nan},
        {"bytes": None},
        {"bytes_per_party": []},
        {"bytes_per_party": {"client": "1"}},
        {"online": {}},
        [],
    ],
    ids=str,
)
def test_an_earlier_row_without_a_whole_cost_is_refused(found: Any, cost: Any, tmp_path: Path) -> None:
    path, (row, *_) = tmp_path / "earlier.json", found["rows"]
    damaged = {**row["cost"], **cost} if cost else cost
    path.write_text(json.dumps({"format": 1, "rows": [{**row, "cost": damaged}]}))
    with pytest.raises(MpcifyError, match="MPC-110"):
        against_earlier({"rows": [row]}, path)


def test_an_earlier_row_whose_parties_sent_nothing_is_compared_in_what_it_has(found: Any, tmp_path: Path) -> None:
    path, (row, *_) = tmp_path / "earlier.json", found["rows"]
    path.write_text(json.dumps({"format": 1, "rows": [{**row, "cost": {**row["cost"], "bytes_per_party": {}}}]}))
    now = {"rows": [dict(row)]}
    against_earlier(now, path)
    assert (now["rows"][0]["earlier"]["seconds"], now["rows"][0]["earlier"]["wan"]) == (1, None)


def test_a_picture_shows_every_bar_and_needs_nothing_else(found: Any, tmp_path: Path) -> None:
    bars = {row["recipe"]: row["kinds"] for row in found["rows"]}
    draw(bars, "a title <&>", tmp_path / "bars.html")
    page = (tmp_path / "bars.html").read_text()
    assert "a title &lt;&amp;&gt;" in page
    assert all(f"<td>{name}</td>" in page for name in bars)
    assert "<script" not in page
    assert "src=" not in page
    draw(bars, "a title", tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.html", "bars.png"]
