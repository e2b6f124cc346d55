"""Random graphs of all kinds: an answer is right, or the graph is refused with a number before anything is sent."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.plain import measure_ranges
from mpcify.engines.ring.config import KNOWN_TO
from mpcify.engines.ring.tables import FUNCTIONS
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from tests.engines.ring.models import Model, declared, scene_of

LENGTH, WIDTH = 3, 4


class Drawn:
    """A graph that grows by operations of drawn kinds on values (1, LENGTH, WIDTH)."""

    def __init__(self, seed: int) -> None:
        self.random, self.builder = np.random.default_rng(seed), Builder(1, LENGTH)
        self.values = [self.builder.input("x", "client", (1, LENGTH, WIDTH))]
        self.gate = self.builder.input("gate", "public", (1, LENGTH, 1))
        self.builder.layer, self.builder.part = 0, "linear"

    def weight(self, name: str, *shape: int) -> str:
        values = self.random.standard_normal(shape) / math.sqrt(shape[0])
        return self.builder.weight(name, values.astype(np.float32))

    def emit(self, kind: str, *inputs: str, **attributes: object) -> str:
        return self.builder.emit(kind, kind, inputs, **attributes)

    def grow(self, kind: str) -> None:
        """One kind more, of the last value or of any."""
        last = self.values[-1] if self.random.random() < 0.5 else str(self.random.choice(self.values))
        self.values.append(KINDS[kind](self, last, str(self.random.choice(self.values))))

    def linear(self, value: str, p: int, q: int, name: str = "w") -> str:
        return self.emit("linear", value, self.weight(name, p, q), self.weight("b", q))

    def head(self, kind: str) -> None:
        """A function of the last value, in the head."""
        self.builder.layer, self.builder.part = None, "head"
        self.values.append(self.emit(kind, self.values[-1]))

    def model(self) -> Model:
        """The model: its last value is read by a head, and the one before is an output, too, now and then."""
        self.builder.layer, self.builder.part = None, "head"
        head = self.linear(self.values[-1], WIDTH, 2, "head")
        outputs = [head, self.values[-2]] if self.random.random() < 0.3 and len(self.values) > 2 else [head]
        graph = self.builder.finish(None, outputs)
        drawn = {"x": self.random.standard_normal((1, LENGTH, WIDTH)), "gate": self.random.random((1, LENGTH, 1))}
        inputs = {item.name: drawn[item.name] for item in graph.inputs if item.holder != "owner"}
        return declared(graph, self.builder.weights, inputs)


def attended(d: Drawn, a: str, b: str) -> str:
    scores = d.emit("square", d.emit("matmul", a, b, transpose=True))
    return d.emit("matmul", scores, b, transpose=False)


def joined(d: Drawn, a: str, b: str) -> str:
    pieces = (d.emit("slice", value, axis=2, start=start, stop=start + 2) for value, start in ((a, 1), (b, 0)))
    return d.emit("concat", *pieces, axis=2)


KINDS: dict[str, Callable[[Drawn, str, str], str]] = {
    "linear": lambda d, a, b: d.linear(a, WIDTH, WIDTH),
    "square": lambda d, a, b: d.emit("square", a),
    "add": lambda d, a, b: d.emit("add", a, b),
    "sub": lambda d, a, b: d.emit("sub", a, b),
    "mul": lambda d, a, b: d.emit("mul", a, b),
    "gated": lambda d, a, b: d.emit("mul", a, d.gate),
    "scaled": lambda d, a, b: d.emit("mul", a, d.weight("v", WIDTH)),
    "shifted": lambda d, a, b: d.emit("add", a, d.weight("v", 1, WIDTH)),
    "scale": lambda d, a, b: d.emit("scale", a, by=float(d.random.choice([0.5, 0.3, -1.7, 2.0]))),
    "shift": lambda d, a, b: d.emit("shift", a, by=float(d.random.choice([0.5, -1.25]))),
    "layernorm": lambda d, a, b: d.emit("layernorm", a, d.weight("g", WIDTH), d.weight("b", WIDTH), eps=1e-12),
    "attended": attended,
    "sum": lambda d, a, b: d.emit("broadcast", d.emit("sum", a, axis=2), shape=(1, LENGTH, WIDTH)),
    "summed": lambda d, a, b: d.emit("add", a, d.emit("sum", b, axis=2)),
    "joined": joined,
    "moved": lambda d, a, b: d.emit("transpose", d.emit("reshape", a, shape=(1, WIDTH, LENGTH)), axes=(0, 2, 1)),
    "wide": lambda d, a, b: d.linear(d.emit("concat", a, b, axis=2), 2 * WIDTH, WIDTH),
}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=7),
    st.sampled_from(["", *FUNCTIONS]),
    st.sampled_from([64, 56, 48]),
    st.sampled_from(KNOWN_TO),
)
def test_an_answer_is_right_or_its_graph_is_refused(
    seed: int, kinds: list[str], function: str, ring: int, inputs: str
) -> None:
    """To two hundredths of the largest value: exact variances of rows may be as near to zero as chance has it."""
    drawn = Drawn(seed)
    for kind in kinds:
        drawn.grow(kind)
    if function:
        drawn.head(function)
    check(drawn.model(), ring=ring, inputs=inputs)


def check(model: Model, **asked: Any) -> None:
    """The model is refused with MPC-402 and where that is, or it answers right."""
    try:
        program = model.compile(**asked)
    except MpcifyError as error:
        refused = error.code, error.where.split(" (")[0]
    else:
        with program.load(model.weights) as session:
            found, _ = session.run(model.inputs)
        for name, wanted in model.plain.items():
            np.testing.assert_allclose(found[name], wanted, rtol=0, atol=2e-2 * max(1.0, np.abs(wanted).max()))
        return
    assert refused in ((402, "layer 0 linear"), (402, "head"))


ONCE_WRONG: dict[str, tuple[str, ...]] = {
    "a term that is broadcast along what is centred": ("linear", "summed", "layernorm"),
    "a term finer than its sum": ("scale", "shifted", "layernorm"),
    "a weight's product that is only added": ("mul", "joined", "linear", "sub"),
    "an owner's factor": ("scaled", "mul", "scaled"),
    "products of products": ("mul", "attended"),
    "squares that nothing reads": ("square", "shift"),
    "a scaled input in a linear layer": ("scale", "linear", "add", "shift"),
}


@pytest.mark.parametrize("kinds", ONCE_WRONG.values(), ids=ONCE_WRONG)
@pytest.mark.parametrize("seed", range(4))
def test_scales_that_differ_widely_lose_nothing(kinds: tuple[str, ...], seed: int) -> None:
    drawn = Drawn(seed)
    for kind in kinds:
        drawn.values.append(KINDS[kind](drawn, drawn.values[-1], drawn.values[-1]))
    model = drawn.model()
    with model.compile().load(model.weights) as session:
        found, _ = session.run(model.inputs)
    for name, wanted in model.plain.items():
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=5e-3 * max(1.0, np.abs(wanted).max()))


def test_a_product_may_be_larger_than_its_sum_with_a_bias() -> None:
    """The declared range is that of the sum: the product alone, not three times as large, would not fit its ring."""
    builder = Builder(1, 1)
    x, y = (builder.input(name, "client", (1, 1, 1)) for name in ("x", "y"))
    builder.layer, builder.part = 0, "linear"
    w = builder.emit("w", "reshape", (x,), shape=(1, 1))
    last = builder.emit("last", "linear", (y, w, builder.weight("b", np.full(1, 1.25))))
    graph = builder.finish(None, [last])
    inputs = {"x": np.full((1, 1, 1), -0.125), "y": np.full((1, 1, 1), 16.0)}
    model = Model(graph.with_ranges(measure_ranges(graph, builder.weights, [inputs])), builder.weights, inputs)
    program = model.compile()
    (output,) = program.plan.outputs
    for number in range(1, 17):  # a wrap is a matter of chance, of about one half
        scene = scene_of(program, model.weights, model.inputs, number=number).run()
        np.testing.assert_allclose(scene.client.values[output.index], model.plain["last"], rtol=0, atol=1e-3)


def test_a_vector_times_a_computed_matrix_is_refused() -> None:
    builder = Builder(1, LENGTH)
    x = builder.input("x", "client", (1, LENGTH, WIDTH))
    builder.layer, builder.part = 0, "linear"
    w = builder.emit("w", "reshape", (x,), shape=(LENGTH * WIDTH, 1))
    row = builder.emit("row", "reshape", (x,), shape=(LENGTH * WIDTH,))
    last = builder.emit("last", "linear", (row, w, builder.weight("b", np.zeros(1))))
    model = declared(builder.finish(None, [last]), builder.weights, {"x": np.ones((1, LENGTH, WIDTH))})
    with pytest.raises(MpcifyError, match=r"MPC-401 layer 0 linear \(last\)"):
        model.compile()


def test_a_mean_is_taken_of_a_term_that_is_finer_than_its_sum() -> None:
    """As an integer, 1/12 of a scale that is only a little larger would be nothing."""
    random, builder, width = np.random.default_rng(0), Builder(1, LENGTH), 12

    def weight(name: str, *shape: int) -> str:
        return builder.weight(name, random.standard_normal(shape))

    x = builder.input("x", "client", (1, LENGTH, width))
    builder.layer, builder.part = 0, "linear"
    total = builder.emit("sum", "add", (builder.emit("scaled", "scale", (x,), by=0.3), weight("v", 1, width)))
    normal = builder.emit("norm", "layernorm", (total, weight("g", width), weight("b", width)), eps=1e-12)
    builder.layer, builder.part = None, "head"
    last = builder.emit("logits", "linear", (normal, weight("w", width, 2), weight("c", 2)))
    graph = builder.finish(None, [last])
    check(declared(graph, builder.weights, {"x": 5 + random.standard_normal((1, LENGTH, width))}))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("size", [0.0, 2.0**-30, 2.0, 2.0**5, 2.0**10, 2.0**40])
def test_functions_of_the_head_are_looked_up_or_refused(size: float, function: str) -> None:
    """All values may be zero; and an entry of a table that is too wide for a function's curve is none."""
    drawn = Drawn(1)
    drawn.values.append(drawn.emit("scale", "x", by=size))
    drawn.head(function)
    check(drawn.model())


