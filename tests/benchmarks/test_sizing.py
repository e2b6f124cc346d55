"""The page on scale shows the committed sizing."""

import json
from pathlib import Path

from benchmarks.reliability.sizing import table
from benchmarks.verbs import RESULTS


def test_the_table_of_the_page_is_that_of_the_committed_result() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "scale.md"
    result = json.loads((RESULTS / "reliability" / "sizing.json").read_text(encoding="utf-8"))
    assert table(result) in page.read_text(encoding="utf-8")
