"""Nothing of an exported folder is used that was not checked."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph import exported
from mpcify.graph.exported import is_exported, read, read_all, write
from mpcify.graph.index import INDEX, ROLES
from mpcify.inference import PrivateModel
from tests.graph.bags import WIDTH, WORDS, Bag, answers, reindex
from tests.locked import locked

FILES = {
    "client": ("graph-4.json", "graph-8.json", "tokenizer.json", "embeddings.safetensors"),
    "owner": ("graph-4.json", "graph-8.json", "weights.safetensors"),
    **dict.fromkeys(("helper", "dealer"), ("graph-4.json", "graph-8.json")),
}
PLACES = [(role, name) for role, names in FILES.items() for name in names]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("role, name", [*PLACES, *((role, INDEX) for role in ROLES)])
@pytest.mark.parametrize("damage", [remove, empty, shorten, lengthen, to_folder, to_pipe])
def test_a_file_that_is_not_as_it_was_written_is_refused(
    damage: Callable[[Path], None], role: str, name: str, out: Path
) -> None:
    damage(out / role / name)
    with pytest.raises(MpcifyError, match="MPC-404"):
        read_all(out)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_byte_that_changed_is_an_error_and_never_an_answer(
    data: st.DataObject, written: Path, tmp_path: Path
) -> None:
    role, name = data.draw(st.sampled_from([*PLACES, *((role, INDEX) for role in ROLES)]))
    content = bytearray((written / role / name).read_bytes())
    place, value = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    if content[place] == value:
        return
    content[place] = value
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    out = Path(shutil.copytree(written, tmp_path / "out"))
    (out / role / name).write_bytes(content)
    with pytest.raises(MpcifyError) as raised:
        answers(read_all(out))
    assert raised.value.code == 404


def change_index(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = json.loads((folder / INDEX).read_text())
        values.update({name: value for name, value in fields.items() if value is not None})
        for name in [name for name, value in fields.items() if value is None]:
            del values[name]
        (folder / INDEX).write_text(json.dumps(values, indent=1) + "\n")

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (change_index(format=2), "format"),
        (change_index(format=True), "format"),
        (change_index(role="other"), "role"),
        (change_index(batch=0), "batch"),
        (change_index(batch=3), "batch of 2"),
        (change_index(batch="2"), "batch"),
        (change_index(lengths=[]), "lengths"),
        (change_index(lengths=[8, 4]), "lengths"),
        (change_index(lengths=[4, 4, 8]), "lengths"),
        (change_index(lengths=[4]), "files"),
        (change_index(lengths=[4, 8, 12]), "lengths"),
        (change_index(lengths=[4, -8]), "lengths"),
        (change_index(uncalibrated=0), "uncalibrated"),
        (change_index(public_table="yes"), "public_table"),
        (change_index(files={}), "lengths"),
        (change_index(files=[]), "files"),
        (change_index(files={"../owner/weights.safetensors": "0" * 64}), "lengths"),
        (change_index(signature="x"), "signature"),
        (change_index(batch=None), "batch is missing"),
    ],
)
def test_an_index_that_says_something_else_is_refused_by_its_field(
    change: Callable[[Path], None], said: str, out: Path
) -> None:
    change(out / "client")
    with pytest.raises(MpcifyError, match=f"MPC-404 .*{said}"):
        read(out / "client", "client")


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000, '{"format": NaN}', "1" * 9000, "\ud800"])
def test_an_index_that_is_no_object_is_refused(text: str, out: Path) -> None:
    (out / "client" / INDEX).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(MpcifyError, match="MPC-404"):
        read(out / "client", "client")


def test_a_file_beyond_the_limit_is_not_read(out: Path) -> None:
    with (out / "client" / INDEX).open("ab") as file:
        file.truncate(1 << 21)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*larger than 1 MiB"):
        read(out / "client", "client")


def test_a_file_that_the_index_does_not_know_is_not_asked_for(out: Path) -> None:
    """Names come from the role, never out of a file; what else lies there is left alone."""
    (out / "client" / "notes.txt").write_text("mine")
    read(out / "client", "client")
    reindex(out / "client")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*files"):
        read(out / "client", "client")


def change_arrays(**arrays: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        found = {**load_file(path), **arrays}
        save_file({name: array for name, array in found.items() if array is not None}, path)

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (change_arrays(w=None), "the array w is missing"),
        (change_arrays(x=np.zeros(2, np.float32)), "no graph reads"),
        (change_arrays(w=np.zeros((WIDTH, 3), np.float32)), r"shape \(6, 3\), not float32 of shape \(6, 2\)"),
        (change_arrays(w=np.zeros((WIDTH, 2), np.float64)), "float64"),
        (change_arrays(b=np.zeros(2, np.float16)), "float16"),
        (change_arrays(b=np.array([0, np.nan], np.float32)), "not finite"),
        (change_arrays(b=np.array([0, np.inf], np.float32)), "not finite"),
        (lambda path: path.write_bytes(b"\xff" * 64), "no safetensors file"),
    ],
)
def test_weights_that_are_not_what_the_graphs_read_are_refused(
    change: Callable[[Path], None], said: str, out: Path
) -> None:
    change(out / "owner" / "weights.safetensors")
    reindex(out / "owner")
    with pytest.raises(MpcifyError, match=f"MPC-404 .*{said}"):
        read(out / "owner", "owner")


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((len(WORDS) - 1, WIDTH), np.float32),
        np.zeros((len(WORDS), WIDTH + 1), np.float32),
        np.zeros((len(WORDS), WIDTH), np.float64),
        np.full((len(WORDS), WIDTH), np.nan, np.float32),
    ],
)
def test_a_table_of_another_model_is_refused(table: np.ndarray, out: Path) -> None:
    save_file({"word_embeddings": table}, out / "client" / "embeddings.safetensors")
    reindex(out / "client")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*word_embeddings"):
        read(out / "client", "client")


@pytest.mark.parametrize("text", ["", "{}", '{"version": "9.0"}', "[" * 1000])
def test_a_tokenizer_that_cannot_be_read_is_refused(text: str, out: Path) -> None:
    (out / "client" / "tokenizer.json").write_text(text)
    reindex(out / "client")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*tokenizer"):
        read(out / "client", "client")


def change_graph(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=1))


def rename(values: dict[str, Any], old: str, new: str) -> None:
    for item in (*values["inputs"], *values["operations"]):
        item["name"] = new if item["name"] == old else item["name"]
        item["inputs"] = [new if name == old else name for name in item.get("inputs", ())]
        if "role" in item:
            del item["inputs"]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda values: values.update(format=2), "format"),
        (lambda values: values.update(length=8), "index says otherwise"),
        (lambda values: values.update(batch=1), "another batch than the graph"),
        (lambda values: values.update(about={}), "does not say what its model is"),
        (lambda values: values["about"].update(model="other"), "of another model"),
        (lambda values: values["about"].update(labels=["a", "b", "c"]), "3 logits"),
        (lambda values: values["about"].update(owner="me"), "owner"),
        (lambda values: values["about"].update(taught={"16": 40}), "taught"),
        (lambda values: values["about"].update(taught=[32, 16]), "taught"),
        (lambda values: values["about"].update(taught=[16]), "of another model"),
        (lambda values: values.update(outputs=["flat"]), "logits"),
        (lambda values: values["operations"][-1].update(kind="reveal"), "kind"),
        (lambda values: values["inputs"][0].update(role="public"), "no client makes"),
        (lambda values: values["inputs"][0].update(role="owner"), "does not read the client's embeddings"),
        (lambda values: values["inputs"][0].update(shape=[2, 9, WIDTH]), "no client makes|wrong"),
        (lambda values: rename(values, "embeddings", "keystrokes"), "no client makes"),
        (lambda values: rename(values, "w", "../w"), "of another model|a name that"),
        (lambda values: values["operations"][0].update(kind="activation", attributes={"activation": "quad"}), ""),
        (lambda values: values.pop("ranges"), "missing"),
    ],
)
def test_a_graph_that_is_not_one_of_the_models_is_refused(
    change: Callable[[dict[str, Any]], Any], said: str, out: Path
) -> None:
    """Whoever writes the index anew too changes nothing: the graph is judged by what it says."""
    change_graph(out / "helper" / "graph-4.json", change)
    reindex(out / "helper")
    with pytest.raises(MpcifyError, match=f"MPC-404 .*({said})"):
        read(out / "helper", "helper")


def test_weights_of_another_shape_at_another_length_are_refused(out: Path) -> None:
    def wider(values: dict[str, Any]) -> None:
        for item in values["inputs"]:
            if item["name"] == "b":
                item["shape"] = [1]

    change_graph(out / "helper" / "graph-8.json", wider)
    reindex(out / "helper")
    with pytest.raises(MpcifyError, match="MPC-404"):
        read(out / "helper", "helper")


@pytest.mark.parametrize("name", ["weights.safetensors", "graph-4.json"])
def test_what_is_used_are_the_bytes_that_have_the_digest(
    name: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes as soon as it has been read is not read again."""
    weights = Bag().owned
    victim, evil = out / "owner" / name, tmp_path / "evil"
    save_file({key: array + 1 for key, array in weights.items()}, evil)
    read_once = exported.read_bytes

    def changing(path: Path, *limits: Any) -> bytes:
        content = read_once(path, *limits)
        if path == victim:
            shutil.copyfile(evil, victim)
        return content

    monkeypatch.setattr(exported, "read_bytes", changing)
    found = read(out / "owner", "owner").weights
    assert found is not None
    assert {key: array.tolist() for key, array in found.items()} == {
        key: array.tolist() for key, array in weights.items()
    }


