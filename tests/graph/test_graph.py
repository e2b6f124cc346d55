"""A graph's own rules: every name defined once and before its use, every kind and attribute known."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph, Input, Operation

A, B = Input("a", "client", (2, 3)), Input("b", "owner", (2, 3))
SUM = Operation("sum", "add", ("a", "b"), (2, 3))
HALF = Operation("half", "scale", ("sum",), (2, 3), {"by": 0.5})
GOOD = Graph((A, B), (SUM, HALF), ("half",), 1, 2)


def test_a_graph_that_keeps_the_rules_is_itself() -> None:
    assert GOOD.check() is GOOD
    assert Graph.from_json(GOOD.to_json()) == GOOD


BROKEN: dict[str, Callable[[], Graph]] = {
    "an input twice": lambda: replace(GOOD, inputs=(A, B, A)),
    "an input of nobody": lambda: replace(GOOD, inputs=(A, replace(B, holder="dealer"))),
    "an unknown kind": lambda: replace(GOOD, operations=(replace(SUM, kind="divide"), HALF)),
    "an attribute too many": lambda: replace(GOOD, operations=(replace(SUM, attributes={"by": 1.0}), HALF)),
    "an attribute too few": lambda: replace(GOOD, operations=(SUM, replace(HALF, attributes={}))),
    "an operation under an input's name": lambda: replace(GOOD, operations=(replace(SUM, name="a"),), outputs=("a",)),
    "an operation twice": lambda: replace(GOOD, operations=(SUM, SUM, HALF)),
    "an operation that reads what comes later": lambda: replace(GOOD, operations=(HALF, SUM)),
    "an operation that reads nothing there is": lambda: replace(
        GOOD, operations=(replace(SUM, inputs=("a", "c")), HALF)
    ),
    "an operation that reads too little": lambda: replace(GOOD, operations=(replace(SUM, inputs=("a",)), HALF)),
    "an operation that reads too much": lambda: replace(GOOD, operations=(replace(SUM, inputs=("a", "b", "a")), HALF)),
    "no output": lambda: replace(GOOD, outputs=()),
    "an output that is not there": lambda: replace(GOOD, outputs=("half", "c")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_graph_that_breaks_one_rule_is_refused(case: str) -> None:
    with pytest.raises(MpcifyError, match="MPC-404"):
        BROKEN[case]().check()


@pytest.mark.parametrize("case", BROKEN)
def test_so_is_its_file(case: str) -> None:
    with pytest.raises(MpcifyError, match="MPC-404"):
        Graph.from_json(BROKEN[case]().to_json())


@pytest.mark.parametrize("change", [{"format": 2}, {"inputs": 3}, {"batch": "one"}, {"outputs": None}, {"ranges": []}])
def test_a_file_with_a_field_of_the_wrong_kind_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MpcifyError, match="MPC-404"):
        Graph.from_json({**GOOD.to_json(), **change})


def test_readers_of_a_value_are_listed_once_each_in_order() -> None:
    graph = replace(GOOD, operations=(SUM, replace(HALF, kind="mul", inputs=("sum", "sum"), attributes={})))
    assert graph.check().consumers() == {"a": [SUM], "b": [SUM], "sum": [graph.operations[1]], "half": []}
    assert graph.count() == {"add": 1, "mul": 1}
