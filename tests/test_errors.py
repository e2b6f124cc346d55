"""The table of codes, the pages and the code agree: one number means one thing everywhere."""

import ast
import re
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
