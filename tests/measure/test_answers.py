"""Kept answers: an evaluation that was interrupted goes on where it was, and answers the same."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcify.data.files import Examples
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.measure import answers, provenance
from tests.measure.reports import compare, evaluate

Make = Callable[..., Path]
WORDS = ["good", "bad", "a film", "a good film", "the bad film", "film", "a", "the good", "good good", "bad bad film"]
EXAMPLES = Examples("single", WORDS, [0, 1] * 5, "a.tsv")
SETTINGS: dict[str, Any] = {"engine": "fixed", "batch": 2}


class Interrupt:
    """Ctrl-C once so many examples are answered."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, done: int) -> None:
        if done >= self.count:
            raise KeyboardInterrupt


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    cost = {name: value for name, value in report["cost"].items() if name not in ("seconds", "setup")}
    return {**report, "cost": cost}


def interrupted(model: Path, kept: Path, count: int = 4, **more: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, EXAMPLES, answers=kept, progress=Interrupt(count), **{**SETTINGS, **more})


def said(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(item.message) for item in caught if issubclass(item.category, MpcifyWarning)]


@pytest.mark.parametrize("engine", ["fixed", "spu"])
def test_an_interrupted_evaluation_goes_on_where_it_was(checkpoint: Make, tmp_path: Path, engine: str) -> None:
    model, kept = checkpoint(), tmp_path / "kept"
    settings: dict[str, Any] = {"engine": engine, "batch": 2, "accept_embedding_leak": True, "force": True}
    interrupted(model, kept, **settings)
    (file,) = kept.iterdir()
    assert len(file.read_text().splitlines()) == 1 + 2  # what the first batches answered
    before, done = file.read_text(), []  # type: ignore[var-annotated]
    found = said(lambda: done.append(evaluate(model, EXAMPLES, answers=kept, **settings)))
    assert found == ["4 of 10 examples were answered before: going on"]
    assert file.read_text().startswith(before)
    whole = evaluate(model, EXAMPLES, **settings)
    if engine == "fixed":
        assert without_seconds(done[0]) == without_seconds(whole)
    else:  # shares are drawn by chance: answers agree to the last bits of fixed point
        assert done[0]["accuracy"] == whole["accuracy"]
        assert done[0]["cost"]["bytes"] == whole["cost"]["bytes"]
        assert done[0]["cost"]["setup"]["bytes"] > 0
    with pytest.warns(MpcifyWarning, match="10 of 10"):
        again = evaluate(model, EXAMPLES, answers=kept, progress=lambda done: None, **settings)
    assert again == done[0]  # nothing is left to run: not even the time is measured anew


def test_a_line_half_written_is_run_again(checkpoint: Make, tmp_path: Path) -> None:
    model, kept = checkpoint(), tmp_path / "kept"
    interrupted(model, kept)
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    found = said(lambda: evaluate(model, EXAMPLES, answers=kept, **SETTINGS))
    assert found == ["2 of 10 examples were answered before: going on"]
    places = [place for line in file.read_text().splitlines()[1:] for place in json.loads(line)["places"]]
    assert sorted(places) == list(range(10))


def kept_line(places: list[int], logits: list[list[float]], **cost: Any) -> bytes:
    """A line as `answer` keeps it."""
    return json.dumps({"places": places, "logits": logits, "cost": cost}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"nonsense",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        kept_line([0], [[math.nan, 0.0]]),
        kept_line([0], [[0.0]]),
        kept_line([0], [[0.0, 1.0, 2.0, 3.0]]),
        kept_line([-1], [[0.0, 1.0, 2.0]]),
        kept_line([10], [[0.0, 1.0, 2.0]]),
        kept_line([], []),
        kept_line([0], [[0.0, 1.0, 2.0]], seconds="1"),
    ],
    ids=lambda line: str(line[:50]),
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_file_is_named(checkpoint: Make, tmp_path: Path, line: bytes, place: int) -> None:
    model, kept = checkpoint(), tmp_path / "kept"
    interrupted(model, kept)
    (file,) = kept.iterdir()
    lines = file.read_bytes().splitlines()
    lines[place] = line
    file.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(MpcifyError, match="MPC-601"):
        evaluate(model, EXAMPLES, answers=kept, **SETTINGS)
    assert file.read_bytes() == b"\n".join([*lines, b""])


def test_other_models_examples_and_settings_have_answers_of_their_own(checkpoint: Make, tmp_path: Path) -> None:
    model, kept = checkpoint(), tmp_path / "kept"
    other = checkpoint(name="other", seed=5)
    shorter = Examples("single", WORDS[:9], [0] * 9, "a.tsv")
    for run in (
        lambda: evaluate(model, EXAMPLES, answers=kept, **SETTINGS),
        lambda: evaluate(model, EXAMPLES, answers=kept, **{**SETTINGS, "batch": 3}),
        lambda: evaluate(model, EXAMPLES, answers=kept, **{**SETTINGS, "fraction_bits": 17}),
        lambda: evaluate(model, EXAMPLES, answers=kept, **{**SETTINGS, "engine": "plain"}),
        lambda: evaluate(model, shorter, answers=kept, **SETTINGS),
        lambda: evaluate(other, EXAMPLES, answers=kept, **SETTINGS),
    ):
        assert not said(run)
    assert len(list(kept.iterdir())) == 6


