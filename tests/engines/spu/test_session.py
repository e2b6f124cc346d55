"""Sessions of SPU: weights, protocols, what is refused, and the process in which SPU lives."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mpcify.engines.plain import PlainEngine
from mpcify.engines.spu import series
from mpcify.engines.spu.engine import SpuEngine, SpuSession, shareable
from mpcify.engines.spu.failure import reason
from mpcify.engines.spu.settings import NOT_IN_FM32
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import recorded
from mpcify.numerics import FixedPoint

WIDTH = 48
INPUT = np.random.default_rng(1).standard_normal((1, 4, WIDTH)).astype(np.float32)

Model = tuple[Graph, dict[str, np.ndarray]]


def small_model(length: int = 4, activation: str = "square", width: int = WIDTH) -> Model:
    """A LayerNorm, and two linear layers around an activation; and its weights."""
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (0.1 * generator.standard_normal(shape)).astype(np.float32)

    builder = Builder(1, length)
    x = builder.input("x", "client", (1, length, width))
    scale, bias = builder.weight("norm.g", 1 + random(width)), builder.weight("norm.b", random(width))
    x = builder.emit("norm", "layernorm", [x, scale, bias], eps=1e-12)
    builder.layer, builder.part = 0, "linear"
    x = builder.emit("up", "linear", [x, builder.weight("up.w", random(width, 64)), builder.weight("up.b", random(64))])
    x = builder.emit("activation", activation, [x])
    down = [x, builder.weight("down.w", random(64, 2)), builder.weight("down.b", random(2))]
    return builder.finish(None, [builder.emit("logits", "linear", down)]), builder.weights


def plain(model: Model, x: np.ndarray) -> np.ndarray:
    """The logits in floats."""
    return PlainEngine().compile(model[0]).load(model[1]).run({"x": x})[0]["logits"]


@pytest.fixture(scope="module")
def session() -> Iterator[SpuSession]:
    """The small model under ABY3."""
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as opened:
        yield opened


def is_gone(process: int) -> bool:
    """Whether a process has ended within five seconds (one that nobody has waited for yet counts)."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def python(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, with this module as `tests_of_sessions`."""
    prelude = f"import importlib.util, sys; spec = importlib.util.spec_from_file_location('sessions', {__file__!r}); "
    prelude += "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m); g, w = m.small_model()\n"
    command = [sys.executable, *options, "-c", prelude + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


# Weights


def test_weights_are_shared_once_and_requests_do_not_pay_for_them(session: SpuSession) -> None:
    graph, weights = small_model()
    elements = sum(weight.size for weight in weights.values())
    costs = [session.run({"x": INPUT})[1] for _ in range(3)]
    assert session.setup.bytes >= 2 * 16 * elements  # two peers, 16 bytes an element
    assert session.setup.bytes < 2 * 16 * elements + 2 * 64 * len(weights) + 1000
    assert session.setup.bytes_per_party["owner"] > 0.99 * 2 * 16 * elements
    assert len({cost.bytes for cost in costs}) == 1
    assert all(cost.setup is None and cost.seconds > 0 and cost.rounds > 0 for cost in costs)
    outputs, _ = session.run({"x": INPUT})
    np.testing.assert_allclose(outputs["logits"], plain((graph, weights), INPUT), atol=2e-3)  # the error of rsqrt, 2e-4


def test_another_length_shares_the_process_and_the_weights(session: SpuSession) -> None:
    longer = small_model(length=9)
    other = session.attach(SpuEngine(force=True).compile(longer[0]), longer[1])
    assert other.setup.bytes == 0
    x = np.random.default_rng(2).standard_normal((1, 9, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(other.run({"x": x})[0]["logits"], plain(longer, x), atol=2e-3)
    np.testing.assert_allclose(session.run({"x": INPUT})[0]["logits"], plain(small_model(), INPUT), atol=2e-3)


@pytest.mark.parametrize("activation", ["square", "gelu", "gelu-tanh", "gelu-poly"])
def test_the_compiled_program_holds_no_constant_but_public_numbers(session: SpuSession, activation: str) -> None:
    graph, weights = small_model(activation=activation)
    code = session.attach(SpuEngine(force=True).compile(graph), weights).code
    constants = re.findall(r"dense<([^>]*)>|dense_resource|opaque<", code)
    tables = [constant for constant in constants if constant.startswith("[")]
    assert len(constants) > len(tables)
    assert all(re.fullmatch(r"[-+0-9.eE]+|true|false|0x[0-9A-F]+", item) for item in constants if item not in tables)
    public = {float(np.float32(value)) for value in series.THRESHOLDS}
    for values in series.factors(FixedPoint(64, 18)):
        last, falls = series.falls(values)
        public |= {0.0, float(last), *map(float, falls)}
    for table in tables:  # rsqrt's public thresholds, and what is chosen between them
        found = np.array(re.findall(r"[-+0-9.E]+", table.upper()), np.float64)
        assert all(min(abs(value - known) for known in public) <= 1e-6 * abs(value) for value in found)
    other = {name: weight + 1 for name, weight in weights.items()}
    assert session.attach(SpuEngine(force=True).compile(graph), other).code == code


def test_every_input_and_output_of_the_compiled_program_is_secret(session: SpuSession) -> None:
    (signature,) = re.findall(r"func\.func @main\((.*)\) -> (.*) \{", session.code)
    tensors = re.findall(r"tensor<[^ ]*>", " ".join(signature))
    secret = [tensor for tensor in tensors if re.search(r"!pphlo\.secret<(f32|i32)>", tensor)]
    assert len(secret) == 1 + len(small_model()[1]) + 1
    assert [tensor for tensor in tensors if tensor not in secret] == ["tensor<f32>"], "2^-18, which every party knows"
    assert not re.search("reveal|dbg_print", session.code)


# Protocols and rings


def test_cheetah_runs_with_two_parties() -> None:
    graph, weights = small_model(width=8)
    with SpuEngine("cheetah", force=True).compile(graph).load(weights) as session:
        outputs, cost = session.run({"x": INPUT[..., :8]})
    np.testing.assert_allclose(outputs["logits"], plain((graph, weights), INPUT[..., :8]), atol=2e-3)
    assert list(cost.bytes_per_party) == ["client", "owner"]


def test_semi2k_is_refused_unless_its_first_party_is_trusted() -> None:
    with pytest.raises(MpcifyError, match="MPC-502") as refusal:
        SpuEngine("semi2k")
    assert "--trust-first-party" in refusal.value.remedy
    graph, weights = small_model()
    with SpuEngine("semi2k", trust_first_party=True, force=True).compile(graph).load(weights) as session:
        outputs, _ = session.run({"x": INPUT})
    np.testing.assert_allclose(outputs["logits"], plain((graph, weights), INPUT), atol=2e-3)


def test_ring_32_runs_what_it_can() -> None:
    builder = Builder(1, 4)
    x, w = builder.input("x", "client", (1, 4, WIDTH)), np.full((WIDTH, 3), 0.125, np.float32)
    y = builder.emit("y", "linear", [x, builder.weight("w", w), builder.weight("b", np.zeros(3, np.float32))])
    graph = builder.finish(None, [builder.emit("out", "relu", [builder.emit("z", "square", [y])])])
    engine = SpuEngine(ring=32, force=True)
    assert (engine.ring, engine.settings.number.fraction_bits) == (32, 12)
    with engine.compile(graph).load(builder.weights) as session:
        outputs, cost = session.run({"x": INPUT})
    expected = (INPUT @ w) ** 2
    # the sum errs by an eighth of 48 steps at most, and one; its square by twice its size as much, and one
    np.testing.assert_allclose(outputs["out"], expected, atol=(2 * np.sqrt(expected.max()) * 7 + 2) * 2**-12)
    assert cost.bytes < 1.05 * (2 * 8 * (INPUT.size + 12) + (32 + 32 + 92) * 12)


def test_a_wide_layernorm_with_few_fraction_bits() -> None:
    builder = Builder(1, 2)
    weights = [builder.weight("g", np.ones(768, np.float32)), builder.weight("b", np.zeros(768, np.float32))]
    graph = builder.finish(
        None, [builder.emit("norm", "layernorm", [builder.input("x", "client", (1, 2, 768)), *weights], eps=1e-12)]
    )
    x = (np.random.default_rng(3).standard_normal((1, 2, 768)) * 1.5 + 1).astype(np.float32)
    with SpuEngine(ring=32, fraction_bits=8, force=True).compile(graph).load(builder.weights) as session:
        outputs, _ = session.run({"x": x})
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    # rsqrt truncates five times, by chance up or down a step of 2^-8, and meets deviations up to 5: sixty runs erred by
    # 0.013 to 0.050; were 1/1024 a factor, which is 0 with 8 fraction bits, they would err by whole numbers
    np.testing.assert_allclose(outputs["norm"], expected, atol=5 * 5 * 2**-8)


def declared(graph: Graph, **special: dict[str, tuple[float, float]]) -> Graph:
    """The graph with a range for every quantity, from 0.5 to 1 but for those named."""
    usual = {item.name: dict.fromkeys(recorded(item, exponent=False), (0.5, 1.0)) for item in graph.operations}
    return graph.with_ranges({name: entry | special.get(name, {}) for name, entry in usual.items()})


@pytest.mark.parametrize("kind", NOT_IN_FM32)
@pytest.mark.parametrize("force", [False, True])
def test_ring_32_refuses_what_spu_cannot_compute_there_by_name(kind: str, force: bool) -> None:
    builder = Builder(1, 4, layer=2, part="activation")
    attributes = {"softmax": {"axis": 0}, "exp": {"t": 8}}.get(kind, {})
    graph = builder.finish(None, [builder.emit("there", kind, [builder.input("x", "client", (4,))], **attributes)])
    with pytest.raises(MpcifyError, match=r"MPC-501 layer 2 activation \(there\)"):
        SpuEngine(ring=32, force=force).compile(declared(graph))


@pytest.mark.parametrize(
    "settings",
    [{"protocol": "aby4"}, {"ring": 48}, {"ring": 128}, {"fraction_bits": 40}, {"ring": 32, "fraction_bits": 18}],
    ids=str,
)
def test_settings_that_spu_does_not_have_are_refused(settings: dict) -> None:
    with pytest.raises(MpcifyError, match="MPC-501"):
        SpuEngine(**settings)


def test_without_spu_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MpcifyError, match="MPC-504") as refusal:
        SpuEngine(force=True)
    assert "pip install" in refusal.value.remedy


# Values that do not fit


def test_a_weight_that_integers_cannot_hold_is_refused_by_name() -> None:
    graph, weights = small_model()
    program = SpuEngine(force=True).compile(graph)
    (item,) = (item for item in program.graph.role("owner") if item.name.startswith("down.w"))
    number = FixedPoint(64, 18)
    shared = shareable(item, weights, number)[item.name]
    assert shared.dtype == np.int32
    np.testing.assert_array_equal(shared, number.encode(weights["down.w"] / 4))
    with pytest.raises(MpcifyError, match=r"MPC-402 owner input down\.w.*beyond 8192"):
        shareable(item, {"down.w": np.full((64, 2), 4 * 8192.0, np.float32)}, number)


def test_a_declared_range_that_overflows_is_refused_by_name_unless_forced() -> None:
    graph = declared(small_model()[0], up={"product": (0.0, 2.0**26)})
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 0 linear \(up\)"):
        SpuEngine().compile(graph)
    assert "up" in SpuEngine(force=True).compile(graph).graph.ranges
    assert "up" in SpuEngine(fraction_bits=16).compile(graph).graph.ranges  # room for 2^30


def test_a_graph_without_declared_ranges_or_with_some_of_them_is_refused_unless_forced() -> None:
    graph = small_model()[0]
    with pytest.raises(MpcifyError, match=r"MPC-406 the model: it declares no ranges.*mpcify convert.*--calibration"):
        SpuEngine().compile(graph)
    ranges = {name: entry for name, entry in declared(graph).ranges.items() if name != "up"}
    with pytest.raises(MpcifyError, match=r"MPC-406 layer 0 linear \(up\): the range of its product is not declared"):
        SpuEngine().compile(graph.with_ranges(ranges))
    with pytest.raises(MpcifyError, match=r"MPC-406 layer 0 linear \(up\): the range of its value"):
        SpuEngine().compile(graph.with_ranges({**ranges, "up": {"product": (0.0, 1.0)}}))
    SpuEngine(force=True).compile(graph)


def test_a_graph_that_is_not_lowered_is_refused() -> None:
    builder = Builder(1, 1)
    x = builder.input("x", "client", (4,))
    with pytest.raises(MpcifyError, match="MPC-401"):
        SpuEngine(force=True).compile(builder.finish(None, [builder.emit("y", "activation", [x], activation="quad")]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -(2.0**45)])
def test_an_input_that_spu_would_silently_change_is_refused(session: SpuSession, value: float) -> None:
    wrong = INPUT.copy()
    wrong[0, 1, 2] = value
    with pytest.raises(MpcifyError, match="MPC-402 client input x"):
        session.run({"x": wrong})
    session.run({"x": INPUT})  # the session goes on


def test_a_weight_that_the_ring_cannot_hold_is_refused_and_no_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr("mpcify.engines.spu.child.subprocess.Popen", start)
    graph, weights = small_model()
    with pytest.raises(MpcifyError, match=r"MPC-402 owner input up\.w"):
        SpuEngine(force=True).compile(graph).load({**weights, "up.w": weights["up.w"] * np.float32(np.nan)})
    assert [process.returncode is not None for process in started] == [True]


# The process


def test_the_child_has_one_openmp_thread_and_no_torch(session: SpuSession) -> None:
    assert session.environment["omp_thread_limit"] == 1
    assert session.environment["torch"] is False
    assert session.environment["pid"] != os.getpid()
    assert "libtorch" not in Path(f"/proc/{session.environment['pid']}/maps").read_text()


def test_the_thread_limit_holds_where_the_parent_has_torch_and_another_limit(tmp_path: Path) -> None:
    code = """
import os; os.environ["OMP_THREAD_LIMIT"] = "4"
import torch
with m.SpuEngine(force=True).compile(g).load(w) as s: print(s.environment["omp_thread_limit"], s.environment["torch"])
"""
    done = python(code, tmp_path)
    assert (done.stdout, done.returncode) == ("1 False\n", 0), done.stderr


def test_nothing_but_our_own_words_reaches_stdout_and_no_file_is_left(tmp_path: Path) -> None:
    code = """
with m.SpuEngine(force=True).compile(g).load(w) as s: s.run({"x": m.INPUT})
print("mine")
"""
    done = python(code, tmp_path, "-X", "dev")  # where a pipe or process that is left open would complain
    assert (done.stdout, done.stderr) == ("mine\n", "")
    assert list(tmp_path.iterdir()) == []


def test_modules_in_the_working_directory_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "spu.py").write_text("raise SystemExit('taken')")
    done = python("with m.SpuEngine(force=True).compile(g).load(w) as s: print('ran')", tmp_path, "-P")
    assert done.stdout == "ran\n", done.stderr


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_child_ends_with_its_parent(tmp_path: Path, end: str) -> None:
    code = f"import os; s = m.SpuEngine(force=True).compile(g).load(w); print(s.environment['pid'], flush=True); {end}"
    assert is_gone(int(python(code, tmp_path).stdout))


def test_a_closed_session_has_no_process_and_says_so() -> None:
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        pass
    assert is_gone(session.environment["pid"])
    with pytest.raises(MpcifyError, match=r"MPC-503 .* ended"):
        session.run({"x": INPUT})
    session.close()


def test_a_child_that_dies_is_one_numbered_line() -> None:
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGKILL)
        with pytest.raises(MpcifyError, match=r"MPC-503 .* SIGKILL") as failure:
            session.run({"x": INPUT})
        assert "\n" not in str(failure.value)
        with pytest.raises(MpcifyError, match="MPC-503"):
            session.run({"x": INPUT})