@pytest.mark.parametrize("largest", [1.0, 8.0, 60.0])
def test_a_relu_is_as_exact_around_zero_as_elsewhere(largest: float) -> None:
    """Entries are a quarter apart; around the corner those of its second table are a 128th of that, and right to an
    eighth of their own width."""
    builder = Builder(1, 1)
    x = builder.input("x", "client", (1, 1, 1000))
    graph = builder.finish(None, [builder.emit("relu", "relu", (x,))])
    values = np.concatenate([[-largest, largest], np.linspace(-largest / 16, largest / 16, 998)])
    model = declared(graph, {}, {"x": values.reshape(1, 1, 1000)})
    with model.compile().load({}) as session:
        found, _ = session.run(model.inputs)
    (wanted,) = model.plain.values()
    np.testing.assert_allclose(found["relu"], wanted, rtol=0, atol=2.0**-11)


@pytest.mark.parametrize("size", [2.0**-40, 2.0**-20, 2.0**12, 2.0**18, 2.0**24])
@pytest.mark.parametrize("kind", ["linear", "square", "mul", "attended"])
def test_ranges_of_any_size_are_planned_or_refused(size: float, kind: str) -> None:
    """Tiny ones are cut off to nothing in a ring with room for the cut, huge ones are opened without a fraction."""
    drawn = Drawn(1)
    drawn.values.append(drawn.emit("scale", "x", by=size))
    drawn.values.append(KINDS[kind](drawn, drawn.values[-1], drawn.values[-1]))
    check(drawn.model())


