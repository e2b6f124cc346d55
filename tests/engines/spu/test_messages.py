"""No message between parties is larger than the bound, whatever operation runs, and the largest is not far below it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from mpcify.engines.engine import Party
from mpcify.engines.spu.config import SpuConfig
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.network.memory import MemoryLinks, connect
from tests.engines.parties import answer, join, measured
from tests.engines.samples import CASES, LOWERED
from tests.makers import transformer, transformer_requests

# kind: shapes in which what is sent at once has most to do with the bound
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "linear": ((8, 96), (96, 64), (64,)),
    "matmul": ((12, 32, 8), (12, 32, 8)),
    "mul": ((64, 32), (64, 1)),
    "square-linear": ((8, 96), (96, 64), (64,)),
    "square-matmul": ((12, 32, 8), (12, 32, 8)),
    "max": ((16, 64),),
    "layernorm": ((256, 8), (8,), (8,)),
    "softmax": ((16, 64),),
}
ELEMENTWISE = ((2048,),)
LOOSE = {"aby3": 4, "semi2k": 10}  # times the largest message that the bound may be


@dataclass
class Table:
    """Parties to which programs are added, and the sizes of their messages."""

    config: SpuConfig
    links: dict[str, MemoryLinks] = field(init=False)
    parties: dict[str, Party] | None = None

    def __post_init__(self) -> None:
        self.links = connect(self.config.parties, timeout=60)
        self.sizes = measured(self.links)

    def largest(self, graph: Graph, weights: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> tuple[int, int]:
        """The size of the largest message, and the bound."""
        program = self.config.build().compile(graph)
        self.sizes.clear()
        self.parties = join(program, self.links, weights, self.parties)
        answer(self.parties, inputs)
        return max(self.sizes), program.largest_message


@pytest.fixture(scope="module", params=["aby3", "semi2k"])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    made = Table(SpuConfig(request.param, force=True, trust_first_party=True))
    yield made
    assert made.parties is not None
    made.parties["client"].close()


def one(kind: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one operation, and its inputs."""
    shapes = SHAPES.get(kind, CASES[kind][0] if len(CASES[kind][0]) > 1 or CASES[kind][1] else ELEMENTWISE)
    builder, generator = Builder(1, 1), np.random.default_rng(0)
    inputs = {f"{kind}.{place}": generator.uniform(0.5, 1.5, shape) for place, shape in enumerate(shapes)}
    names = [builder.input(name, "client", array.shape) for name, array in inputs.items()]
    return builder.finish(None, [builder.emit(f"{kind}.y", kind, names, **CASES[kind][1])]), inputs


@pytest.mark.parametrize("kind", LOWERED)
def test_each_kind_stays_below_the_bound(table: Table, kind: str) -> None:
    graph, inputs = one(kind)
    largest, bound = table.largest(graph, {}, inputs)
    elements = max(math.prod(shape) for shape in graph.shapes().values())
    assert largest <= bound
    assert bound <= LOOSE[table.config.protocol] * largest or elements < 100


def test_a_model_stays_below_the_bound_and_comes_near_it(table: Table) -> None:
    graph, weights = transformer()
    largest, bound = table.largest(graph, weights, transformer_requests())
    assert largest <= bound <= LOOSE[table.config.protocol] * largest


def test_a_large_table_is_bounded_as_tightly_as_its_share_is_known() -> None:
    builder = Builder(1, 1)
    x = builder.input("tokens", "client", (16, 30_000))
    weights = [builder.input("table", "owner", (30_000, 768)), builder.input("b", "owner", (768,))]
    graph = builder.finish(None, [builder.emit("y", "linear", [x, *weights])])
    share = 16 * 30_000 * 768
    assert share < SpuConfig(force=True).build().compile(graph).largest_message < 1.001 * share
