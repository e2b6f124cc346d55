"""The table of codes, the pages and the code agree: one number means one thing everywhere."""

import ast
import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpcify.errors import CODES, MpcifyError

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## MPC-(\d+) (.+)$", re.MULTILINE)


def raised() -> dict[int, set[str]]:
    """Every literal code given to MpcifyError in the source, with the files that do."""
    found: dict[int, set[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("MpcifyError"), args=[ast.Constant(int(code)), *_]):
                    found.setdefault(code, set()).add(path.name)
    return found


def entries() -> dict[int, tuple[str, str]]:
    """Title and text of every entry of the reference page, by code."""
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    parts = HEADING.split(page)[1:]
    assert len(parts) // 3 == len(set(parts[::3])), "a code has two entries"
    return {int(code): (title, text) for code, title, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def test_every_code_has_a_page_under_its_own_title() -> None:
    assert {code: title for code, (title, _) in entries().items()} == CODES


@pytest.mark.parametrize("code", CODES)
def test_every_page_says_what_when_and_what_to_do(code: int) -> None:
    _, text = entries()[code]
    assert [word for word in ("What: ", "When: ", "Do: ") if word not in text] == []


def test_every_code_is_raised_somewhere_and_no_other() -> None:
    assert set(raised()) == set(CODES)


def test_a_code_outside_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match="999"):
        MpcifyError(999, "here", "nothing", "nothing")


def test_an_error_is_one_line_with_number_place_and_remedy() -> None:
    assert str(MpcifyError(101, "dev.tsv", "it is\nnot there", "check\nthe path")) == (
        "MPC-101 dev.tsv: it is not there. Do this: check the path"
    )


ERROR = MpcifyError(101, "dev.tsv", "it is not there", "check the path")


@pytest.mark.parametrize("twin", [copy.copy(ERROR), copy.deepcopy(ERROR)], ids=["copy", "deepcopy"])
def test_a_copy_of_an_error_is_the_same_error(twin: MpcifyError) -> None:
    assert (type(twin), vars(twin), str(twin)) == (MpcifyError, vars(ERROR), str(ERROR))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_an_error_comes_back_whole_from_a_process(start: str, tmp_path: Path) -> None:
    """In a Python of its own: a pool that cannot read an error waits for it for ever."""
    (tmp_path / "work.py").write_text("import mpcify\ndef fail(_): raise mpcify.MpcifyError(101, 'a', 'b', 'c')\n")
    code = f"""
import concurrent.futures, multiprocessing, sys, warnings
sys.path.insert(0, {str(tmp_path)!r})
import mpcify, work
warnings.simplefilter("ignore")
if __name__ == "__main__":
    context = multiprocessing.get_context({start!r})
    with context.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        for call in (lambda: pool.map(work.fail, [0]), lambda: executor.submit(work.fail, 0).result()):
            try:
                call()
            except mpcify.MpcifyError as error:
                print(error.code, error)
"""
    (tmp_path / "main.py").write_text(code)
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "101 MPC-101 a: b. Do this: c\n" * 2, done.stderr
