"""What could wrap in its declared range is refused for every kind of opening and every cap; at the bounds all is right.

Beyond the bound an opening is wrong so rarely that no run would show it. So here runs are looked into: the integers
that are opened, made of all three parts, lie within the ring's quarter.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mpcify.engines.plain import measure_ranges
from mpcify.engines.ring.protocols.lookup import Lookup
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Open
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.widths import NARROWEST, SLACK
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from tests.engines.ring import models
from tests.engines.ring.models import Model, declared, scene_of
from tests.engines.ring.scene import Scene

SHAPE = (1, 3, 4)


class Case(Builder):
    """A layer, in which a test puts operations; `x` and `gate` are the client's."""

    def __init__(self) -> None:
        super().__init__(1, SHAPE[1])
        self.random = np.random.default_rng(0)
        self.x, self.gate = self.input("x", "client", SHAPE), self.input("gate", "public", (1, 3, 1))
        self.layer, self.part = 3, "linear"

    def of(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        return self.emit(name or kind, kind, inputs, **attributes)

    def linear(self, x: str, name: str = "linear") -> str:
        w, b = self.random.standard_normal((4, 4)) / 2, self.random.standard_normal(4) / 2
        return self.of("linear", x, self.weight(f"{name}.w", w), self.weight(f"{name}.b", b), name=name)

    def norm(self, x: str, name: str = "norm") -> str:
        g, b = (self.random.standard_normal(4) for _ in range(2))
        return self.of("layernorm", x, self.weight("g", g), self.weight("b", b), name=name, eps=1e-12)

    def model(self, last: str) -> Model:
        graph = self.finish(None, [last])
        inputs = {"x": self.random.standard_normal(SHAPE), "gate": self.random.uniform(0.5, 1, (1, 3, 1))}
        return declared(
            graph, self.weights, {item.name: inputs[item.name] for item in graph.inputs if item.name in inputs}
        )


# what is opened is "wide"; what reads it comes after
CASES: dict[str, Callable[[Case], str]] = {
    "a linear layer that is squared": lambda c: c.linear(c.of("square", c.linear(c.x, "wide"))),
    "a linear layer before another": lambda c: c.linear(c.linear(c.x, "wide")),
    "a linear layer before a product": lambda c: c.of("mul", c.linear(c.x, "wide"), c.x),
    "scores": lambda c: c.linear(
        c.of("matmul", c.of("matmul", c.x, c.x, name="wide", transpose=True), c.x, transpose=False)
    ),
    "a square that is squared": lambda c: c.linear(c.of("square", c.of("square", c.x, name="wide"))),
    "a product": lambda c: c.linear(c.of("mul", c.linear(c.x), c.x, name="wide")),
    "a sum": lambda c: c.linear(c.of("add", c.linear(c.x), c.x, name="wide")),
    "a sum along an axis": lambda c: c.of("mul", c.of("sum", c.linear(c.x), axis=2, name="wide"), c.x),
    "what the client weighs": lambda c: c.linear(c.of("mul", c.linear(c.x, "wide"), c.gate)),
    "an output": lambda c: c.linear(c.x, "wide"),
    "an output that is only moved": lambda c: c.of("reshape", c.x, name="wide", shape=(1, 12)),
    "a function of the head": lambda c: c.linear(head(c)),
}


def head(c: Case) -> str:
    wide = c.linear(c.x, "wide")
    c.layer = None
    return c.of("tanh", wide)


def widened(model: Model, name: str, quantity: str, ends: tuple[float, float]) -> Model:
    """The model with other declared ends of one quantity."""
    ranges = {operation: dict(entry) for operation, entry in model.graph.ranges.items()}
    ranges[name][quantity] = ends
    return replace(model, graph=model.graph.with_ranges(ranges))


def refused(model: Model, cap: int) -> MpcifyError | None:
    """Why a model is refused. If it is not, all that it opens is proven to fit."""
    try:
        program = model.compile(ring=cap)
    except MpcifyError as error:
        return error
    openings = [step for step in program.plan.steps if isinstance(step, Open)]
    assert {step.width for step in openings} <= {width.ring for width in program.plan.widths}
    assert all(step.shift <= step.width - 4 for step in openings)
    assert all(step.table.bits <= 62 for step in program.plan.steps if isinstance(step, Lookup))
    for width in program.plan.widths:
        assert NARROWEST <= width.ring <= cap
        cut = 2.0 ** (width.value - width.fraction + 1)
        assert width.bound * 2.0**width.value * SLACK + cut < 2.0 ** (width.ring - 2)
        assert width.headroom >= 0
    return None


@pytest.mark.parametrize("cap", [64, 56, 48, 40, 32])
@pytest.mark.parametrize("name", CASES)
def test_a_declared_range_that_could_wrap_is_refused(name: str, cap: int) -> None:
    """From some size on, and then every larger one; the line names the layer, and says what to do."""
    case = Case()
    model = case.model(CASES[name](case))
    found = [refused(widened(model, "wide", "value", (-(2.0**e), 2.0**e)), cap) for e in range(-2, 70, 3)]
    first = next(index for index, error in enumerate(found) if error is not None)
    assert cap < 56 or first > 0, "an ordinary range fits"
    for error in found[first:]:
        assert error is not None
        assert error.code == 402
        assert error.where.startswith(("layer 3 linear (", "linear (") if "head" in name else "layer 3 linear (")
        assert "declare narrower ranges" in error.remedy
        assert ("use a wider --ring" in error.remedy) == (cap < 64 and "bits, and there are" in error.what)


@pytest.mark.parametrize("cap", [64, 56, 48, 40])
@pytest.mark.parametrize("quantity", ["value", "variance"])
def test_a_layernorm_that_could_wrap_is_refused(quantity: str, cap: int) -> None:
    """What it centres, and the sum of squares whose root is looked up: each bounds the deviations."""
    case = Case()
    model = case.model(case.linear(case.norm(case.of("add", case.linear(case.x), case.x, name="wide"))))
    name = "wide" if quantity == "value" else "norm"
    for e in range(0, 120, 4):
        ends = (-(2.0**e), 2.0**e) if quantity == "value" else (2.0**e / 1000, 2.0**e)
        error = refused(
            widened(widened(model, "norm", "variance", (2.0**-10 * 4**e, 4.0**e)), name, quantity, ends), cap
        )
        if error is not None:
            break
    assert error is not None
    assert error.code == 402
    assert error.where.startswith("layer 3")


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 0.0), (1e-6, 1.0), (-1.0, 1.0)])
def test_variances_that_no_table_holds_are_refused(ends: tuple[float, float]) -> None:
    case = Case()
    model = widened(case.model(case.linear(case.norm(case.x))), "norm", "variance", ends)
    with pytest.raises(MpcifyError, match=r"MPC-402 layer 3 .*\(norm\): its declared variances, .* too far apart"):
        model.compile()


