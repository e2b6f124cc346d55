"""The child's requests, without SPU: roles act at once, and the first cause of a failure is what is reported."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpcify.engines.cost import Cost
from mpcify.engines.spu.failure import failure
from mpcify.engines.spu.worker import Worker, combined
from mpcify.errors import MpcifyError
from mpcify.network.memory import connect

ROLES = ("client", "owner", "helper")


@pytest.fixture
def worker() -> Worker:
    """A worker with links and threads, and no seats."""
    made = Worker()
    made.links, made.threads = connect(ROLES), ThreadPoolExecutor(3)
    return made


def test_roles_act_at_once_and_their_results_carry_their_names(worker: Worker) -> None:
    barrier = threading.Barrier(3, timeout=20)
    assert worker.together(lambda role: (role.upper(), barrier.wait())[0]) == {role: role.upper() for role in ROLES}


@pytest.mark.parametrize("head_start", [0, 0.1])
def test_the_cause_comes_out_even_if_those_who_lost_their_links_end_first(worker: Worker, head_start: float) -> None:
    def act(role: str) -> None:
        try:
            if role == "owner":
                worker.links[role].close()
                time.sleep(head_start)
                raise ZeroDivisionError("the cause")
            worker.links[role].receive("owner", "never")
        except Exception as error:
            raise failure(error) from error

    with pytest.raises(MpcifyError, match="ZeroDivisionError: the cause"):
        worker.together(act)
    with pytest.raises(ConnectionError):
        worker.links["client"].send("helper", "k", b"")


def test_a_failed_request_is_a_reply_with_number_place_reason_and_remedy(worker: Worker) -> None:
    reply, arrays = worker.reply({"do": "run", "program": 3}, {})
    assert (reply["code"], reply["where"], arrays) == (503, "spu engine", {})
    assert reply["error"] == "IndexError: list index out of range"
    assert "report" in reply["remedy"]
    assert failure(ImportError("no spu")).code == 504
    assert failure(TimeoutError("owner sent client no 'k' within 3 s")).code == 706


def test_parties_spend_together_all_bytes_the_longest_time_and_the_busiests_rounds() -> None:
    costs = {"client": Cost(2.0, 10, 3, {"client": 10}), "owner": Cost(5.0, 7, 1, {"owner": 7})}
    assert combined(costs) == Cost(5.0, 17, 3, {"client": 10, "owner": 7})
