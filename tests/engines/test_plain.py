"""The float reference against formulas written out one number at a time."""

import math

import numpy as np
import pytest

from mpcify.engines.cost import Cost
from mpcify.engines.plain import PlainEngine, PlainSession, erf, evaluate_operation, measure_ranges
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph, Operation

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64; sums in another order


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def evaluate(kind: str, *inputs: np.ndarray, **attributes: object) -> np.ndarray:
    """One operation on its own."""
    return evaluate_operation(Operation("x", kind, (), (), attributes), inputs)


def feed_forward() -> tuple[Graph, dict[str, np.ndarray]]:
    """(x·W₁ + b₁)² summed over its three columns, for two requests of four tokens."""
    builder = Builder(batch=2, length=4)
    x = builder.input("embeddings", "client", (2, 4, 5))
    rng = np.random.default_rng(1)
    w = builder.weight("w", rng.standard_normal((5, 3)).astype(np.float32))
    b = builder.weight("b", rng.standard_normal(3).astype(np.float32))
    square = builder.emit("square", "square", (builder.emit("linear", "linear", (x, w, b)),))
    builder.emit("logits", "sum", (square,), axis=2)
    return builder.finish(None, ["logits"]), builder.weights


def gelu_poly(x: float) -> float:
    """PUMA's piecewise GeLU (Dong et al. 2023)."""
    if x < -4:
        return 0.0
    if x < -1.95:
        return -0.011034134030615728 * x**3 - 0.11807612951181953 * x**2 - 0.42226581151983866 * x - 0.5054031199708174
    if x > 3:
        return x
    return (
        0.0018067462606141187 * x**6
        - 0.037688200365904236 * x**4
        + 0.3603292692789629 * x**2
        + 0.5 * x
        + 0.008526321541038084
    )


FUNCTIONS = {
    "square": lambda x: x * x,
    "exp": math.exp,
    "reciprocal": lambda x: 1 / x,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelu-tanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu-poly": gelu_poly,
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_their_formulas(kind: str) -> None:
    x = np.array([-30.0, -4.0, -3.9, -1.96, -1.94, -0.5, -1e-9, 1e-9, 0.3, 1.0, 2.99, 3.0, 3.01, 25.0])
    attributes = {"t": 8} if kind == "exp" else {}  # how others approximate it
    np.testing.assert_allclose(evaluate(kind, x, **attributes), [FUNCTIONS[kind](float(item)) for item in x], **EXACT)


def test_erf_is_exact_to_1e_12_everywhere() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20_001), [1e-300, -1e300, 0.0]])
    np.testing.assert_allclose(erf(x), [math.erf(float(item)) for item in x], rtol=0, atol=1e-12)


def test_linear_and_matmul_are_sums_of_products(rng: np.random.Generator) -> None:
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(5)
    np.testing.assert_allclose(evaluate("linear", x, w, b), np.einsum("bnp,pq->bnq", x, w) + b, **EXACT)
    q, k = rng.standard_normal((2, 3, 6, 4)), rng.standard_normal((2, 3, 7, 4))
    scores = np.einsum("bhid,bhjd->bhij", q, k)
    np.testing.assert_allclose(evaluate("matmul", q, k, transpose=True), scores, **EXACT)
    np.testing.assert_allclose(evaluate("matmul", q, k.swapaxes(2, 3), transpose=False), scores, **EXACT)


def test_layernorm_normalises_the_last_axis(rng: np.random.Generator) -> None:
    x, g, b = rng.standard_normal((3, 8)) * 5 + 2, rng.standard_normal(8), rng.standard_normal(8)
    expected = [(row - row.mean()) / math.sqrt(row.var() + 1e-5) * g + b for row in x]
    np.testing.assert_allclose(evaluate("layernorm", x, g, b, eps=1e-5), expected, **EXACT)


