import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from mpcify.conversion.convert import convert, load_model
from mpcify.conversion.facts import longest_text, table_digest, word_table
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.graph.kinds import KINDS
from mpcify.lowering.export import describe, export_folder, export_graph


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def source(checkpoint):
    return checkpoint("bert")


@pytest.fixture
def student(source):
    return convert(load_model(source), "2quad-freediv")


def make_public(student):
    student.config.mpcify["base"] = {"name": "base", "sha256": table_digest(word_table(student))}


def test_each_party_gets_what_it_needs_and_nothing_else(student, source, tmp_path):
    make_public(student)
    export_folder(student, source, tmp_path / "out", [16, 32])
    graphs = ["graph-16.json", "graph-32.json"]
    assert files(tmp_path / "out" / "client") == sorted(
        [*graphs, "embeddings.safetensors", "exported.json", "tokenizer.json"]
    )
    assert files(tmp_path / "out" / "owner") == sorted([*graphs, "exported.json", "weights.safetensors"])
    for third in ("helper", "dealer"):
        assert files(tmp_path / "out" / third) == sorted([*graphs, "exported.json"])


def test_the_clients_tokenizer_is_the_checkpoints(student, source, tmp_path):
    make_public(student)
    export_folder(student, source, tmp_path / "out", [16])
    ours, theirs = (folder / "tokenizer.json" for folder in (tmp_path / "out" / "client", source))
    assert json.loads(ours.read_text()) == json.loads(theirs.read_text()), "the proof's truncation is not the client's"


def test_one_set_of_weights_serves_every_length(student, source, tmp_path):
    make_public(student)
    export_folder(student, source, tmp_path / "out", [16, 32])
    weights = load_file(tmp_path / "out" / "owner" / "weights.safetensors")
    for length in (16, 32):
        graph = Graph.read(tmp_path / "out" / "owner" / f"graph-{length}.json")
        assert {item.name: item.shape for item in graph.held_by("owner")} == {k: v.shape for k, v in weights.items()}
        _, own = export_graph(student, 1, length, graph.about)
        assert all(np.array_equal(own[name], value) for name, value in weights.items())


def test_no_secret_reaches_another_party_than_the_owner(student, source, tmp_path):
    """No number of the weights stands in a file of another party."""
    make_public(student)
    export_folder(student, source, tmp_path / "out", [16])
    weights = load_file(tmp_path / "out" / "owner" / "weights.safetensors")
    secret = {f"{abs(float(number)):.5f}" for value in weights.values() for number in value.ravel()[:50]} - {"0.00000"}
    for party in ("client", "helper", "dealer"):
        numbers = json.loads(
            (tmp_path / "out" / party / "graph-16.json").read_text(), parse_float=lambda x: f"{abs(float(x)):.5f}"
        )
        assert not secret & set(leaves(numbers["operations"]))


def test_a_position_bias_is_the_owners_alone(checkpoint, tmp_path):
    folder = checkpoint("mpnet")
    export_folder(
        convert(load_model(folder), "2quad-freediv"), folder, tmp_path / "out", [16, 32], accept_embedding_leak=True
    )
    weights = load_file(tmp_path / "out" / "owner" / "weights.safetensors")
    assert {name: value.shape for name, value in weights.items() if "attn.bias" in name} == {
        f"layer.{layer}.attention.attn.bias": (4, 75) for layer in (0, 1)
    }
    assert list(load_file(tmp_path / "out" / "client" / "embeddings.safetensors")) == ["word_embeddings"]
    for length in (16, 32):
        graph = Graph.read(tmp_path / "out" / "client" / f"graph-{length}.json")
        assert {item.name for item in graph.held_by("client")} == {"embeddings", "share"}
        assert weights.keys() == {item.name for item in graph.held_by("owner")}


def test_ranges_hold_what_the_owner_alone_knows_at_every_length(checkpoint, tmp_path, declare):
    """A bias between far tokens is declared although no calibration text was so long."""
    folder = checkpoint("mpnet")
    student = convert(load_model(folder), "2quad-freediv")
    table = student.mpnet.encoder.relative_attention_bias.weight
    table.data[11:13] = -900.0  # distances from 23 on
    declare(student, folder, ["the film is good"])
    graph, weights = export_graph(student, 1, 38, describe(student, folder, "client"))
    far = min(float(value.min()) for name, value in weights.items() if name.endswith("attn.bias"))
    (name,) = [item.name for item in graph.operations if item.name == "layer.0.attention.attn.bias.scores"]
    assert graph.ranges[name]["value"][0] <= far < -40, "900 times g, which is 0.05"
    short, _ = export_graph(student, 1, 16, describe(student, folder, "client"))
    assert short.ranges[name]["value"][0] > -1


def leaves(values):
    if isinstance(values, dict):
        return [leaf for value in values.values() for leaf in leaves(value)]
    if isinstance(values, list):
        return [leaf for value in values for leaf in leaves(value)]
    return [values]


def test_a_private_table_is_not_given_to_clients(student, source, tmp_path):
    with pytest.raises(MpcifyError, match=r"MPC-403 .*not recorded as public.*--base"):
        export_folder(student, source, tmp_path / "out", [16])
    assert not (tmp_path / "out").exists()


