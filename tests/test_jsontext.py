import json
from pathlib import Path

import pytest

from mpcify.jsontext import parse_json, read_json


def test_a_value_is_read_as_json_has_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "ä"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "ä"]}
    assert parse_json("[1.5]", parse_float=str) == ["1.5"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "1" * 5000], ids=lambda text: text[:6])
def test_whatever_makes_no_value_is_a_value_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".*") as raised:
        read_json(tmp_path / "a.json")
    assert raised.type in (ValueError, json.JSONDecodeError)
    with pytest.raises(OSError, match="nowhere"):
        read_json(tmp_path / "nowhere.json")
