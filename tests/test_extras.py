"""What is not installed: one numbered error that names the extra, in Python and on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpcify.extras import EXTRAS

HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def python(code: str, *hidden: str) -> str:
    """What code prints if some packages are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden) + code], capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_every_name_in_python_says_which_extra_it_needs() -> None:
    code = """
import mpcify
for name in sorted(mpcify.HOMES):
    try:
        getattr(mpcify, name)
    except mpcify.MpcifyError as error:
        print(name, error.code, error.remedy)
"""
    lines = python(code, *EXTRAS).splitlines()
    needing = {"DistillationArguments", "DistillationTrainer", "Finding", "calibrate", "check", "convert", "load"}
    assert {line.split()[0] for line in lines} == {*needing, "connect"}
    for line in lines:
        extra = "parties" if line.startswith("connect") else "train"
        assert line.endswith(f"504 pip install 'mpcify[{extra}]'")


def test_a_checkpoint_is_compiled_with_the_extra_alone(checkpoint) -> None:
    code = f"""
import mpcify
try:
    mpcify.compile({str(checkpoint())!r}, "plain")
except mpcify.MpcifyError as error:
    print(error)
"""
    said = python(code, "torch")
    assert said == "MPC-504 torch: the package is not installed. Do this: pip install 'mpcify[train]'\n"


VERBS = {
    "check": ["MODEL"],
    "convert": ["MODEL", "OUT", "--recipe", "puma"],
    "distill": ["STUDENT", "OUT", "--teacher", "MODEL", "--train", "DATA", "--eval", "DATA"],
    "evaluate": ["MODEL", "--data", "DATA", "--engine", "plain"],
    "infer": ["MODEL", "text", "--engine", "plain"],
    "export": ["MODEL", "OUT"],
    "profile": ["MODEL", "--engine", "plain"],
    "estimate": ["MODEL"],
    "bench": ["--engine", "plain"],
    "demo": [],
}
OF_PARTIES = {
    "keys": ["init", "OUT", "--names", "client,owner"],
    "party": ["serve", "MODEL"],
    "gateway": ["MODEL"],
    "doctor": ["MODEL"],
}
CASES = [
    *((("torch", "transformers"), verb, "train") for verb in VERBS),
    *(((package,), "party", "parties") for package in ("cryptography", "grpc", "prometheus_client", "pydantic")),
    (("cryptography",), "keys", "parties"),
    (("starlette",), "gateway", "parties"),
    (("grpc",), "doctor", "parties"),
    (("pydantic",), "infer --cluster MODEL", "parties"),
    (("transformers",), "check", "train"),
    (("accelerate",), "distill", "train"),
    (("accelerate",), "demo", "train"),
    (("sklearn",), "demo", "demo"),
    (("spu",), "demo", "spu"),
    (("spu",), "infer --engine spu", "spu"),
    (("spu",), "estimate", "spu"),
    (("matplotlib",), "profile --plot bars.png", "plot"),
    (("matplotlib",), "bench --plot bars.png", "plot"),
]


def test_every_verb_says_which_extra_it_needs(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text('{"mpcify": {}}')
    (tmp_path / "data.tsv").write_text("sentence\tlabel\na film\t0\n")
    places = {"MODEL": "model", "STUDENT": "student", "OUT": "out", "DATA": "data.tsv", "bars.png": "bars.png"}
    for hidden, verb, extra in CASES:
        name, *more = verb.split()
        given = {**VERBS, **OF_PARTIES}[name]
        words = [name, *(given[1:] if "--cluster" in more else given), *more]
        words = [str(tmp_path / places[word]) if word in places else word for word in words]
        code = f"from mpcify.cli.main import run; print(run({words!r}))"
        out = python(code, *hidden)
        assert out.startswith("2\n"), out
        assert "MPC-504" in out, out
        assert f"pip install 'mpcify[{extra}]'" in out, out


# what a package is called where it is installed from; spu brings the jax it needs
NAMES = {
    "sklearn": "scikit-learn",
    "jax": "spu",
    "grpc_health": "grpcio-health-checking",
    "prometheus_client": "prometheus-client",
}


@pytest.mark.parametrize("package", sorted(EXTRAS))
def test_the_extra_brings_the_package(package: str) -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = " ".join(project["optional-dependencies"][EXTRAS[package]])
    assert NAMES.get(package, package) in brought
