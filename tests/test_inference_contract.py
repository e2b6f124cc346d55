"""A compiled model under threads, event loops and forks: right answers, or a numbered error; and what it refuses."""

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle  # noqa: TID251
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mpcify
from mpcify.errors import MpcifyError
from mpcify.inference import PrivateModel
from tests.engines.spu.models import is_gone
from tests.makers import write_student

TEXTS = ["the film is good", "a very dull film", "not bad", "good but not very good and the film is dull a bad film"]
LONG = " ".join(["the film is good and not bad"] * 3)  # of another bucket
ENGINES = ("plain", "fixed", "spu")
ASKING = (
    lambda private: private(TEXTS),
    lambda private: private.classify(TEXTS),
    lambda private: list(private.batches(TEXTS)),
    lambda private: private.plain(TEXTS),
    lambda private: private.graph(16),
    lambda private: private.plain_session(16),
    lambda private: private.open(16),
)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A student's folder, its ranges declared."""
    return write_student(tmp_path_factory.mktemp("contract"), [*TEXTS, LONG])


@pytest.fixture(scope="module")
def private(student):
    """The student on `plain`, open: for what is refused."""
    with compiled(student, "plain") as private:
        yield private


def compiled(student: Path, engine: str = "spu") -> PrivateModel:
    return mpcify.compile(student, engine, accept_embedding_leak=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_share_a_model(student, engine):
    requests = [[text] for text in (*TEXTS, LONG)] * 2
    with compiled(student, engine) as private, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda texts: private(texts)[0], requests))
        expected = [private.plain(texts) for texts in requests]
    np.testing.assert_allclose(answers, expected, atol=2e-2)


def test_several_models_answer_in_as_many_threads(student):
    models = [compiled(student, engine) for engine in (*ENGINES, "spu")]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda private: private([*TEXTS, LONG])[0], models))
    np.testing.assert_allclose(answers, [answers[0]] * 4, atol=2e-2)
    for private in models:
        private.close()


def test_an_event_loop_asks_through_threads(student):
    async def ask(private: PrivateModel) -> list[np.ndarray]:
        loop = asyncio.get_running_loop()
        waiting = [asyncio.to_thread(private, TEXTS), loop.run_in_executor(None, private, TEXTS)]
        return [answer for answer, _ in await asyncio.gather(*waiting)]

    with compiled(student) as private:
        for answer in asyncio.run(ask(private)):
            np.testing.assert_allclose(answer, private.plain(TEXTS), atol=2e-2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_process_is_refused_and_disturbs_nothing(student, engine):
    with compiled(student, engine) as private:
        before, _ = private(TEXTS)
        reading, writing = os.pipe()
        if not (forked := os.fork()):
            with private:
                try:
                    private(TEXTS)
                except MpcifyError as error:
                    os.write(writing, str(error.code).encode())
            os._exit(0)
        os.waitpid(forked, 0)
        assert os.read(reading, 9) == b"506"
        np.testing.assert_allclose(private(TEXTS)[0], before, atol=2e-2)


def test_a_spawned_process_compiles_its_own(private):
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with pool, pytest.raises(MpcifyError, match="MPC-506"):
        pool.submit(private, TEXTS).result(timeout=60)


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_compiled_model_does_not_travel(private, travel):
    with pytest.raises(MpcifyError, match="MPC-506"):
        travel(private)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_model_says_so_and_starts_nothing(student, engine, monkeypatch):
    private = compiled(student, engine)
    private(TEXTS[:1])
    private.close()
    private.close()
    monkeypatch.setattr("mpcify.engines.spu.child.subprocess.Popen", None)
    for ask in ASKING:
        with pytest.raises(MpcifyError, match="MPC-506 model: the model is closed"):
            ask(private)


def test_a_model_closed_while_its_session_opens_leaves_no_session(student, monkeypatch):
    private = compiled(student, "fixed")
    load, opened = type(private.engine.compile(private.graph(16))).load, []

    def closing(*arguments):
        private.close()
        opened.append(load(*arguments))
        return opened[-1]

    monkeypatch.setattr("mpcify.engines.fixed.engine.FixedProgram.load", closing)
    with pytest.raises(MpcifyError, match="MPC-506"):
        private(["not bad"])
    assert [session.weights for session in opened] == [{}]


def test_a_model_that_nobody_closes_leaves_no_process(student):
    private = compiled(student)
    private(["not bad"])
    pid = private.open(16).environment["pid"]
    del private
    gc.collect()
    assert is_gone(pid)


@pytest.mark.parametrize(
    "settings",
    [
        {"length": -5},
        {"length": 1},
        {"length": 1.5},
        {"length": "16"},
        {"length": True},
        {"batch": True},
        {"batch": 0},
        {"batch": None},
        {"batch": 2.0},
        {"ring": "64"},
        {"ring": True},
        {"ring": 64.0},
        {"fraction_bits": 18.5},
        {"fraction_bits": "18"},
        {"embeddings": None},
        {"embeddings": "secret"},
        {"engine": None},
        {"engine": "quantum"},
        {"engine": b"spu"},
        {"protocol": 3, "engine": "spu"},
        {"protocol": "", "engine": "spu"},
        {"protocol": (), "engine": "spu"},
        {"truncate": 1},
        {"force": "no"},
        {"trust_first_party": None},
        {"accept_embedding_leak": "yes"},
    ],
    ids=str,
)
def test_a_setting_of_another_type_or_size_is_refused_before_the_model_is_read(settings):
    with pytest.raises(MpcifyError, match=r"MPC-501 .* Do this: \w+"):
        mpcify.compile("there is no such model", **{"engine": "fixed", **settings})


def test_numbers_of_numpy_are_numbers(student):
    with mpcify.compile(student, "fixed", batch=np.int64(2), length=np.int32(16), ring=np.int64(64)) as private:
        assert private(TEXTS[:2])[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("one text", 102),
        (b"one text", 102),
        ({"text": "film"}, 102),
        (None, 102),
        (3, 102),
        ({"film"}, 102),
        ([None], 102),
        ([3], 102),
        (["film", b"film"], 102),
        ([("a", "b", "c")], 102),
        ([], 108),
        ((), 108),
    ],
    ids=str,
)
def test_what_is_no_list_of_texts_is_refused(private, request_, code):
    with pytest.raises(MpcifyError, match=f"MPC-{code}"):
        private(request_)
