"""mpcify export: one folder a party, whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpcify.graph.index import ROLES


def files(folder: Path) -> set[str]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_each_party_gets_what_it_needs(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = mpcify("export", model, out, "--length", "16,32", "--embeddings", "one-hot", "--format", "json")
    assert (outcome.code, outcome.json["graphs"]) == (0, ["graph-16.json", "graph-32.json"])
    graphs = {f"{party}/graph-{length}.json" for party in ROLES for length in (16, 32)}
    indices = {f"{party}/exported.json" for party in ROLES}
    assert files(out) == graphs | indices | {"owner/weights.safetensors", "client/tokenizer.json"}


def test_a_fine_tuned_table_goes_to_a_client_only_when_accepted(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    refused = mpcify("export", model, tmp_path / "out", "--length", "16")
    assert (refused.code, refused.err[:8]) == (2, "MPC-403 ")
    assert not (tmp_path / "out").exists()
    assert mpcify("export", model, tmp_path / "out", "--length", "16", "--accept-embedding-leak").code == 0
    assert "client/embeddings.safetensors" in files(tmp_path / "out")


@pytest.mark.parametrize("length, code", [("64", 405), ("1", 405), ("16,x", 901), ("", 405)])
def test_a_length_that_does_not_fit(mpcify: Callable, model: Path, tmp_path: Path, length: str, code: int) -> None:
    outcome = mpcify("export", model, tmp_path / "out", "--length", length, "--embeddings", "one-hot")
    assert (outcome.code, outcome.err[:8]) == (2, f"MPC-{code} ")
    assert not (tmp_path / "out").exists()


def test_what_stands_there_already_stays(mpcify: Callable, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    outcome = mpcify("export", model, tmp_path / "out", "--length", "16", "--embeddings", "one-hot")
    assert (outcome.code, outcome.err[:8]) == (2, "MPC-109 ")
    assert files(tmp_path / "out") == {"mine"}