def test_operations_that_move_or_combine_values(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 1))
    expected = {
        "mul": (evaluate("mul", x, y), x * y),
        "add": (evaluate("add", x, y), x + y),
        "sub": (evaluate("sub", y, x), y - x),
        "scale": (evaluate("scale", x, by=0.25), x / 4),
        "shift": (evaluate("shift", x, by=-1.5), x - 1.5),
        "sum": (evaluate("sum", x, axis=1), x.sum(1)[:, None]),
        "max": (evaluate("max", x, axis=2), x.max(2)[..., None]),
        "reshape": (evaluate("reshape", x, shape=[2, 12]), x.reshape(2, 12)),
        "transpose": (evaluate("transpose", x, axes=[2, 0, 1]), np.moveaxis(x, 2, 0)),
        "slice": (evaluate("slice", x, axis=-2, start=1, stop=3), x[:, 1:3]),
        "concat": (evaluate("concat", x, y, x, axis=2), np.concatenate([x, y, x], 2)),
        "broadcast": (evaluate("broadcast", y, shape=[2, 3, 4]), np.repeat(y, 4, 2)),
    }
    for kind, (found, wanted) in expected.items():
        np.testing.assert_array_equal(found, wanted, err_msg=kind)


def test_a_graph_runs_from_its_inputs_to_its_outputs(rng: np.random.Generator) -> None:
    graph, weights = feed_forward()
    x = rng.standard_normal((2, 4, 5)).astype(np.float32)
    with PlainEngine().compile(graph).load(weights) as session:
        outputs, cost = session.run({"embeddings": x})
    exact = ((x.astype(np.float64) @ weights["w"].astype(np.float64) + weights["b"]) ** 2).sum(2, keepdims=True)
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], exact, **EXACT)
    assert cost.seconds > 0
    assert (cost.bytes, cost.rounds, session.setup) == (0, 0, Cost())


def test_an_observer_sees_every_operation_with_its_inputs_and_output() -> None:
    graph, weights = feed_forward()
    seen = {}
    session = PlainEngine().compile(graph).load(weights)
    session.run(
        {"embeddings": np.ones((2, 4, 5))},
        lambda operation, inputs, output: seen.update({operation.name: (inputs, output)}),
    )
    assert list(seen) == ["linear", "square", "logits"]
    np.testing.assert_array_equal(seen["square"][0][0], seen["linear"][1])
    assert seen["square"][1].shape == (2, 4, 3)


def test_an_output_that_is_read_again_is_kept() -> None:
    builder = Builder(batch=1, length=2)
    x = builder.input("embeddings", "client", (1, 2, 2))
    first = builder.emit("first", "square", (x,))
    builder.emit("second", "add", (first, first))
    graph = builder.finish(None, ["first", "second"])
    outputs, _ = PlainEngine().compile(graph).load({}).run({"embeddings": np.full((1, 2, 2), 3.0)})
    assert outputs["first"].max() == 9
    assert outputs["second"].max() == 18


@pytest.mark.parametrize("given", [{}, {"embeddings": np.zeros((2, 4, 6))}, {"embeddings": np.zeros((1, 4, 5))}])
def test_missing_or_misshapen_inputs_are_refused_by_name(given: dict[str, np.ndarray]) -> None:
    graph, weights = feed_forward()
    with pytest.raises(MpcifyError, match=r"MPC-503 client input embeddings.*\(2, 4, 5\)"):
        PlainSession(graph, weights).run(given)


def test_missing_weights_are_refused_by_name() -> None:
    graph, weights = feed_forward()
    with pytest.raises(MpcifyError, match="MPC-503 owner input b"):
        PlainEngine().compile(graph).load({"w": weights["w"]})


def test_a_graph_that_is_not_lowered_is_refused() -> None:
    builder = Builder(batch=1, length=2, layer=3, part="activation")
    x = builder.input("embeddings", "client", (1, 2, 2))
    builder.emit("logits", "activation", (x,), activation="quad")
    with pytest.raises(MpcifyError, match=r"MPC-401 layer 3 activation \(logits\)"):
        PlainEngine().compile(builder.finish(None, ["logits"]))


def test_ranges_of_several_batches_are_measured_together() -> None:
    graph, weights = feed_forward()
    batches = [{"embeddings": np.full((2, 4, 5), value)} for value in (0.0, 1.0, -2.0)]
    measured = measure_ranges(graph, weights, batches)
    columns = weights["w"].astype(np.float64).sum(0)
    values = [value * columns + weights["b"] for value in (0.0, 1.0, -2.0)]
    np.testing.assert_allclose(measured["linear"]["value"], (np.min(values), np.max(values)), **EXACT)
    np.testing.assert_allclose(measured["square"]["value"][1], np.square(values).max(), **EXACT)
