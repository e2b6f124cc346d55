"""mpcify check, and what every verb shares: one numbered line for every error, and a clean stdout."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpcify import __version__, check
from mpcify.errors import MpcifyError

SCRIPT = Path(sys.executable).with_name("mpcify")
LINE = re.compile(r"MPC-(\d+) .+: .+\. Do this: .+\n")


def assert_one_line(outcome, code: int) -> None:
    """The command failed as a user can mend it: one numbered line on stderr, nothing on stdout, exit code 2."""
    assert (outcome.code, outcome.out) == (2, "")
    assert (match := LINE.fullmatch(outcome.err)), outcome.err
    assert int(match[1]) == code


def test_a_convertible_model_is_listed_site_by_site(mpcify: Callable, model: Path) -> None:
    outcome = mpcify("check", model, "--format", "json")
    report = outcome.json
    assert (outcome.code, outcome.err) == (0, "")
    assert {key: report[key] for key in ("format", "model", "family", "task", "ok")} == {
        "format": 1,
        "model": str(model),
        "family": "bert",
        "task": "classification",
        "ok": True,
    }
    assert {tuple(finding) for finding in report["findings"]} == {("code", "module", "kind", "what", "remedy")}
    replaced = [finding["module"] for finding in report["findings"] if finding["kind"] == "replace"]
    assert len(replaced) == 4
    assert any(finding["kind"] == "keep" and "pooler" in finding["module"] for finding in report["findings"])


def test_for_people_it_is_a_table(mpcify: Callable, model: Path) -> None:
    outcome = mpcify("check", model)
    assert outcome.code == 0
    assert "can be converted" in outcome.out
    assert "bert.encoder.layer.1.attention.self" in outcome.out


def test_a_blocker_is_in_the_answer_and_on_stderr(mpcify: Callable, model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([float("nan"), 0.0])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    outcome = mpcify("check", model, "--format", "json")
    assert outcome.code == 2
    assert (outcome.json["ok"], outcome.json["findings"][0]["code"]) == (False, "MPC-205")
    assert LINE.fullmatch(outcome.err)
    assert "classifier.bias" in outcome.err


def test_it_answers_as_python_does(mpcify: Callable, checkpoint: Callable) -> None:
    folder = checkpoint("albert")
    config = json.loads((folder / "config.json").read_text())
    for values in (config, {**config, "architectures": ["AlbertModel"]}):
        (folder / "config.json").write_text(json.dumps(values))
        findings = [vars(finding) for finding in check(folder)]
        assert mpcify("check", folder, "--format", "json").json["findings"] == findings


@pytest.mark.parametrize("name", ["AutoConfig", "AutoModelForSequenceClassification"])
@pytest.mark.parametrize("model_type", ["bert", "own"])
def test_a_checkpoints_own_code_does_not_run_whatever_stdin_says(
    mpcify: Callable, monkeypatch: pytest.MonkeyPatch, model: Path, name: str, model_type: str
) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {name: "code.Own", "AutoTokenizer": ["code.Own", None]}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(model / 'ran')!r}, 'w')\nclass Own: pass\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    outcome = mpcify("check", model)
    assert (outcome.code, outcome.err[:8], (model / "ran").exists()) == (2, "MPC-203 ", False)
    assert "never runs a checkpoint's code" in outcome.err


def test_a_missing_model(mpcify: Callable, tmp_path: Path) -> None:
    assert_one_line(mpcify("check", tmp_path / "nothing"), 201)


def test_a_folder_without_a_config(mpcify: Callable, tmp_path: Path) -> None:
    assert_one_line(mpcify("check", tmp_path), 202)


def test_a_file_instead_of_a_folder(mpcify: Callable, model: Path) -> None:
    assert_one_line(mpcify("check", model / "model.safetensors"), 202)


def test_weights_cut_off(mpcify: Callable, model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert_one_line(mpcify("check", model), 202)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("check", "a", "b"),
        ("check", "a", "--no-such-option"),
        ("check", "a", "--format", "xml"),
        ("chek", "a"),
        ("infer", "a"),
        ("infer", "a", "text", "--data", "file.tsv"),
        ("infer", "a", "text", "text", "--pair", "one"),
        ("infer", "a", "text", "--batch", "0"),
        ("infer", "a", "text", "--batch", "many"),
        ("infer", "a", "text", "--batch", "1000000000"),
        ("export", "a", "b", "--length", "64,x"),
        ("evaluate", "a", "--data", "b", "--answers", ""),
        ("estimate", "a", "--calibration", ""),
        ("bench", "--out", ""),
        ("bench", "--baseline", ""),
        ("profile", "a", "--plot", ""),
        ("convert", "a", "", "--recipe", "puma"),
        ("party", "serve", ""),
    ],
    ids=" ".join,
)
def test_wrong_usage(mpcify: Callable, arguments: tuple[str, ...]) -> None:
    outcome = mpcify(*arguments)
    assert_one_line(outcome, 901)
    assert "--help" in outcome.err


def test_the_version_and_the_help_go_to_stdout(mpcify: Callable) -> None:
    assert mpcify("--version").out == f"mpcify {__version__}\n"
    helped = mpcify("check", "--help")
    assert (helped.code, helped.err) == (0, "")
    assert "MODEL" in helped.out


def test_the_installed_command_is_this_one(model: Path) -> None:
    done = subprocess.run([SCRIPT, "check", model, "--format", "json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["ok"] is True
    assert done.stderr == ""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `mpcify check` raise."""

    def install(error: BaseException) -> None:
        def work(_: str) -> None:
            raise error

        monkeypatch.setattr("mpcify.conversion.check.check", work)
        monkeypatch.setattr("mpcify.cli.check.check_model", lambda _: None)

    return install