@pytest.mark.parametrize("kind", ["square", "layernorm", "moved", "tanh"])
@pytest.mark.parametrize("size", [1.0, 10.0, 100.0, 1e4])
def test_an_input_that_is_opened_as_it_is_stays_within_its_limit_or_is_refused(size: float, kind: str) -> None:
    """No range is declared for it: the client, who knows it, keeps to what the rings were chosen for."""
    drawn = Drawn(2)
    if kind == "tanh":
        drawn.head(kind)
    else:
        drawn.grow(kind)
    model = drawn.model()
    large = {name: size * array if name == "x" else array for name, array in model.inputs.items()}
    model = declared(model.graph, model.weights, large)
    if kind != "moved" and size > 10:
        with model.compile().load(model.weights) as session, pytest.raises(MpcifyError, match="MPC-402 client input x"):
            session.run(model.inputs)
        return
    check(model)


@pytest.mark.parametrize("kind", ["mul", "matmul", "mul of an input", "matmul of an input's row", "mul of a gate"])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
def test_an_owners_factor_may_be_of_any_size(size: float, kind: str) -> None:
    """It is masked and not opened, so that no range of it need be proven."""
    drawn = Drawn(3)
    shape = (1, LENGTH, WIDTH)
    factor = drawn.builder.weight("factor", size * drawn.random.standard_normal(shape))
    inputs = {"x": drawn.random.standard_normal(shape), "gate": drawn.random.random((1, LENGTH, 1))}
    if kind == "matmul of an input's row":
        row = drawn.emit("transpose", drawn.emit("slice", "x", axis=2, start=0, stop=1), axes=(0, 2, 1))
        found = drawn.emit("matmul", row, factor, transpose=False)
    elif kind == "mul of a gate":
        found = drawn.emit("mul", drawn.gate, factor)
    else:
        first = "x" if "input" in kind else drawn.linear("x", WIDTH, WIDTH)
        more = {"transpose": True} if kind == "matmul" else {}
        found = drawn.emit(kind.split()[0], first, factor, **more)
    graph = drawn.builder.finish(None, [found])
    model = declared(graph, drawn.builder.weights, inputs)
    with model.compile().load(model.weights) as session:
        answers, _ = session.run(model.inputs)
    (wanted,) = model.plain.values()
    np.testing.assert_allclose(answers[found], wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())


