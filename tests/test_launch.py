"""Whether a process trains with others: what a launcher leaves in the environment, and what only looks like it."""

import socket

import pytest

from mpcify.errors import MpcifyError
from mpcify.launch import Launch, first_to_fail, rank, read_launch

LAUNCHED = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
}


@pytest.fixture
def launched():
    """The environment of the second of two processes, and a launcher that listens."""
    with socket.create_server(("localhost", 0)) as server:
        yield {**LAUNCHED, "MASTER_PORT": str(server.getsockname()[1])}


@pytest.mark.parametrize(
    "environment",
    [{}, {"WORLD_SIZE": "1"}, {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, {"ACCELERATE_MIXED_PRECISION": "no"}],
    ids=str,
)
def test_a_process_alone(environment):
    assert read_launch(environment) == Launch(0, 1)
    assert rank(environment) == 0
    assert first_to_fail(environment)


def test_a_launched_process_knows_its_rank(launched):
    assert read_launch(launched) == Launch(1, 2)
    assert rank(launched) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"WORLD_SIZE": "two"},
        {"WORLD_SIZE": "-1"},
        {"OMPI_COMM_WORLD_SIZE": "4"},
        {"PMI_RANK": "0"},
        {"ACCELERATE_USE_DEEPSPEED": "true"},
        {"ACCELERATE_USE_DEEPSPEED": "yes please"},
        {"ACCELERATE_USE_FSDP": "1"},
        {"ACCELERATE_MIXED_PRECISION": "nonsense"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        {"ACCELERATE_DYNAMO_BACKEND": "inductor"},
        {"ACCELERATE_USE_CPU": "maybe"},
    ],
    ids=str,
)
def test_variables_of_a_run_that_nobody_launched_are_refused_by_name(environment):
    with pytest.raises(MpcifyError, match="MPC-606") as refusal:
        read_launch(environment)
    assert next(iter(environment)) in refusal.value.what
    assert "unset" in refusal.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"RANK": "2"},
        {"RANK": "-1"},
        {"RANK": "one"},
        {"RANK": None},
        {"WORLD_SIZE": "0"},
        {"LOCAL_RANK": None},
        {"MASTER_ADDR": None},
        {"MASTER_PORT": "port"},
        {"MASTER_PORT": "1"},  # nobody listens
        {"TORCHELASTIC_USE_AGENT_STORE": None},
    ],
    ids=str,
)
def test_a_launch_that_does_not_fit_together_is_refused(launched, change):
    with pytest.raises(MpcifyError, match="MPC-606"):
        read_launch({name: value for name, value in {**launched, **change}.items() if value is not None})


def test_of_processes_with_one_parent_the_first_to_fail_speaks(launched, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert [first_to_fail(launched) for _ in range(3)] == [True, False, False]
    assert first_to_fail({**launched, "TORCHELASTIC_RESTART_COUNT": "1"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert first_to_fail(launched), "rather two lines than none"