def test_a_table_that_changed_since_it_was_recorded_is_private(student, source, tmp_path):
    make_public(student)
    student.get_input_embeddings().weight.data[0, 0] += 1e-6
    with pytest.raises(MpcifyError, match="MPC-403"):
        export_folder(student, source, tmp_path / "out", [16])


def test_its_leak_may_be_accepted_or_the_table_kept_secret(student, source, tmp_path):
    export_folder(student, source, tmp_path / "leak", [16], accept_embedding_leak=True)
    assert "embeddings.safetensors" in files(tmp_path / "leak" / "client")
    export_folder(student, source, tmp_path / "kept", [16], embeddings="one-hot")
    assert "embeddings.safetensors" not in files(tmp_path / "kept" / "client")
    assert "word_embeddings" in load_file(tmp_path / "kept" / "owner" / "weights.safetensors")


def test_a_folder_in_use_is_left_alone(student, source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(MpcifyError, match="MPC-109"):
        export_folder(student, source, tmp_path / "out", [16], accept_embedding_leak=True)
    assert files(tmp_path).count("out/mine.txt") == 1


def test_an_interrupted_export_leaves_nothing(student, source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpcify.graph.exported.save_file", full)
    with pytest.raises(MpcifyError, match=r"MPC-109 .*No space left"):
        export_folder(student, source, tmp_path / "out", [16], accept_embedding_leak=True)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


@pytest.mark.parametrize("family, longest", [("bert", 40), ("roberta", 39), ("distilbert", 40), ("mpnet", 38)])
def test_a_length_over_the_positions_is_refused(family, longest, checkpoint):
    folder = checkpoint(family)
    student = convert(load_model(folder), "2quad-freediv")
    assert longest_text(student) == longest
    with pytest.raises(MpcifyError, match="MPC-405"):
        export_graph(student, 1, longest + 1, describe(student, folder, "client"))
    export_graph(student, 1, longest, describe(student, folder, "client"))


def test_a_graph_survives_its_file(student, source, tmp_path):
    graph, _ = export_graph(student, 2, 16, describe(student, source, "client"))
    ranges = {item.name: dict.fromkeys(KINDS[item.kind].quantities, (-1.0, 2.0)) for item in graph.operations}
    graph = graph.with_ranges(ranges)
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(graph.to_json()))
    assert json.loads(json.dumps(Graph.read(path).to_json())) == json.loads(path.read_text())


@pytest.mark.parametrize("damage", ["format", "kind", "cycle", "cut"])
def test_a_damaged_graph_is_refused(damage, student, source, tmp_path):
    values = export_graph(student, 1, 16, describe(student, source, "client"))[0].to_json()
    values = json.loads(json.dumps(values))
    if damage == "format":
        values["format"] = 2
    elif damage == "kind":
        values["operations"][0]["kind"] = "reveal"
    elif damage == "cycle":
        values["operations"].reverse()
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(values)[: 100 if damage == "cut" else None])
    with pytest.raises(MpcifyError, match="MPC-404"):
        Graph.read(path)


def test_unknown_embeddings_are_refused_and_nothing_written(student, source, tmp_path):
    with pytest.raises(MpcifyError, match="MPC-501"):
        export_folder(student, source, tmp_path / "out", [16], embeddings="Client")
    assert not (tmp_path / "out").exists()


def test_one_hot_rows_have_a_declared_range(student, source):
    student.config.mpcify["ranges"] = {"logits": {"value": [-1, 1]}}
    graph, weights = export_graph(student, 1, 16, describe(student, source, "one-hot"))
    table = weights["word_embeddings"]
    least, largest = graph.ranges["embeddings"]["product"]
    assert least <= table.min() < least / 2**0.25, "rounded outwards, to a quarter octave"
    assert largest / 2**0.25 < table.max() <= largest


@pytest.mark.parametrize(
    "ranges",
    [
        ["logits"],
        {"logits": 3},
        {"logits": {"value": "low"}},
        {"logits": {"value": [1]}},
        {"x": {"v": [2, 1]}},
        {"x": {"v": [0, 10**400]}},
    ],
)
def test_what_is_not_ranges_is_refused(student, source, ranges):
    student.config.mpcify["ranges"] = ranges
    with pytest.raises(MpcifyError, match=r"MPC-202 config.json: the ranges .* are not ranges"):
        export_graph(student, 1, 16, describe(student, source, "client"))


def test_what_stands_beside_a_model_of_the_hub_is_found(source, tmp_path):
    """In the hub's own cache, without a network."""
    cached = tmp_path / "cache" / "models--me--tiny"
    shutil.copytree(source, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    words = ["convert", "me/tiny", "out", "--recipe", "mpcformer"]
    code = f"from mpcify.cli.main import run; raise SystemExit(run({words}))"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert {"tokenizer.json", "config.json", "model.safetensors"} <= set(files(tmp_path / "out"))


def test_every_party_reads_that_a_simulated_run_protects_nothing(student, source, tmp_path):
    make_public(student)
    export_folder(student, source, tmp_path / "out", [16])
    for party in ("client", "owner", "helper", "dealer"):
        notice = Graph.read(tmp_path / "out" / party / "graph-16.json").about.notice
        assert "simulates all parties on one machine protects nothing" in notice