def test_the_least_integer_is_beyond_an_inputs_limit() -> None:
    """Its absolute value is no number of its type."""
    drawn = Drawn(2)
    drawn.values.append(drawn.emit("square", "x"))
    model = drawn.model()
    least = np.full((1, LENGTH, WIDTH), np.iinfo(np.int8).min, np.int8)
    with model.compile().load(model.weights) as session, pytest.raises(MpcifyError, match="MPC-402 client input x"):
        session.run({**model.inputs, "x": least})


@pytest.mark.parametrize("by", [1e-300, 1e-30, 1e20, 1e300])
def test_a_factor_that_no_ring_holds_is_refused(by: float) -> None:
    drawn = Drawn(4)
    drawn.values.append(drawn.emit("scale", drawn.linear("x", WIDTH, WIDTH), by=by))
    with pytest.raises(MpcifyError, match="MPC-402"):
        drawn.model().compile()


@pytest.mark.parametrize("end", [1e20, 1e100, 1.7e308])
@pytest.mark.parametrize("kind", ["linear", "square", "layernorm"])
def test_ranges_that_no_ring_holds_are_refused_forced_or_not(end: float, kind: str) -> None:
    drawn = Drawn(5)
    drawn.values.append(drawn.linear("x", WIDTH, WIDTH))
    drawn.grow(kind)
    model = drawn.model()
    wide = {name: dict.fromkeys(entry, (end / 1000.0, end)) for name, entry in model.graph.ranges.items()}
    for force in (False, True):
        with pytest.raises(MpcifyError, match="MPC-402"):
            replace(model, graph=model.graph.with_ranges(wide)).compile(force=force)


def test_a_weight_that_words_do_not_hold_is_refused() -> None:
    drawn = Drawn(6)
    far = drawn.builder.weight("far", np.full((1, LENGTH, WIDTH), 1e12))
    drawn.values.append(drawn.emit("add", drawn.linear("x", WIDTH, WIDTH), far))
    drawn.values.append(drawn.emit("sub", drawn.values[-1], drawn.builder.weight("back", np.full((1, 1, WIDTH), 1e12))))
    graph = drawn.builder.finish(None, [drawn.values[-1]])
    model = declared(graph, drawn.builder.weights, {"x": drawn.random.standard_normal((1, LENGTH, WIDTH))})
    narrow = {name: dict.fromkeys(entry, (-4.0, 4.0)) for name, entry in model.graph.ranges.items()}
    model = replace(model, graph=graph.with_ranges(narrow))
    with pytest.raises(MpcifyError, match="MPC-402 weights"):
        model.compile().load(model.weights)


def far(seed: int, offset: float, between: tuple[str, ...]) -> Model:
    """A LayerNorm of values near an offset that deviate by about a tenth, or by what is between makes of it."""
    drawn = Drawn(seed)
    tenth = drawn.emit("scale", "x", by=0.1)
    drawn.values.append(drawn.emit("shift", tenth, by=offset))
    for kind in (*between, "layernorm"):
        drawn.values.append(KINDS[kind](drawn, drawn.values[-1], tenth))
    return drawn.model()


BETWEEN = [(), ("add",), ("moved",), ("gated",), ("gated", "add"), ("scaled", "gated"), ("mul",), ("linear",), ("sum",)]


@pytest.mark.parametrize("between", BETWEEN, ids=" ".join)
@pytest.mark.parametrize("offset", [2e2, 2e3, 2e4, 2e5])
def test_rows_far_from_zero_that_hardly_deviate_keep_their_digits_or_are_refused(
    offset: float, between: tuple[str, ...]
) -> None:
    for seed in range(2):
        check(far(seed, offset, between))


def test_a_layernorm_that_would_read_too_few_digits_is_named() -> None:
    """What is opened has 19 bits: at 2·10⁵ none is left of a tenth. What is only added has all of its own."""
    with pytest.raises(MpcifyError, match=r"MPC-402 .*\(layernorm\): too few digits would be left"):
        far(0, 2e5, ("gated",)).compile()
    far(0, 2e5, ("add",)).compile()
    far(0, 2.0, ("gated",)).compile()
