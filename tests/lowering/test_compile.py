"""What `export` wrote, compiled: it answers as the student does, with neither torch nor transformers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcify
from mpcify.conversion.convert import load_model
from mpcify.data.files import Examples
from mpcify.errors import MpcifyError
from mpcify.graph.exported import read_all
from mpcify.lowering.export import export_folder
from mpcify.measure.evaluate import evaluate
from tests.makers import write_student

TEXTS = ["the film is good", "a very dull film", "the film is not bad and not dull but good " * 2]
LENGTHS = [16, 32]
ALONE = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # importing either raises
"""
ANSWERS = """
import json
import mpcify
out, texts, settings = json.loads(sys.argv[1])
with mpcify.compile(out, accept_embedding_leak=True, **settings) as private:
    print(json.dumps(private(texts)[0].tolist()))
"""
VERBS = """
import contextlib, io, json
from mpcify.cli.main import run
for words in json.loads(sys.argv[1]):
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        code = run(words)
    print(json.dumps([code, printed.getvalue(), said.getvalue()]))
"""


def alone(code: str, argument: Any) -> list[Any]:
    """What code prints, a JSON value a line, in a process in which torch and transformers cannot be imported."""
    words = [sys.executable, "-c", ALONE + code, json.dumps(argument)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder, its ranges declared."""
    return write_student(tmp_path_factory.mktemp("compiled"), TEXTS, labels=2)


@pytest.fixture(scope="module")
def out(student: Path) -> Path:
    """What export wrote of it."""
    export_folder(load_model(student), student, student.parent / "out", LENGTHS, accept_embedding_leak=True)
    return student.parent / "out"


@pytest.fixture(scope="module")
def expected(student: Path) -> np.ndarray:
    """The student's own answers, in floats."""
    with mpcify.compile(student, "plain") as private:
        return private(TEXTS)[0]


@pytest.mark.parametrize("engine, tolerance", [("plain", 1e-12), ("spu", 2e-2)])
def test_client_owner_and_helper_folders_answer_without_torch(
    engine: str, tolerance: float, out: Path, expected: np.ndarray
) -> None:
    (found,) = alone(ANSWERS, [str(out), TEXTS, {"engine": engine}])
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_the_verbs_that_run_a_model_run_an_exported_folder_without_torch(out: Path, tmp_path: Path) -> None:
    data, speeds = tmp_path / "data.tsv", tmp_path / "speeds.json"
    data.write_text("sentence\tlabel\nthe film is good\t1\na very dull film\t0\n")
    speed = {"multiplication": 1e-9, "byte": 1e-9, "message": 1e-5}
    speeds.write_text(json.dumps({"format": 1, "speeds": {"aby3 64": speed}}))
    lines = [
        ["infer", str(out), TEXTS[0], "--engine", "plain", "--format", "json"],
        ["infer", str(out), TEXTS[0], "--accept-embedding-leak", "--format", "json"],
        ["evaluate", str(out), "--data", str(data), "--engine", "plain", "--format", "json"],
        ["evaluate", str(out), "--data", str(data), "--compare", str(out), "--engine", "plain", "--format", "json"],
        ["profile", str(out), "--engine", "plain", "--format", "json"],
        ["estimate", str(out), "--calibration", str(speeds), "--accept-embedding-leak", "--format", "json"],
        ["infer", str(out), TEXTS[0], "--engine", "plain", "--length", "24"],
        ["infer", str(out), TEXTS[0], "--engine", "plain", "--batch", "3"],
        ["infer", str(out / "client"), TEXTS[0], "--engine", "plain"],
        ["check", str(out)],
    ]
    found = alone(VERBS, lines)
    assert [code for code, _, _ in found] == [0] * 6 + [2] * 4, found
    infer, private, evaluated, compared, profiled, estimated = (json.loads(printed) for _, printed, _ in found[:6])
    assert infer["results"][0]["label"] == private["results"][0]["label"]
    assert (infer["model"], infer["recipe"]) == (str(out), "2quad-freediv")
    assert (evaluated["model"], evaluated["examples"]) == ("student", 2)
    assert (compared["agreement"], compared["mcnemar_p"]) == (1.0, 1.0)
    assert (profiled["length"], estimated["length"]) == (32, 32), "128 tokens, or what there is"
    assert [said[:7] for _, _, said in found[6:]] == ["MPC-405", "MPC-405", "MPC-404", "MPC-202"]
    assert "simulates all parties" in found[1][2]


def test_what_an_evaluation_says_of_a_student_it_says_of_its_export(student: Path, out: Path) -> None:
    reports = []
    for model in (student, out):
        with (
            mpcify.compile(model, "fixed", accept_embedding_leak=True) as private,
            pytest.warns(mpcify.MpcifyWarning, match="the student is not calibrated"),
        ):
            report = evaluate(private, Examples("single", TEXTS, [0, 1, 0], "a.tsv")).report
        reports.append({name: value for name, value in report.items() if name != "cost"})
    assert reports[0] == reports[1]
    assert "outside_ranges" in reports[0]


def test_a_table_that_is_not_public_is_a_warning_for_its_export_too(out: Path) -> None:
    with pytest.warns(mpcify.MpcifyWarning, match="not recorded as public"), mpcify.compile(out, "spu"):
        pass


def test_kept_answers_of_an_export_are_its_own(out: Path, student: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    model = load_model(student)
    model.classifier.bias.data += 1
    export_folder(model, student, other, LENGTHS, accept_embedding_leak=True)
    assert read_all(out).digest != read_all(other).digest


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"length": 24}, r"length 24: .*graphs of 16,32 tokens.*mpcify export MODEL OUT --length 16,32,24"),
        ({"batch": 2}, r"for a batch of 1, not of 2.*mpcify export MODEL OUT --batch 2"),
        ({"embeddings": "one-hot"}, r"embeddings client, not one-hot.*--embeddings one-hot"),
    ],
)
def test_what_was_not_exported_is_refused_with_the_command_that_exports_it(
    settings: dict[str, Any], said: str, out: Path
) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-405 .*{said}"):
        mpcify.compile(out, "plain", **settings)