def test_a_request_that_fails_in_the_child_ends_the_session_with_its_reason() -> None:
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        wrong, _ = small_model(width=8)
        with pytest.raises(MpcifyError, match=r"MPC-503 .* another shape"):
            session.attach(SpuEngine(force=True).compile(wrong), {})
        assert is_gone(session.environment["pid"])


def test_an_interrupt_in_the_middle_of_a_request_ends_the_child() -> None:
    graph, weights = wide_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": np.ones((2048, 256), np.float32)})
        assert session.child.closed
        assert is_gone(session.environment["pid"])


def wide_model() -> Model:
    """A product that takes some seconds."""
    builder = Builder(1, 1)
    x = builder.input("x", "client", (2048, 256))
    w = [builder.weight("w", np.ones((256, 2048), np.float32)), builder.weight("b", np.zeros(2048, np.float32))]
    return builder.finish(None, [builder.emit("y", "linear", [x, *w])]), builder.weights


def test_threads_take_turns_in_one_child() -> None:
    models = [small_model(), small_model(length=9)]
    inputs = [np.random.default_rng(seed).standard_normal((1, length, WIDTH)) for seed, length in ((1, 4), (2, 9))]
    program = SpuEngine(force=True).compile(models[0][0])
    with program.load(models[0][1]) as first, ThreadPoolExecutor(4) as pool:
        opened = [
            *pool.map(lambda _: first.attach(SpuEngine(force=True).compile(models[1][0]), models[1][1]), range(2))
        ]
        sessions = [(first, 0), *((session, 1) for session in opened)] * 3
        answers = pool.map(lambda pair: pair[0].run({"x": inputs[pair[1]].astype(np.float32)})[0]["logits"], sessions)
        for (_, index), answer in zip(sessions, answers, strict=True):
            np.testing.assert_allclose(answer, plain(models[index], inputs[index]), atol=2e-3)


