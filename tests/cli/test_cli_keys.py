"""mpcify keys as a user calls it."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from mpcify.cluster.keys import read_kit

LINE = re.compile(r"MPC-(\d+) .+: .+\. Do this: .+\n")


def test_kits_are_made_added_and_renewed(mpcify: Callable, tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    made = mpcify("keys", "init", kits, "--names", "client,owner", "--format", "json")
    assert (made.code, made.err) == (0, "")
    assert list(made.json) == ["format", "folder", "kits"]
    assert [kit["name"] for kit in made.json["kits"]] == ["client", "owner"]
    ends = datetime.fromisoformat(made.json["kits"][0]["not_after"])
    assert ends == read_kit(kits / "client").not_after
    assert mpcify("keys", "add", kits, "helper").code == 0
    before = read_kit(kits / "owner")
    renewed = mpcify("keys", "renew", kits, "owner", "--format", "json")
    assert renewed.json["kits"][0]["name"] == "owner"
    assert read_kit(kits / "owner") != before


def test_a_partys_key_stays_at_home(mpcify: Callable, tmp_path: Path) -> None:
    kits, mine, signed = tmp_path / "kits", tmp_path / "mine", tmp_path / "signed"
    assert mpcify("keys", "init", kits).code == 0
    asked = mpcify("keys", "csr", mine, "--name", "client", "--format", "json").json
    assert asked["request"] == str(mine / "request.csr")
    answered = mpcify("keys", "sign", kits, asked["request"], signed, "--name", "client", "--format", "json").json
    assert answered["key_sha256"] == asked["key_sha256"]
    people = mpcify("keys", "accept", mine, signed)
    assert (people.code, "client" in people.out) == (0, True)
    assert read_kit(mine, "client").days_left == 364


@pytest.mark.parametrize(
    "words",
    [
        ("init", "kits"),
        ("add", "kits", "owner"),
        ("add", "nowhere", "owner"),
        ("csr", "kits", "--name", "owner"),
        ("sign", "kits", "nothing.csr", "--name", "owner"),
        ("accept", "nowhere", "kits/owner"),
        ("renew", "kits", "dealer"),
        ("init", "new", "--names", "a,A"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_numbered_line(
    words: tuple[str, ...], mpcify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mpcify("keys", "init", "kits").code == 0
    outcome = mpcify("keys", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert LINE.fullmatch(outcome.err)
    assert outcome.err.startswith("MPC-702 ")


@pytest.mark.parametrize(
    "words", [("keys", "mint"), ("keys", "csr", "mine"), ("keys", "sign", "kits"), ("party", "go")]
)
def test_wrong_usage(words: tuple[str, ...], mpcify: Callable) -> None:
    outcome = mpcify(*words)
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-901 ")
    assert f"see mpcify {words[0]}" in outcome.err


@pytest.mark.parametrize(
    "words", [["--help"], ["keys", "--help"], ["keys", "sign", "--help"], ["party", "init", "--help"]]
)
def test_help_imports_nothing_of_keys_or_networks(words: list[str]) -> None:
    heavy = {"cryptography", "grpc", "torch", "jax", "starlette", "uvicorn"}
    code = f"import sys; from mpcify.cli.main import run; run({words!r}); print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: mpcify" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_without_the_extra_it_is_named(mpcify: Callable, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["cryptography"] = None
from mpcify.cli.main import run
sys.exit(run(["keys", "init", {str(tmp_path / "kits")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("MPC-504 cryptography: the package is not installed")