def opened(scene: Scene, kind: type[Step]) -> Iterator[tuple[Any, np.ndarray]]:
    """What steps of a kind open, in integers."""
    steps = {step.index: step for step in scene.steps}
    for step in scene.steps:
        if isinstance(step, kind):
            yield step, scene.whole(steps[step.sources[0]], *step.needs())


def bits_of_table(found: tuple[Any, np.ndarray]) -> int:
    return found[0].table.bits


def at_the_bounds(model: Model) -> Model:
    """The model with the ranges of its own request: every value reaches an end of its declared range.

    Variances have the margin below with which they are declared, for roots are coarse there.
    """
    measured = measure_ranges(model.graph, model.weights, [model.inputs])
    for entry in measured.values():
        if "variance" in entry:
            entry["variance"] = entry["variance"][0] / 8, entry["variance"][1]
    return replace(model, graph=model.graph.with_ranges(measured))


def without_padding(model: Model) -> Model:
    """All tokens are real: those of padding may wrap, for they are weighed with zero."""
    inputs = dict(model.inputs)
    if "share" in inputs:
        inputs["share"] = np.full_like(inputs["share"], 16 / model.graph.length)
    return replace(model, inputs=inputs)


MODELS: dict[str, Callable[[], Model]] = {
    **{f"drawn {seed}": lambda seed=seed: models.drawn(seed) for seed in range(6)},
    "freediv": lambda: models.student("bert", "2quad-freediv"),
    "softmax": lambda: models.student("distilbert", "softmax-freediv"),
    "images": lambda: models.student("vit", "2quad-freediv"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_run_at_its_bounds_stays_right(name: str) -> None:
    model = at_the_bounds(without_padding(MODELS[name]()))
    program = model.compile()
    scene = scene_of(program, *model.held).run()
    for step, z in opened(scene, Open):
        assert np.abs(z).max() < (1 << step.width - 2) - (1 << step.shift + 1)
    longest = {step.sources: step.table.bits for step, _ in sorted(opened(scene, Lookup), key=bits_of_table)}
    for step, v in opened(scene, Lookup):
        if step.table.bits == longest[step.sources]:  # a second table is read where the first says so
            assert ((v + step.offset) % (1 << step.table.bits)).max() < (1 << step.table.bits) - (1 << step.table.step)
    for step in program.plan.outputs:
        np.testing.assert_allclose(scene.client.values[step.index], model.plain[step.name], rtol=0, atol=2e-2)


def test_what_is_cut_was_right_in_as_many_bits_more_or_it_is_refused() -> None:
    """A sum that is opened in a wide ring: what is masked for a term of it has few bits left above that."""
    case = Case()
    term = case.linear(case.norm(case.x, "first"), "term")
    total = case.of("add", term, case.x, name="wide")
    model = case.model(case.linear(case.of("add", case.norm(total, "second"), case.linear(total, "other"))))
    for e in (10, 20, 24):
        wide = widened(widened(model, "wide", "value", (0.0, 2.0**e)), "second", "variance", (4.0**e, 4.0 ** (e + 1)))
        error = refused(wide, 64)
        if e == 24:
            assert error is not None
            assert "what it masks needs 68 bits" in error.what
            assert error.where == "layer 3 linear (term)"
        else:
            steps = [step for step in wide.compile().plan.steps if isinstance(step, Mask | MaskBoth)]
            assert any(step.shift for step in steps)
            assert all(step.ring + step.shift <= 64 for step in steps)
