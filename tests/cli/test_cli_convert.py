"""mpcify convert: a student, whole or not at all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer

SCRIPT = Path(sys.executable).with_name("mpcify")


def names(folder: Path) -> set[str]:
    """What stands in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


def test_the_student_is_a_checkpoint_with_its_recipe_and_tokenizer(
    mpcify: Callable, model: Path, tmp_path: Path
) -> None:
    outcome = mpcify("convert", model, tmp_path / "student", "--recipe", "2quad-freediv", "--format", "json")
    assert (outcome.code, outcome.json["recipe"], outcome.json["calibrated"]) == (0, "2quad-freediv", False)
    config = AutoConfig.from_pretrained(tmp_path / "student")
    assert (config.mpcify["attention"], config.mpcify["activation"]) == ("2quad-freediv", "quad")
    text = "a good film"
    tokenizers = (AutoTokenizer.from_pretrained(folder) for folder in (model, tmp_path / "student"))
    assert len({tuple(tokenizer(text)["input_ids"]) for tokenizer in tokenizers}) == 1


def test_calibration_brings_the_student_nearer_and_declares_ranges(
    mpcify: Callable, model: Path, data: Path, tmp_path: Path
) -> None:
    for name, options in (("raw", ()), ("calibrated", ("--calibration", data))):
        assert mpcify("convert", model, tmp_path / name, "--recipe", "2quad-freediv", *options).code == 0
    values = json.loads((tmp_path / "calibrated" / "config.json").read_text())["mpcify"]
    assert values["calibrated"] is True
    assert values["ranges"]
    arguments = ("--data", data, "--engine", "plain", "--format", "json")
    raw = mpcify("evaluate", tmp_path / "raw", *arguments)
    assert "not calibrated" in raw.err
    assert mpcify("evaluate", tmp_path / "calibrated", *arguments).err == ""
    answers = {
        name: scores(mpcify("infer", tmp_path / name, *arguments).json) for name in ("raw", "calibrated", model.name)
    }
    distance = {name: (answers[name] - answers[model.name]).abs().max() for name in ("raw", "calibrated")}
    assert distance["calibrated"] < distance["raw"] / 2


def scores(answer: dict) -> torch.Tensor:
    """The probability of the label good of every input."""
    return torch.tensor([result["scores"]["good"] for result in answer["results"]])


def test_a_recipe_file(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    recipe = {"attention": ["softmax", "2quad-freediv"], "activation": ["gelu", "quad"]}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    outcome = mpcify("convert", model, tmp_path / "student", "--recipe", tmp_path / "recipe.json", "--format", "json")
    assert outcome.code == 0
    assert AutoConfig.from_pretrained(tmp_path / "student").mpcify["attention"] == recipe["attention"]


@pytest.mark.parametrize(
    "recipe, code",
    [
        ("3quad", 301),
        ("nothing.json", 301),
        ('{"attention": "softmax"', 302),
        ('{"attention": "softmax"}', 302),
        ('{"attention": "softmax", "activation": "gelu", "dropout": 1}', 302),
        ('{"attention": "3quad", "activation": "gelu"}', 302),
        ('{"attention": ["softmax"], "activation": "gelu"}', 303),
    ],
)
def test_a_bad_recipe(mpcify: Callable, model: Path, tmp_path: Path, recipe: str, code: int) -> None:
    if recipe.startswith("{"):
        (tmp_path / "recipe.json").write_text(recipe)
        recipe = str(tmp_path / "recipe.json")
    assert_refused(mpcify("convert", model, tmp_path / "student", "--recipe", recipe), code, tmp_path)


def assert_refused(outcome, code: int, folder: Path) -> None:
    """One numbered line, exit code 2, and no student, whole or half."""
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"MPC-{code} ")
    assert [name for name in names(folder) if "student" in name] == []


def test_weights_that_are_not_finite(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"][0, 0] = float("inf")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    outcome = mpcify("convert", model, tmp_path / "student", "--recipe", "puma")
    assert_refused(outcome, 205, tmp_path)
    assert "classifier.weight" in outcome.err


@pytest.mark.parametrize("change, code", [({"is_decoder": True}, 203), ({"model_type": "gpt2"}, 203)])
def test_a_decoder(mpcify: Callable, model: Path, tmp_path: Path, change: dict, code: int) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    outcome = mpcify("convert", model, tmp_path / "student", "--recipe", "puma")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert [name for name in names(tmp_path) if "student" in name] == []


def test_an_output_that_is_taken(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    outcome = mpcify("convert", model, model, "--recipe", "puma")
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-109 ")


def test_a_disk_that_is_full_leaves_nothing(model: Path, tmp_path: Path) -> None:
    # 20 kB, below the weights and above config.json. By a shell: Python's own way is unsafe in a process with threads
    small_disk = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash"]
    command = [*small_disk, SCRIPT, "convert", model, tmp_path / "student", "--recipe", "puma"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("MPC-109 ")
    assert [name for name in names(tmp_path) if "student" in name] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(model: Path, tmp_path: Path, number: int) -> None:
    command = [SCRIPT, "convert", model, tmp_path / "student", "--recipe", "puma"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not [name for name in names(tmp_path) if "student" in name]:  # the draft is there
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("MPC-902 ")
    assert [name for name in names(tmp_path) if "student" in name] == []
