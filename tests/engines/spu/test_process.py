"""The process in which SPU lives: it is alone, it ends when it should, and its end is one numbered line."""

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mpcify.engines.spu.engine import SpuSession
from mpcify.engines.spu.failure import reason
from mpcify.errors import MpcifyError
from tests.engines.spu.models import FORCED, INPUT, WIDTH, Model, is_gone, plain, python, wide_model
from tests.makers import small_model


def test_the_child_has_one_openmp_thread_and_no_torch(session: SpuSession) -> None:
    assert session.environment["omp_thread_limit"] == 1
    assert session.environment["torch"] is False
    assert session.environment["pid"] != os.getpid()
    assert "libtorch" not in Path(f"/proc/{session.environment['pid']}/maps").read_text()


def test_the_thread_limit_holds_if_the_parent_has_torch_and_another_limit(tmp_path: Path) -> None:
    code = """
import os; os.environ["OMP_THREAD_LIMIT"] = "4"
import torch
with m.FORCED.build().compile(g).load(w) as s: print(s.environment["omp_thread_limit"], s.environment["torch"])
"""
    done = python(code, tmp_path)
    assert (done.stdout, done.returncode) == ("1 False\n", 0), done.stderr


def test_nothing_but_our_own_words_reaches_stdout_and_no_file_is_left(tmp_path: Path) -> None:
    code = """
with m.FORCED.build().compile(g).load(w) as s: s.run({"x": m.INPUT})
print("mine")
"""
    done = python(code, tmp_path, "-X", "dev")  # then a pipe or process that is left open complains
    assert (done.stdout, done.stderr) == ("mine\n", "")
    assert list(tmp_path.iterdir()) == []


def test_modules_in_the_working_directory_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "spu.py").write_text("raise SystemExit('taken')")
    done = python("with m.FORCED.build().compile(g).load(w) as s: print('ran')", tmp_path, "-P")
    assert done.stdout == "ran\n", done.stderr


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_child_ends_with_its_parent(tmp_path: Path, end: str) -> None:
    code = f"import os; s = m.FORCED.build().compile(g).load(w); print(s.environment['pid'], flush=True); {end}"
    assert is_gone(int(python(code, tmp_path).stdout))


def test_a_closed_session_has_no_process_and_says_so() -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        pass
    assert is_gone(session.environment["pid"])
    with pytest.raises(MpcifyError, match=r"MPC-503 .* ended"):
        session.run({"x": INPUT})
    session.close()


def test_a_child_that_dies_is_one_numbered_line() -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGKILL)
        with pytest.raises(MpcifyError, match=r"MPC-503 .* SIGKILL") as failure:
            session.run({"x": INPUT})
        assert "\n" not in str(failure.value)
        with pytest.raises(MpcifyError, match="MPC-503"):
            session.run({"x": INPUT})


def test_a_request_that_fails_in_the_child_ends_the_session_with_its_reason() -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        wrong, _ = small_model(width=8)
        with pytest.raises(MpcifyError, match=r"MPC-503 .* another shape"):
            session.attach(FORCED.build().compile(wrong), {})
        assert is_gone(session.environment["pid"])


def test_an_interrupt_in_the_middle_of_a_request_ends_the_child() -> None:
    graph, weights = wide_model()
    with FORCED.build().compile(graph).load(weights) as session:
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": np.ones((2048, 256), np.float32)})
        assert session.child.closed
        assert is_gone(session.environment["pid"])


def test_threads_take_turns_in_one_child() -> None:
    models = [small_model(), small_model(length=9)]
    inputs = [np.random.default_rng(seed).standard_normal((1, length, WIDTH)) for seed, length in ((1, 4), (2, 9))]
    program = FORCED.build().compile(models[0][0])
    with program.load(models[0][1]) as first, ThreadPoolExecutor(4) as pool:
        opened = [*pool.map(lambda _: first.attach(FORCED.build().compile(models[1][0]), models[1][1]), range(2))]
        sessions = [(first, 0), *((session, 1) for session in opened)] * 3
        answers = pool.map(lambda pair: pair[0].run({"x": inputs[pair[1]].astype(np.float32)})[0]["logits"], sessions)
        for (_, index), answer in zip(sessions, answers, strict=True):
            np.testing.assert_allclose(answer, plain(models[index], inputs[index]), atol=2e-3)


def test_closing_ends_another_threads_request() -> None:
    graph, weights = wide_model()
    with FORCED.build().compile(graph).load(weights) as session, ThreadPoolExecutor(1) as pool:
        request = pool.submit(session.run, {"x": np.ones((2048, 256), np.float32)})
        time.sleep(0.5)
        session.close()
        with pytest.raises(MpcifyError, match=r"MPC-503 .* closed during the request"):
            request.result(timeout=5)
        assert is_gone(session.environment["pid"])


@pytest.mark.parametrize("model", [small_model(), wide_model()], ids=["before it reads", "while it computes"])
def test_a_child_that_is_stopped_is_noticed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.PULSE", 0.1)
    shape = model[0].held_by("client")[0].shape
    with FORCED.build().compile(model[0]).load(model[1]) as session:
        pid = session.environment["pid"]
        if shape == INPUT.shape:
            os.kill(pid, signal.SIGSTOP)
        else:
            threading.Timer(0.3, os.kill, (pid, signal.SIGSTOP)).start()
        with pytest.raises(MpcifyError, match=r"MPC-503 .* stopped from outside"):
            session.run({"x": np.ones(shape, np.float32)})
        assert is_gone(pid)


def test_a_child_that_goes_on_in_time_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.PULSE", 0.3)
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGSTOP)
        threading.Timer(0.7, os.kill, (session.environment["pid"], signal.SIGCONT)).start()
        np.testing.assert_allclose(session.run({"x": INPUT})[0]["logits"], plain((graph, weights), INPUT), atol=2e-3)


def test_closing_a_stopped_child_kills_it_at_once() -> None:
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert is_gone(session.environment["pid"])


def test_a_child_ends_with_the_last_reference_to_its_session() -> None:
    graph, weights = small_model()
    pid = FORCED.build().compile(graph).load(weights).environment["pid"]
    gc.collect()
    assert is_gone(pid)


def test_a_forked_process_neither_asks_nor_ends_the_child(session: SpuSession) -> None:
    reading, writing = os.pipe()
    if not (forked := os.fork()):
        try:
            session.run({"x": INPUT})
        except MpcifyError as error:
            os.write(writing, str(error.code).encode())
        session.close()
        gc.collect()
        os._exit(0)
    os.waitpid(forked, 0)
    assert os.read(reading, 9) == b"506"
    np.testing.assert_allclose(session.run({"x": INPUT})[0]["logits"], plain(small_model(), INPUT), atol=2e-3)


def test_the_child_ends_with_its_parent_though_a_fork_holds_the_pipe(tmp_path: Path) -> None:
    code = """
import os, time
s = m.FORCED.build().compile(g).load(w)
if os.fork() == 0:
    os.close(1); os.close(2); time.sleep(20); os._exit(0)
print(s.environment['pid'], flush=True); os.kill(os.getpid(), 9)
"""
    assert is_gone(int(python(code, tmp_path).stdout))


def test_an_error_of_spu_is_one_line_without_its_stack() -> None:
    error = RuntimeError(
        "what: \n\t[Enforce fail at libspu/kernel/hal/x.cc:7] a != b. shapes differ\nStacktrace:\n#0 f+0x1"
    )
    assert reason(error) == "RuntimeError: a != b. shapes differ"
