"""mpcify profile, estimate and bench as a user calls them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.makers import write_student

ROW = {"name", "layer", "kind", "seconds", "bytes", "rounds"}
PARTS = {"linear", "attention", "activation", "layernorm", "embedding", "head"}


@pytest.mark.parametrize("engine", ["plain", "fixed", "spu"])
def test_profile_gives_every_operation_and_the_whole(
    engine: str, mpcify: Callable, model: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "bars.html"
    words = ("--engine", engine, "--length", 16, "--accept-embedding-leak", "--plot", plot, "--format", "json")
    outcome = mpcify("profile", model, *words)
    assert outcome.code == 0, outcome.err
    result = outcome.json
    named = ["format", "model", "recipe", "length", "batch", "engine", "protocol", "ring", "operations", "cost"]
    assert list(result) == named
    assert all(set(row) == ROW for row in result["operations"])
    assert {row["kind"] for row in result["operations"]} == PARTS
    assert sum(row["bytes"] for row in result["operations"]) == result["cost"]["bytes"]
    assert "<svg" in plot.read_text()


def test_profile_of_the_ring_engine_keeps_apart_what_is_done_ahead(mpcify: Callable, tmp_path: Path) -> None:
    student = write_student(tmp_path, ["the film is good", "a very dull film"])
    words = ("profile", student, "--engine", "ring", "--length", 8, "--accept-embedding-leak")
    result = mpcify(*words, "--format", "json").json
    cost = result["cost"]
    assert all(set(row) == ROW | {"offline"} for row in result["operations"])
    assert sum(row["offline"]["bytes"] for row in result["operations"]) == cost["offline"]["bytes"]
    assert cost["offline"]["bytes_per_party"]["dealer"] > 0 == cost["online"]["bytes_per_party"]["dealer"]
    text = mpcify(*words).out
    assert "MB ahead" in text
    dealt = cost["offline"]["bytes_per_party"]["dealer"] / 1e6
    assert f"dealer {dealt:.2f} MB" in text[text.index("ahead by") :]


def test_profile_of_images(mpcify: Callable, checkpoint: Callable) -> None:
    outcome = mpcify("profile", checkpoint("vit"), "--engine", "plain", "--batch", 2, "--format", "json")
    assert outcome.json["batch"] == 2


def test_estimate_runs_nothing_and_says_what_it_will_cost(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    words = ("--length", 16, "--calibration", tmp_path / "speed.json")
    outcome = mpcify("estimate", model, *words, "--network", "40,1", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["network"] == "40,1"
    assert all(set(row) == ROW for row in outcome.json["operations"])
    assert set(outcome.json["sizing"]) == {"cpu_seconds", "requests_per_second_per_core", "gigabits", "memory_gib"}
    assert set(outcome.json["sizing"]["memory_gib"]) == {"client", "owner", "helper"}
    people = mpcify("estimate", model, *words)
    assert "attention" in people.out
    assert "requests/s a core" in people.out


def test_an_estimate_of_the_ring_engine_tells_each_opening_s_ring_why_and_its_error(
    mpcify: Callable, tmp_path: Path
) -> None:
    student = write_student(tmp_path, ["the film is good", "a very dull film"])
    words = ("--engine", "ring", "--length", 8, "--calibration", tmp_path / "speed.json")
    outcome = mpcify("estimate", student, *words, "--format", "json")
    assert outcome.code == 0, outcome.err
    rows = outcome.json["openings"]
    names = {row["name"] for row in outcome.json["operations"]}
    for row in rows:
        assert row["operation"] in names
        assert row["bound"] * 2.0 ** row["fraction_bits"] < 2.0 ** (row["ring"] - 2)
        assert row["error"] == 2.0 ** -row["fraction_bits"]
        assert row["headroom_bits"] >= 0
    people = mpcify("estimate", student, *words).out.replace("\n", " ")
    assert {row["what"] for row in rows} == {"value", "deviation", "root"}
    assert len({(row["operation"], row["what"]) for row in rows}) == len(rows)
    assert f"{len(rows)} openings in rings of {min(row['ring'] for row in rows)} to " in people


def test_bench_compares_and_keeps(mpcify: Callable, tmp_path: Path) -> None:
    kept = tmp_path / "bench.json"
    words = ("--shape", "minilm", "--layers", 1, "--length", 8, "--repeat", 1, "--recipes", "puma,2quad-freediv")
    outcome = mpcify("bench", *words, "--out", kept, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert {"rows", "refused", "commit", "machine", "seed", "command"} <= outcome.json.keys()
    people = mpcify("bench", *words[:-1], "2quad-freediv", "--baseline", kept, "--plot", tmp_path / "bars.png")
    assert people.code == 0, people.err
    assert "2quad-freediv" in people.out
    assert (tmp_path / "bars.png").is_file()


def test_profile_and_bench_show_how_far_they_are(
    mpcify: Callable, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcify.progress.PAUSE", 0.0)
    profiled = mpcify("profile", model, "--engine", "plain", "--length", 8)
    assert profiled.err.splitlines() == [f"profile: {done} of 4" for done in range(1, 5)]
    words = (
        "--shape",
        "minilm",
        "--layers",
        1,
        "--length",
        "4,8",
        "--repeat",
        1,
        "--recipes",
        "puma",
        "--engine",
        "plain",
    )
    benched = mpcify("bench", *words)  # prepared, warmed up, one turn: for each length
    assert benched.err.splitlines() == [f"bench: {done} of 6" for done in range(1, 7)]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("profile", "MODEL", "--plot", "bars.gif"), "MPC-901"),
        (("profile", "MODEL", "--length", "4000"), "MPC-405"),
        (("estimate", "MODEL", "--network", "moon"), "MPC-501 network moon"),
        (("estimate", "MODEL", "--protocol", "cheetah"), "MPC-501 protocol cheetah"),
        (("estimate", "MODEL", "--ring", "32"), "MPC-501 layer 0 attention"),
        (("bench", "--shape", "gpt"), "MPC-501 shape gpt"),
        (("bench", "--length", "long"), "MPC-901"),
        (("bench", "--length", "900"), "MPC-405"),
        (
            ("bench", "--protocol", "aby4", "--shape", "minilm", "--layers", "1", "--length", "8"),
            "MPC-501 protocol aby4",
        ),
    ],
)
def test_what_is_wrong_is_one_numbered_line(words: tuple[str, ...], line: str, mpcify: Callable, model: Path) -> None:
    outcome = mpcify(*(str(model) if word == "MODEL" else word for word in words))
    assert outcome.code == 2
    assert outcome.out == ""
    (said,) = [text for text in outcome.err.splitlines() if text.startswith("MPC-")]
    assert said.startswith(line)


def test_estimate_says_that_it_measures_and_who_would_hold_the_table_until_neither_is_news(
    mpcify: Callable, model: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "speed.json"
    words = ("estimate", model, "--length", 16, "--calibration", kept, "--format", "json")
    first, again = mpcify(*words), mpcify(*words, "--accept-embedding-leak")
    table, measuring = first.err.splitlines()
    assert table.startswith("warning: the embedding table is not recorded as public")
    assert measuring.startswith("warning: running SPU for some seconds to measure this machine's speeds")
    assert (again.code, again.err) == (0, "")


def test_an_estimate_for_a_gpu_that_is_not_there_takes_no_speeds_of_the_processor(
    mpcify: Callable, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    kept = tmp_path / "speed.json"
    kept.write_text('{"format": 1, "speeds": {"ring 64": {"multiplication": 1e-9, "byte": 1e-9, "message": 1e-5}}}')
    outcome = mpcify("estimate", model, "--engine", "ring", "--device", "cuda", "--calibration", kept)
    assert (outcome.code, outcome.err.splitlines()[-1][:19]) == (2, "MPC-501 device cuda")