def test_closing_ends_another_threads_request() -> None:
    graph, weights = wide_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session, ThreadPoolExecutor(1) as pool:
        request = pool.submit(session.run, {"x": np.ones((2048, 256), np.float32)})
        time.sleep(0.5)
        session.close()
        with pytest.raises(MpcifyError, match=r"MPC-503 .* closed during the request"):
            request.result(timeout=5)
        assert is_gone(session.environment["pid"])


@pytest.mark.parametrize("model", [small_model(), wide_model()], ids=["before it reads", "while it computes"])
def test_a_child_that_is_stopped_is_noticed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.PULSE", 0.1)
    shape = model[0].role("client")[0].shape
    with SpuEngine(force=True).compile(model[0]).load(model[1]) as session:
        pid = session.environment["pid"]
        if shape == INPUT.shape:
            os.kill(pid, signal.SIGSTOP)
        else:
            threading.Timer(0.3, os.kill, (pid, signal.SIGSTOP)).start()
        with pytest.raises(MpcifyError, match=r"MPC-503 .* stopped from outside"):
            session.run({"x": np.ones(shape, np.float32)})
        assert is_gone(pid)


def test_a_child_that_goes_on_in_time_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcify.engines.spu.child.PULSE", 0.3)
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGSTOP)
        threading.Timer(0.7, os.kill, (session.environment["pid"], signal.SIGCONT)).start()
        np.testing.assert_allclose(session.run({"x": INPUT})[0]["logits"], plain((graph, weights), INPUT), atol=2e-3)


def test_closing_a_stopped_child_kills_it_at_once() -> None:
    graph, weights = small_model()
    with SpuEngine(force=True).compile(graph).load(weights) as session:
        os.kill(session.environment["pid"], signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert is_gone(session.environment["pid"])


def test_a_child_ends_with_the_last_reference_to_its_session() -> None:
    graph, weights = small_model()
    pid = SpuEngine(force=True).compile(graph).load(weights).environment["pid"]
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
s = m.SpuEngine(force=True).compile(g).load(w)
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
