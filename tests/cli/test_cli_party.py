"""mpcify party init as a user calls it: from a student to a folder a party."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.thin.config import read_thin
from mpcify.engines.config import ENGINES
from mpcify.graph.exported import write
from tests.cluster.deployments import DealtConfig
from tests.graph.bags import LENGTHS, Bag


@pytest.fixture
def sources(mpcify: Callable, tmp_path: Path) -> tuple[Path, Path]:
    """What `export` and `keys init` write."""
    (parties := tmp_path / "parties").mkdir()
    write(Bag(), LENGTHS, parties)
    assert mpcify("keys", "init", tmp_path / "kits", "--names", "client,owner,helper,dealer").code == 0
    return parties, tmp_path / "kits"


def test_a_model_and_kits_become_a_folder_a_party(mpcify: Callable, sources: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("--owner", "owner:7000", "--helper", "helper:7000", "--ring", 32, "--force")
    outcome = mpcify("party", "init", *sources, tmp_path / "deployment", *words, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    engine = outcome.json["engine"]
    assert outcome.json == {
        "format": 1,
        "out": str(tmp_path / "deployment"),
        "parties": ["client", "owner", "helper"],
        "thin": False,
        "keys_missing": [],
        "lengths": list(LENGTHS),
        "engine": engine,
    }
    for role in outcome.json["parties"]:
        assert read_deployment(tmp_path / "deployment" / role, role).engine.to_json() == engine
    assert (engine["ring"], engine["force"]) == (32, True)


def test_another_engine_has_another_third_party(
    mpcify: Callable, sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "dealt", DealtConfig)
    words = ("--owner", "owner:7000", "--dealer", "dealer:7000", "--engine", "dealt")
    outcome = mpcify("party", "init", *sources, tmp_path / "deployment", *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "client, owner, dealer. Copy each to its own machine" in outcome.out
    assert {path.name for path in (tmp_path / "deployment").iterdir()} == {"client", "owner", "dealer"}


def test_if_inputs_are_delegated_a_thin_client_has_a_folder_too(
    mpcify: Callable, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    out, urls = tmp_path / "deployment", ("https://delegate.example", "https://owner.example")
    words = ("--engine", "ring", "--inputs", "delegated", "--force", "--owner", "o:1", "--dealer", "d:1")
    outcome = mpcify("party", "init", *sources, out, *words, "--thin-delegate", urls[0], "--thin-owner", urls[1])
    assert (outcome.code, outcome.err) == (0, "")
    assert "client, owner, dealer, thin. Copy each to its own machine" in outcome.out
    config = read_thin(out / "thin").config
    assert (str(config.delegate), str(config.owner)) == tuple(f"{url}:443" for url in urls)
    for verb, words in (("gateway", ("--canary", "known.jsonl")), ("gateway", ("--port", "0")), ("party", ())):
        folder = out / ("client" if "--canary" in words else "thin")
        outcome = mpcify(verb, *(("serve",) if verb == "party" else ()), folder, *words)
        assert (outcome.code, outcome.err[:7]) == (2, "MPC-901" if "--canary" in words else "MPC-701")


def test_people_are_told_whose_key_is_missing(mpcify: Callable, sources: tuple[Path, Path], tmp_path: Path) -> None:
    (sources[1] / "client" / "key.pem").unlink()
    words = ("--owner", "o:1", "--protocol", "cheetah", "--force")
    outcome = mpcify("party", "init", *sources, tmp_path / "deployment", *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "client, owner. Copy each to its own machine" in outcome.out
    assert f"The client puts its key.pem into {tmp_path / 'deployment' / 'client' / 'kit'}" in outcome.out


@pytest.mark.parametrize(
    "words, code",
    [
        (("--owner", "o:1"), 701),
        (("--owner", "o:1", "--helper", "h"), 701),
        (("--owner", "o:1", "--engine", "plain"), 701),
        (("--owner", "o:1", "--dealer", "d:1"), 701),
        (("--owner", "o:1", "--helper", "h:1", "--dealer", "d:1"), 701),
        (("--owner", "o:1", "--helper", "h:1", "--engine", "ring"), 701),
        (("--owner", "o:1", "--helper", "h:1", "--dealer", "d:1", "--engine", "ring"), 701),
        (("--owner", "o:1", "--helper", "h:1", "--protocol", "cheetah", "--force"), 701),
        (("--owner", "o:1", "--protocol", "semi2k", "--force"), 502),
        (("--owner", "o:1", "--helper", "h:1"), 406),
        (("--owner", "o:1", "--helper", "h:1", "--inputs", "delegated"), 501),
        (("--owner", "o:1", "--helper", "h:1", "--force", "--thin-owner", "https://o"), 701),
        (("--owner", "o:1", "--helper", "h:1", "--protocol", "none"), 501),
        (("--owner", "o:1", "--helper", "h:1", "--length", "4"), 901),
    ],
)
def test_what_cannot_be_done_is_one_numbered_line(
    words: tuple[str, ...], code: int, mpcify: Callable, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = mpcify("party", "init", *sources, tmp_path / "out", *words)
    assert (outcome.code, outcome.out, outcome.err[:8]) == (2, "", f"MPC-{code} ")
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
