"""Exported folders: what each role reads, and that all together answer; nothing of torch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcify.engines.plain import PlainEngine
from mpcify.errors import MpcifyError
from mpcify.graph.exported import file_digest, is_exported, read, read_all, write
from mpcify.graph.graph import Graph
from mpcify.graph.index import INDEX, ROLES
from mpcify.inference import PrivateModel
from tests.graph.bags import ABOUT, LENGTHS, Bag, answers, tokenizer


def as_json(graph: Graph) -> str:
    return json.dumps(graph.to_json())


def test_each_role_reads_its_own(written: Path) -> None:
    found = [read(written / role, role) for role in ROLES]
    client, owner, *_ = found
    model = Bag()
    for folder in found:
        assert (folder.about, folder.batch, folder.lengths) == (ABOUT, 2, LENGTHS)
        assert all(as_json(folder.graph(length)) == as_json(model.graph(length)) for length in LENGTHS)
        assert (folder.uncalibrated, folder.public_table, folder.declared) == (True, True, False)
    assert client.table is not None
    assert client.tokenizer is not None
    assert owner.weights is not None
    assert np.array_equal(client.table, model.table)
    assert client.tokenizer.to_str() == tokenizer().to_str()
    assert {name: array.tolist() for name, array in owner.weights.items()} == {
        name: array.tolist() for name, array in model.weights.items()
    }
    assert [one.weights is None for one in found] == [True, False, True, True]
    assert [one.table is None for one in found] == [False, True, True, True]


def test_all_roles_together_answer_as_the_model_does(written: Path) -> None:
    np.testing.assert_array_equal(answers(read_all(written)), answers(Bag(lengths=LENGTHS)))


def test_no_digest_of_a_secret_leaves_its_owner(written: Path) -> None:
    """Whoever guesses the weights could tell by it that he is right."""
    secret = file_digest(written / "owner" / "weights.safetensors")
    assert secret in (written / "owner" / INDEX).read_text()
    table = file_digest(written / "client" / "embeddings.safetensors")
    for role in ("client", "helper", "dealer"):
        text = "".join(path.read_text() for path in (written / role).glob("*.json"))
        assert secret not in text
        assert not any(array.tobytes().hex() in text for array in Bag().weights.values())
    assert not any(table in (written / role / INDEX).read_text() for role in ("helper", "dealer"))


def test_the_owners_folder_is_for_its_owner_alone(written: Path) -> None:
    assert (written / "owner").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (written / "owner").iterdir()} == {0o600}


def test_a_length_that_was_not_exported_names_those_that_were_and_the_command(written: Path) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-405 length 6: .*graphs of 4,8 tokens.*mpcify export .*--length 4,8,6"):
        read_all(written).graph(6)


def test_a_text_goes_to_the_smallest_exported_length_and_is_refused_beyond_the_largest(written: Path) -> None:
    with PrivateModel(read_all(written), PlainEngine()) as private:
        groups = private.groups(["a film", "a a a a a", "good film good film"])
        assert [(group.length, group.places) for group in groups] == [(4, (0, 2)), (8, (1,))]
        with pytest.raises(MpcifyError, match="MPC-106 text 1: it has 9 tokens, at most 8 fit"):
            private(["a " * 9])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_no_other_roles_folder(role: Any, written: Path) -> None:
    for other in set(ROLES) - {role}:
        with pytest.raises(MpcifyError, match=f"MPC-404 .*it is the folder of the {other}, not of the {role}"):
            read(written / other, role)


def test_the_folder_of_one_party_is_no_simulation(written: Path) -> None:
    assert is_exported(written / "client")
    with pytest.raises(MpcifyError, match=r"MPC-404 .*folder of one party.*client, owner, helper, dealer"):
        read_all(written / "client")


@pytest.mark.parametrize("role", ROLES)
def test_a_folder_without_an_index_is_refused_with_the_command_that_mends_it(role: str, out: Path) -> None:
    (out / role / INDEX).unlink()
    assert is_exported(out)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*there is no exported.json.*Do this: .*mpcify export MODEL OUT"):
        read_all(out)


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_role_is_refused(role: str, out: Path) -> None:
    shutil.rmtree(out / role)
    assert is_exported(out)
    with pytest.raises(MpcifyError, match=rf"MPC-404 .*for the {role}\. Do this: export the model again"):
        read_all(out)


def test_other_folders_are_not_exported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert not is_exported(tmp_path)
    assert not is_exported(tmp_path / "none")
    assert not is_exported("me/tiny")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("batch, lengths", [(1, LENGTHS), (2, (4,)), (2, LENGTHS)], ids=["batch", "lengths", "again"])
def test_folders_of_different_exports_do_not_go_together(
    role: str, batch: int, lengths: tuple[int, ...], out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(Bag(batch=batch), lengths, other)
    shutil.rmtree(out / role)
    shutil.copytree(other / role, out / role)
    with pytest.raises(MpcifyError, match=r"MPC-404 .*it is not of the same export as the client's folder"):
        read_all(out)