@pytest.mark.parametrize(
    "family, embeddings", [("roberta", "one-hot"), ("distilbert", "client"), ("albert", "one-hot")]
)
def test_every_family_of_texts_answers_from_its_export(
    family: str, embeddings: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = checkpoint(family)
    student = mpcify.convert(load_model(folder), "2quad-freediv")
    export_folder(student, folder, tmp_path / "out", [32], embeddings=embeddings, batch=2, accept_embedding_leak=True)
    with mpcify.compile(student, "plain", embeddings=embeddings, batch=2, length=32) as private:
        wanted = private(TEXTS)[0]
    with mpcify.compile(tmp_path / "out", "plain", batch=2) as private:
        assert private.about.embeddings == embeddings
        np.testing.assert_array_equal(private(TEXTS)[0], wanted)


def test_images_answer_from_their_export(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint("vit", labels=5)
    student = mpcify.convert(load_model(folder), "2quad-freediv")
    export_folder(student, folder, tmp_path / "out", [])
    images = [np.random.default_rng(seed).integers(0, 255, (8, 8, 1), np.uint8) for seed in range(2)]
    with mpcify.compile(student, "plain") as private:
        wanted = private(images)[0]
    with mpcify.compile(tmp_path / "out", "plain") as private:
        np.testing.assert_array_equal(private(images)[0], wanted)
        assert private.exported.lengths == (private.graph(0).length,)


@pytest.mark.parametrize(
    ("settings", "where"), [({"length": 16}, "length 16"), ({"embeddings": "one-hot"}, "embeddings one-hot")]
)
def test_what_images_do_not_have_is_refused(
    settings: dict[str, Any], where: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = checkpoint("vit")
    export_folder(mpcify.convert(load_model(folder), "2quad-freediv"), folder, tmp_path / "out", [])
    for model in (folder, tmp_path / "out"):
        with pytest.raises(MpcifyError, match=f"MPC-405 {where}: images"):
            mpcify.compile(model, "plain", **settings)


@pytest.mark.parametrize(("lengths", "embeddings"), [([16], "client"), ([], "one-hot")])
def test_no_graph_of_images_is_exported_that_nobody_asked_for(
    lengths: list[int], embeddings: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = checkpoint("vit")
    student = mpcify.convert(load_model(folder), "2quad-freediv")
    with pytest.raises(MpcifyError, match=r"MPC-405 .*images"):
        export_folder(student, folder, tmp_path / "out", lengths, embeddings=embeddings)
    assert not (tmp_path / "out").exists()
