"""What is certain to fail is said before torch is imported: on a busy machine that alone takes half a minute."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpcify.cli import early
from mpcify.errors import MpcifyError

RUN = """
import contextlib, io, json, sys
from mpcify.cli.main import run
for words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = run(words)
    print(json.dumps([code, said.getvalue(), sorted({"torch", "transformers", "jax"} & sys.modules.keys())]))
"""
ROW = dict.fromkeys(("recipe", "engine", "protocol", "ring", "length", "batch", "layers"))  # of a bench, without a cost
TRAIN = "--teacher MODEL --train DATA --eval DATA"
CASES = {
    "check /no/such/model": 201,
    "check nothing": 201,
    "check EMPTY": 202,
    "check DATA": 202,
    "check BROKEN": 202,
    "check NESTED": 202,
    "convert MODEL TAKEN --recipe puma": 109,
    "convert MODEL DATA --recipe puma": 109,
    "convert MODEL out --recipe pumma": 301,
    "convert MODEL out --recipe none.json": 301,
    "convert MODEL out --recipe DEEP": 302,
    "convert MODEL out --recipe puma --calibration none.tsv": 101,
    "convert ./none out --recipe puma": 201,
    f"distill STUDENT out {TRAIN} --train none.tsv": 101,
    f"distill STUDENT out {TRAIN} --eval COLUMNS": 103,
    f"distill STUDENT TAKEN {TRAIN}": 109,
    f"distill MODEL out {TRAIN}": 207,
    f"distill STUDENT out {TRAIN} --teacher ./none": 201,
    f"distill STUDENT out {TRAIN} --base EMPTY": 202,
    f"distill STUDENT out {TRAIN} --resume": 601,
    f"distill STUDENT out {TRAIN} --epochs -1": 901,
    f"distill STUDENT out {TRAIN} --epochs inf": 901,
    f"distill STUDENT out {TRAIN} --lr nan": 901,
    f"distill STUDENT out {TRAIN} --device quantum": 901,
    "evaluate MODEL --data none.tsv": 101,
    "evaluate MODEL --data COLUMNS": 103,
    "evaluate MODEL --data UNLABELLED --engine plain": 103,
    "evaluate MODEL --data DATA --answers DATA": 109,
    "evaluate MODEL --data DATA --compare ./none": 201,
    "evaluate MODEL --data DATA --engine quantum": 501,
    "infer MODEL text --engine nonsense": 501,
    "infer MODEL text --protocol aby4": 501,
    "infer MODEL text --protocol semi2k": 502,
    "infer MODEL text --ring 65": 501,
    "infer MODEL text --fraction-bits 40": 501,
    "infer MODEL text --embeddings secret": 501,
    "infer MODEL text --length 1": 901,
    "infer ./none text": 201,
    "infer MODEL --data none.tsv": 101,
    "infer MODEL BLANK": 105,
    "export STUDENT TAKEN": 109,
    "export STUDENT out --length 64,x": 901,
    "export STUDENT out --length 64,1": 405,
    "export STUDENT out --embeddings secret": 501,
    "profile MODEL --plot bars.gif": 901,
    "profile MODEL --plot none/bars.png": 109,
    "profile MODEL --engine plain --ring 64": 501,
    "estimate MODEL --network moon": 501,
    "estimate MODEL --protocol cheetah": 501,
    "estimate MODEL --ring 48": 501,
    "estimate MODEL --calibration none/speed.json": 109,
    "bench --shape gpt": 501,
    "bench --shape MODEL --layers 1": 501,
    "bench --shape minilm --layers 7": 501,
    "bench --recipes puma,pumma": 301,
    "bench --length 900": 405,
    "bench --length 64,": 901,
    "bench --length 1": 405,
    "bench --ring many": 901,
    "bench --engine quantum,spvm": 501,
    "bench --baseline none.json": 101,
    "bench --baseline DATA": 110,
    "bench --baseline DEEP": 110,
    "bench --baseline COSTLESS": 110,
    "bench --out none/bench.json": 109,
    "demo --keep TAKEN": 109,
    "demo --report none/demo.json": 109,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, output, and which heavy packages were imported by then, of every case: all in one Python."""
    folder = tmp_path_factory.mktemp("early")
    files = {
        "MODEL": ("model/config.json", "{}"),
        "STUDENT": ("student/config.json", '{"mpcify": {}}'),
        "BROKEN": ("broken/config.json", "{"),
        "NESTED": ("nested/config.json", "[" * 100_000),
        "DEEP": ("deep.json", "[" * 100_000),
        "COSTLESS": ("costless.json", json.dumps({"format": 1, "rows": [ROW]})),
        "TAKEN": ("taken/file", ""),
        "DATA": ("data.tsv", "sentence\tlabel\na film\t0\nthe film\t1\n"),
        "COLUMNS": ("columns.tsv", "text\tlabel\na film\t0\n"),
        "UNLABELLED": ("unlabelled.tsv", "sentence\na film\n"),
    }
    places = {"BLANK": "  ", "EMPTY": str(folder / "empty")}
    (folder / "empty").mkdir()
    for name, (path, text) in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
        places[name] = str(folder / path.split("/")[0])
    words = [[places.get(word, word) for word in case.split()] for case in CASES]
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(words), capture_output=True, text=True, cwd=folder, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "out").exists()
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_numbered_line_before_torch_is_there(case: str, outcomes: dict) -> None:
    code, said, imported = outcomes[case]
    assert (code, said.count("\n"), imported) == (2, 1, [])
    assert said.startswith(f"MPC-{CASES[case]} ")


def test_a_run_left_unfinished_is_found_before_torch_is_there(tmp_path: Path, mpcify: Callable) -> None:
    checkpoint = tmp_path / "out-training" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (tmp_path / "out-training" / "distillation.json").write_text("{}")
    (tmp_path / "data.tsv").write_text("sentence\na film\n")
    data = tmp_path / "data.tsv"
    outcome = mpcify("distill", "s", tmp_path / "out", "--teacher", "t", "--train", data, "--eval", data)
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-601 ")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_config.json", "merge_and_unload"),
        ("pytorch_model.bin", "pickle"),
        ("tokenizer.json", "no model"),
        ("model.onnx", "other software"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_named_by_what_it_holds(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(MpcifyError, match=rf"^MPC-202 .*{said}"):
        early.check_model(str(tmp_path))