def test_arrays_larger_than_the_graphs_say_are_not_read(out: Path) -> None:
    with (out / "owner" / "weights.safetensors").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*weights.safetensors: it is larger than 1 MiB"):
        read(out / "owner", "owner")


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it does so between a look at it and its opening."""
    to_pipe(out / "owner" / INDEX)
    monkeypatch.setattr(os.path, "isfile", lambda path: True)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*there is no such file"):
        read(out / "owner", "owner")


def test_a_folder_that_may_not_be_read_and_a_name_that_cannot_be_are_no_tracebacks(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_exported("x" * 5000)
    monkeypatch.setattr(os, "access", lambda path, mode: path != out / "owner")  # the tests may run as root
    with pytest.raises(MpcifyError, match=r"MPC-404 .*owner: you may not read it.*as the user of the owner"):
        read_all(out)


def test_a_tokenizer_that_panics_is_refused(out: Path) -> None:
    values = json.loads((out / "client" / "tokenizer.json").read_text())
    values["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (out / "client" / "tokenizer.json").write_text(json.dumps(values))
    reindex(out / "client")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*the tokenizer cannot be read"):
        read(out / "client", "client")


def test_a_text_beyond_the_largest_exported_length_says_that_a_larger_one_can_be_exported(out: Path) -> None:
    shutil.rmtree(out)
    out.mkdir()
    write(Bag(), (4,), out)
    with (
        PrivateModel(read_all(out), PlainEngine()) as private,
        pytest.raises(MpcifyError, match=r"MPC-106 text 1: it has 5 tokens, at most 4 fit.*export a larger --length"),
    ):
        private(["a " * 5])


def test_parties_in_a_folder_that_one_may_not_enter_are_named(out: Path) -> None:
    with locked(out.parent), pytest.raises(MpcifyError, match=r"MPC-404 .*you may not read it.* as the user"):
        read_all(out)
