"""Sessions of SPU: weights, protocols, and what is refused."""

import re
import subprocess

import numpy as np
import pytest

from mpcify.engines.spu import series
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.encoding import shareable
from mpcify.engines.spu.engine import SpuSession
from mpcify.engines.spu.limits import NOT_IN_FM32
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.numerics import FixedPoint
from tests.engines.spu.models import FORCED, INPUT, WIDTH, plain
from tests.makers import declared, small_model

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
    other = session.attach(FORCED.build().compile(longer[0]), longer[1])
    assert other.setup.bytes == 0
    x = np.random.default_rng(2).standard_normal((1, 9, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(other.run({"x": x})[0]["logits"], plain(longer, x), atol=2e-3)
    np.testing.assert_allclose(session.run({"x": INPUT})[0]["logits"], plain(small_model(), INPUT), atol=2e-3)


@pytest.mark.parametrize("activation", ["square", "gelu", "gelu-tanh", "gelu-poly"])
def test_the_compiled_program_holds_no_constant_but_public_numbers(session: SpuSession, activation: str) -> None:
    graph, weights = small_model(activation=activation)
    code = session.attach(FORCED.build().compile(graph), weights).code
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
    assert session.attach(FORCED.build().compile(graph), other).code == code


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
    with SpuConfig("cheetah", force=True).build().compile(graph).load(weights) as session:
        outputs, cost = session.run({"x": INPUT[..., :8]})
    np.testing.assert_allclose(outputs["logits"], plain((graph, weights), INPUT[..., :8]), atol=2e-3)
    assert list(cost.bytes_per_party) == ["client", "owner"]


def test_semi2k_is_refused_unless_its_first_party_is_trusted() -> None:
    with pytest.raises(MpcifyError, match="MPC-502") as refusal:
        SpuConfig("semi2k").build()
    assert "--trust-first-party" in refusal.value.remedy
    graph, weights = small_model()
    with SpuConfig("semi2k", trust_first_party=True, force=True).build().compile(graph).load(weights) as session:
        outputs, _ = session.run({"x": INPUT})
    np.testing.assert_allclose(outputs["logits"], plain((graph, weights), INPUT), atol=2e-3)


def test_ring_32_runs_what_it_can() -> None:
    builder = Builder(1, 4)
    x, w = builder.input("x", "client", (1, 4, WIDTH)), np.full((WIDTH, 3), 0.125, np.float32)
    y = builder.emit("y", "linear", [x, builder.weight("w", w), builder.weight("b", np.zeros(3, np.float32))])
    graph = builder.finish(None, [builder.emit("out", "relu", [builder.emit("z", "square", [y])])])
    engine = SpuConfig(ring=32, force=True).build()
    assert (engine.ring, engine.fraction_bits) == (32, 12)
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
    with SpuConfig(ring=32, fraction_bits=8, force=True).build().compile(graph).load(builder.weights) as session:
        outputs, _ = session.run({"x": x})
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    # rsqrt truncates five times, by chance up or down a step of 2^-8, and meets deviations up to 5: sixty runs erred by
    # 0.013 to 0.050; were 1/1024 a factor, which is 0 with 8 fraction bits, they would err by whole numbers
    np.testing.assert_allclose(outputs["norm"], expected, atol=5 * 5 * 2**-8)


@pytest.mark.parametrize("kind", NOT_IN_FM32)
@pytest.mark.parametrize("force", [False, True])
def test_ring_32_refuses_what_spu_cannot_compute_there_by_name(kind: str, force: bool) -> None:
    builder = Builder(1, 4, layer=2, part="activation")
    attributes = {"softmax": {"axis": 0}, "exp": {"t": 8}}.get(kind, {})
    graph = builder.finish(None, [builder.emit("there", kind, [builder.input("x", "client", (4,))], **attributes)])
    with pytest.raises(MpcifyError, match=r"MPC-501 layer 2 activation \(there\)"):
        SpuConfig(ring=32, force=force).build().compile(declared(graph))


@pytest.mark.parametrize(
    "settings",
    [{"protocol": "aby4"}, {"ring": 48}, {"ring": 128}, {"fraction_bits": 40}, {"ring": 32, "fraction_bits": 18}],
    ids=str,
)
def test_settings_that_spu_does_not_have_are_refused(settings: dict) -> None:
    with pytest.raises(MpcifyError, match="MPC-501"):
        SpuConfig(**settings).build()


def test_without_spu_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MpcifyError, match="MPC-504") as refusal:
        FORCED.build()
    assert "pip install" in refusal.value.remedy


# Values that do not fit


def test_a_weight_that_integers_cannot_hold_is_refused_by_name() -> None:
    graph, weights = small_model()
    program = FORCED.build().compile(graph)
    (item,) = (item for item in program.graph.held_by("owner") if item.name.startswith("down.w"))
    number = FixedPoint(64, 18)
    shared = shareable(item, weights, number)[item.name]
    assert shared.dtype == np.int32
    np.testing.assert_array_equal(shared, number.encode(weights["down.w"] / 4))
    with pytest.raises(MpcifyError, match=r"MPC-402 owner input down\.w.*beyond 8192"):
        shareable(item, {"down.w": np.full((64, 2), 4 * 8192.0, np.float32)}, number)


def test_a_declared_range_that_overflows_is_refused_by_name_unless_forced() -> None:
    graph = declared(small_model()[0], up={"product": (0.0, 2.0**26)})
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 0 linear \(up\)"):
        SpuConfig().build().compile(graph)
    assert "up" in FORCED.build().compile(graph).graph.ranges
    assert "up" in SpuConfig(fraction_bits=16).build().compile(graph).graph.ranges  # room for 2^30


def test_a_graph_without_declared_ranges_or_with_some_of_them_is_refused_unless_forced() -> None:
    graph = small_model()[0]
    with pytest.raises(MpcifyError, match=r"MPC-406 the model: it declares no ranges.*mpcify convert.*--calibration"):
        SpuConfig().build().compile(graph)
    ranges = {name: entry for name, entry in declared(graph).ranges.items() if name != "up"}
    with pytest.raises(MpcifyError, match=r"MPC-406 layer 0 linear \(up\): the range of its product is not declared"):
        SpuConfig().build().compile(graph.with_ranges(ranges))
    with pytest.raises(MpcifyError, match=r"MPC-406 layer 0 linear \(up\): the range of its value"):
        SpuConfig().build().compile(graph.with_ranges({**ranges, "up": {"product": (0.0, 1.0)}}))
    FORCED.build().compile(graph)


def test_a_graph_that_is_not_lowered_is_refused() -> None:
    builder = Builder(1, 1)
    x = builder.input("x", "client", (4,))
    with pytest.raises(MpcifyError, match="MPC-401"):
        FORCED.build().compile(builder.finish(None, [builder.emit("y", "activation", [x], activation="quad")]))


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
        FORCED.build().compile(graph).load({**weights, "up.w": weights["up.w"] * np.float32(np.nan)})
    assert [process.returncode is not None for process in started] == [True]