def test_an_unexpected_failure_is_one_line_and_exit_code_1(mpcify: Callable, failing: Callable) -> None:
    failing(RuntimeError("first line\nsecond line"))
    outcome = mpcify("check", "model")
    assert (outcome.code, outcome.out) == (1, "")
    assert LINE.fullmatch(outcome.err)
    assert "MPC-903 mpcify: RuntimeError: first line. Do this" in outcome.err


def test_debugging_adds_the_traceback(mpcify: Callable, failing: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCIFY_DEBUG", "1")
    failing(RuntimeError("boom"))
    assert "Traceback" in mpcify("check", "model").err


def test_an_engine_that_fails_is_a_failure(mpcify: Callable, failing: Callable) -> None:
    failing(MpcifyError(503, "engine spu", "its process ended", "run again"))
    assert mpcify("check", "model").code == 1


def test_an_interrupt_is_a_numbered_line(mpcify: Callable, failing: Callable) -> None:
    failing(KeyboardInterrupt())
    assert_one_line(mpcify("check", "model"), 902)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, os.strerror(28), "/out/file"),
        PermissionError(13, os.strerror(13), "/out/file"),
        RuntimeError(f"I/O error: {os.strerror(28)} (os error 28)"),
    ],
    ids=["full", "forbidden", "full, said by a library"],
)
def test_a_disk_that_refuses(mpcify: Callable, failing: Callable, error: Exception) -> None:
    failing(error)
    assert_one_line(mpcify("check", "model"), 109)


def test_what_libraries_write_to_stdout_goes_to_stderr(
    mpcify: Callable, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    def noisy(_: str) -> list:
        print("from Python")
        os.write(1, b"from C\n")
        subprocess.run(["echo", "from a child"], check=True)
        return []

    monkeypatch.setattr("mpcify.conversion.check.check", noisy)
    outcome = mpcify("check", model, "--format", "json")
    assert outcome.json["ok"] is True
    assert all(line in outcome.err for line in ("from Python", "from C", "from a child"))
