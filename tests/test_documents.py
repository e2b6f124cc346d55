"""What the documents say is what the program does."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer

from mpcify.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """The `mpcify` command lines in a page's code blocks, without their comments."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("mpcify ")]


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in commands(page)}))
def test_the_command_line_understands_every_command_shown(line: str) -> None:
    command, name, rest, parent = typer.main.get_command(app), "mpcify", shlex.split(line)[1:], None
    while hasattr(command, "resolve_command"):
        parent = command.make_context(name, rest, parent=parent)
        name, command, rest = command.resolve_command(parent, [*parent._protected_args, *parent.args])
    command.make_context(name, rest, parent=parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tables_of_the_readme_are_those_of_the_committed_results() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.split(script["START"])[1].split(script["END"])[0] == script["tables"]()


def test_the_tables_of_the_performance_page_are_those_of_the_committed_results() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.split(script["START"])[1].split(script["END"])[0] == script["performance"]()


def test_the_table_of_the_peers_page_is_that_of_the_committed_result() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    assert page.split(script["START"])[1].split(script["END"])[0] == script["others"]()


def test_the_tables_of_the_accuracy_page_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    script = runpy.run_path(str(ROOT / "benchmarks" / "accuracy" / "tables.py"))
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    results = script["read"]()
    for (start, end), content in ((script["SUMMARY"], script["summary_of"]), (script["TABLES"], script["tables"])):
        assert page.split(start)[1].split(end)[0] == content(results)


def test_the_tables_of_the_reliability_page_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    script = runpy.run_path(str(ROOT / "benchmarks" / "reliability" / "report.py"))
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    start, end = script["MARKS"]
    assert page.split(start)[1].split(end)[0] == script["tables"]()
