"""Streams that are closed, cut off or of another encoding, signals, and names that look like markup."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpcify.cli import verb
from mpcify.cli.verb import Answer, Format, json_line, rendered, table

MPCIFY = "import sys; from mpcify.cli import main; {patch}\nsys.argv[0] = 'mpcify'; main.main()"
ANSWER = """
import types, mpcify.cli.check as v
c, d = (types.ModuleType("stands in for what imports torch") for _ in range(2))
sys.modules["mpcify.lowering.check"], sys.modules["mpcify.conversion.check"] = c, d
c.check = lambda name: []
d.identify = lambda name: ({family!r} * {times}, None)
v.check_model = lambda name: None
"""


def shell(words: str, times: int = 1, patch: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`mpcify check` on a model without findings, in a shell: words end the command line."""
    code = MPCIFY.format(patch=ANSWER.format(family="é", times=times) + patch)
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {words}', sys.executable, code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        encoding="latin-1" if environment.get("PYTHONIOENCODING") == "latin-1" else "utf-8",
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8", "ascii:strict"])
def test_an_answer_is_printed_in_any_encoding(encoding: str) -> None:
    done = shell("check 电影 --format json", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["model"] == "电影"
    people = shell("check 电影", PYTHONIOENCODING=encoding)
    assert (people.returncode, people.stderr) == (0, "")
    assert ("电影" if encoding == "utf-8" else r"\u7535\u5f71") in people.stdout


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("check m >&-", 2, "MPC-109 stdout"),
        ("check m 2>&-", 0, ""),
        ("check m >&- 2>&- <&-", 2, ""),
        ("check m --format xml 2>&-", 2, ""),
        ("check m > /dev/full", 2, "MPC-109 "),
        ("--help >&-", 0, ""),
        ("--help > /dev/full", 2, "MPC-109 "),
    ],
)
def test_a_closed_or_full_stream_is_an_exit_code_as_documented(words: str, code: int, line: str) -> None:
    done = shell(words)
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == bool(line)


@pytest.mark.parametrize("words", ["check m --format json", "check m", "--help"])
def test_a_reader_that_went_away_is_one_numbered_line(words: str) -> None:
    done = shell(f"{words} | true; exit ${{PIPESTATUS[0]}}", times=100_000)
    assert done.returncode in (0, 2)  # 0 if all was written before the reader went
    assert done.stderr.startswith("MPC-109 output: its reader went away") or done.returncode == 0
    assert done.stderr.count("\n") == done.returncode / 2


def test_a_log_whose_reader_went_away_changes_no_exit_code() -> None:
    done = shell("check m --format xml 2> >(true); exit $?")
    assert (done.returncode, done.stdout) == (2, "")


def test_nobody_needs_a_home_or_a_temporary_folder() -> None:
    done = shell("check m --format json", HOME="/nonexistent", TMPDIR="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_any_temporary_folder_the_error_has_its_number() -> None:
    patch = "\nc.check = lambda name: __import__('tempfile').mkdtemp()\n"
    patch += "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nonexistent']"
    done = shell("check m", patch=patch)
    assert (done.returncode, done.stderr[:8], done.stderr.count("\n")) == (2, "MPC-109 ", 1)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_more_interrupts_break_no_cleaning_up(first: int, tmp_path: Path) -> None:
    patch = f"""
import time
def work(name):
    try:
        open({str(tmp_path / "working")!r}, "w").close()
        time.sleep(60)
    finally:
        open({str(tmp_path / "cleaning")!r}, "w").close()
        time.sleep(1)
        open({str(tmp_path / "clean")!r}, "w").close()
c.check = work
"""
    code = MPCIFY.format(patch=ANSWER.format(family="", times=1) + patch)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "check", "m"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for name, number in (("working", first), ("cleaning", signal.SIGINT), ("cleaning", signal.SIGTERM)):
        while not (tmp_path / name).exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        time.sleep(0.1)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("MPC-902 mpcify check: interrupted")
    assert (tmp_path / "clean").exists()


MARKUP = ["models[v2]", "[/bold]", "[red]x[/red]", "[link=file:///x]", ":smile:", "[[a]]", r"\[b]", "a]b["]


@pytest.mark.parametrize("name", MARKUP)
def test_no_name_is_read_as_markup(name: str) -> None:
    made = table(name, (name, ""), [(name, "cell")])
    assert rendered(made).count(name) == 3
    assert rendered(f"{name}: done") == f"{name}: done\n"
    assert json.loads(json_line(Answer({"model": name}, name)))["model"] == name


@pytest.mark.parametrize("name", ["student[v2]", "[/bold]x", ":smile:"])
def test_a_student_is_written_under_any_name(
    name: str, mpcify: Callable, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = mpcify("convert", model, name, "--recipe", "2quad-freediv")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{name}: 2quad-freediv")
    answer = mpcify("infer", name, "[a] good :film: [/film]", "--engine", "plain")
    assert "[a] good :film: [/film]" in answer.out
    wrong = mpcify("check", f"{name}/[red]none")
    assert f"{name}/[red]none" in wrong.err
    usage = mpcify("check", "m", f"--{name}")
    assert usage.code == 2
    assert name in usage.err


def test_a_text_that_is_no_unicode_is_escaped_in_json() -> None:
    assert json.loads(json_line(Answer({"input": "\udcff"}, ""))) == {"format": 1, "input": "\udcff"}


def test_an_answer_for_people_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    verb.present(Answer({}, "done"), Format.text)
    assert capsys.readouterr().out == "done\n"


INTERRUPTED = """
import os, sys
sys.argv[0] = "mpcify"
sys.addaudithook(lambda event, given: event == "import" and given[0] == "typer" and os.kill(os.getpid(), {number}))
from mpcify.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_before_the_command_line_is_imported_is_a_numbered_line(number: int) -> None:
    words = [sys.executable, "-c", INTERRUPTED.format(number=int(number)), "check", "m"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("MPC-902 mpcify: interrupted before the end. Do this: ")