def test_answers_of_other_code_are_not_taken(checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kept, package = checkpoint(), tmp_path / "kept", tmp_path / "package"
    (package / "measure").mkdir(parents=True)
    source = package / "engine.py"
    source.write_text("a = 1")
    monkeypatch.setattr(provenance, "__file__", str(package / "measure" / "provenance.py"))
    monkeypatch.setattr(answers, "code_digest", provenance.code_digest.__wrapped__)
    interrupted(model, kept)
    source.write_text("a = 2")
    assert said(lambda: evaluate(model, EXAMPLES, answers=kept, **SETTINGS)) == []
    source.write_text("a = 1")
    assert said(lambda: evaluate(model, EXAMPLES, answers=kept, **SETTINGS)) == [
        "4 of 10 examples were answered before: going on"
    ]


def test_a_comparison_goes_on_too(checkpoint: Make, tmp_path: Path) -> None:
    model, other, kept = checkpoint(), checkpoint(name="other", seed=5), tmp_path / "kept"
    whole = compare(model, other, EXAMPLES, **SETTINGS)
    interrupted(model, kept)
    with pytest.warns(MpcifyWarning, match="4 of 10"):
        found = compare(model, other, EXAMPLES, answers=kept, **SETTINGS)
    assert (found["agreement"], found["mcnemar_p"]) == (whole["agreement"], whole["mcnemar_p"])
    assert [found[name]["accuracy"] for name in "ab"] == [whole[name]["accuracy"] for name in "ab"]


def test_answers_are_kept_whether_or_not_there_are_labels(checkpoint: Make, tmp_path: Path) -> None:
    model, other, kept = checkpoint(), checkpoint(name="other", seed=5), tmp_path / "kept"
    unlabelled = Examples("single", WORDS, None, "a.txt")
    with pytest.warns(MpcifyWarning, match="has no labels"):
        whole = compare(model, other, unlabelled, **SETTINGS)
    with pytest.warns(MpcifyWarning, match="has no labels"), pytest.raises(KeyboardInterrupt):
        compare(model, other, unlabelled, answers=kept, progress=Interrupt(4), **SETTINGS)
    found: list[Any] = []
    heard = said(lambda: found.append(compare(model, other, unlabelled, answers=kept, **SETTINGS)))
    assert heard == [
        "a.txt has no labels: nothing says which answers are right",
        "4 of 10 examples were answered before: going on",
    ]
    assert {name: found[0][name] for name in ("agreement", "by_length", "by_margin")} == {
        name: whole[name] for name in ("agreement", "by_length", "by_margin")
    }
    heard = said(lambda: evaluate(model, EXAMPLES, answers=kept, **SETTINGS))  # the same texts, now with labels
    assert heard == ["10 of 10 examples were answered before: going on"]


def test_what_is_kept_tells_no_text(checkpoint: Make, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    evaluate(checkpoint(), EXAMPLES, answers=kept, **SETTINGS)
    (file,) = kept.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(word in file.read_text() for word in ("good", "bad", "film"))


def test_a_file_in_the_folder_s_place_is_an_error(checkpoint: Make, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(MpcifyError, match="MPC-109"):
        evaluate(checkpoint(), EXAMPLES, answers=tmp_path / "kept", **SETTINGS)
    assert (tmp_path / "kept").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error(checkpoint: Make) -> None:
    with pytest.raises(MpcifyError, match="MPC-109 /proc/kept"):
        evaluate(checkpoint(), EXAMPLES, answers=Path("/proc/kept"), **SETTINGS)


def test_another_tokenizer_or_config_beside_the_same_weights_gives_other_answers(
    checkpoint: Make, tmp_path: Path
) -> None:
    """What decides a run's answers is more than weights."""
    model, kept = checkpoint(), tmp_path / "kept"
    settings: dict[str, Any] = {**SETTINGS, "engine": "plain"}
    assert not said(lambda: evaluate(model, EXAMPLES, answers=kept, **settings))
    config, tokenizer = model / "config.json", model / "tokenizer.json"
    before = config.read_text()
    config.write_text(json.dumps({**json.loads(before), "layer_norm_eps": 0.5}))
    assert not said(lambda: evaluate(model, EXAMPLES, answers=kept, **settings))
    config.write_text(before)
    told = json.loads(tokenizer.read_text())
    words = told["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    tokenizer.write_text(json.dumps(told))
    assert not said(lambda: evaluate(model, EXAMPLES, answers=kept, **settings))
    assert len(list(kept.iterdir())) == 3
