"""An engine from outside needs one registration, and everything that measures engines takes it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcify
from mpcify.bench.benchmark import bench
from mpcify.cli.main import run
from mpcify.data.files import Examples
from mpcify.engines.config import ENGINES, config_named, register
from mpcify.errors import MpcifyError
from mpcify.measure.estimate import estimate
from mpcify.measure.evaluate import evaluate
from mpcify.measure.profile import profile
from tests.engines.toy import ToyConfig

TEXTS = ["a good film", "the dull film", "the film is not bad", "not very good"]


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """The engine, registered while a test runs."""
    register(ToyConfig)
    yield
    del ENGINES["toy"]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line and gives the JSON that it prints."""

    def call(*words: object) -> Any:
        capfd.readouterr()
        assert run([*map(str, words), "--format", "json"]) == 0, capfd.readouterr().err
        return json.loads(capfd.readouterr().out)

    return call


def test_it_answers_with_its_noise(model: Path) -> None:
    logits = {}
    for noise in (0.0, 0.1):
        with mpcify.compile(model, "toy", noise=noise) as private:
            logits[noise], cost = private(TEXTS)
            exact = private.plain(TEXTS)
        assert (cost.bytes, cost.rounds) == (0, 0)
    np.testing.assert_allclose(logits[0.0], exact, atol=1e-9)
    assert 1e-3 < np.abs(logits[0.1] - exact).max() < 10


def test_it_is_evaluated_profiled_estimated_and_benched(model: Path, tmp_path: Path) -> None:
    with mpcify.compile(model, "toy", noise=1e-4, length=16) as private:
        report = evaluate(private, Examples("single", TEXTS, [1, 0, 1, 0], "test")).report
        measured = profile(private).to_json()
        speeds = tmp_path / "speed.json"
        foreseen = estimate(private, "toy", noise=1e-4, calibration=speeds, accept_embedding_leak=True).to_json()
    assert (report["engine"], report["protocol"], report["ring"]) == ("toy", None, None)
    assert 0 < report["max_logit_error"] < 1
    assert len(report["tightest"]) == 8
    assert {row["bound"] for row in report["tightest"]} <= {1e6, -1e6}
    assert [row["name"] for row in foreseen["operations"]] == [row["name"] for row in measured["operations"]]
    assert foreseen["cost"]["seconds"] > 0
    assert (foreseen["cost"]["bytes"], foreseen["cost"]["rounds"], foreseen["cost"]["bytes_per_party"]) == (0, 0, {})
    (speed,) = json.loads(speeds.read_text())["speeds"].values()
    assert speed["multiplication"] > 0
    assert (speed["byte"], speed["message"]) == (0, 0), "nothing is sent"
    found = bench("minilm", ["puma", "2quad-freediv"], engines=["toy", "plain"], lengths=[8], layers=1, repeat=1)
    assert [row["engine"] for row in found["rows"]] == ["toy", "toy", "plain", "plain"]
    assert [row["told"] for row in found["rows"]] == [{"bytes": 0, "rounds": 0}] * 2 + [None] * 2


def test_its_setting_is_a_flag_of_every_verb_that_runs_engines(
    model: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    data = tmp_path / "data.tsv"
    data.write_text("sentence\tlabel\na good film\tgood\nthe dull film\tbad\n", encoding="utf-8")
    toy = ("--engine", "toy", "--noise", "0.1")
    assert command("evaluate", model, "--data", data, *toy)["max_logit_error"] > 0
    assert command("infer", model, "a film", *toy)["engine"] == "toy"
    assert command("profile", model, "--length", 8, *toy)["engine"] == "toy"
    assert command("estimate", model, "--length", 8, *toy, "--accept-embedding-leak")["engine"] == "toy"
    shape = ("--shape", "minilm", "--layers", 1, "--length", 8, "--repeat", 1, "--recipes", "puma")
    assert command("bench", *shape, *toy)["rows"][0]["engine"] == "toy"


def test_its_help_stands_among_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    for verb in ("evaluate", "infer", "profile", "estimate", "bench"):
        assert run([verb, "--help"]) == 0
        assert "--noise" in capfd.readouterr().out


def test_its_setting_is_refused_by_others_and_theirs_by_it() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-501 engine plain: it has no noise\. Do this: leave --noise out"):
        config_named("plain", noise=0.1)
    with pytest.raises(MpcifyError, match="MPC-501 engine toy: it has no ring"):
        config_named("toy", ring=64)
    with pytest.raises(MpcifyError, match=r"MPC-501 noise 'much': there is no such choice\. Do this: use a number"):
        config_named("toy", noise="much")
    assert config_named("toy", noise=0.1, ring=None, trust_first_party=False) == ToyConfig(0.1)
