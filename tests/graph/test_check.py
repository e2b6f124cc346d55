"""The strict check: whatever JSON arrives, it is a graph whose every part fits, or MPC-404 and nothing else."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcify.engines.spu.postpone import postpone_truncations
from mpcify.errors import MpcifyError
from mpcify.graph.about import AGAIN
from mpcify.graph.build import Builder
from mpcify.graph.check import check, stage_of
from mpcify.graph.graph import MOST_BYTES, Encoding, Graph
from mpcify.graph.ranges import recorded
from mpcify.numerics import FixedPoint


def small() -> Graph:
    """Two texts of three tokens through a layer with scores, a square, a LayerNorm and an exponential; with ranges."""
    builder = Builder(2, 3, layer=0, part="linear")
    x, mask = builder.input("x", "client", (2, 3, 8)), builder.input("mask", "client", (2, 3, 1))
    w, b = builder.weight("up/quad", np.ones((8, 4))), builder.weight("up.bias", np.zeros(4))
    g, c = builder.weight("norm.weight", np.ones(4)), builder.weight("norm.bias", np.zeros(4))
    hidden = builder.emit("squared", "square", (builder.emit("masked", "mul", (x, mask)),))
    hidden = builder.emit("up", "linear", (hidden, w, b))
    hidden = builder.emit("norm", "layernorm", (hidden, g, c), eps=1e-12)
    split = builder.emit("split", "reshape", (hidden,), shape=(2, 3, 2, 2))
    heads = builder.emit("heads", "transpose", (split,), axes=(0, 2, 1, 3))
    scores = builder.emit("scores", "matmul", (heads, heads), transpose=True)
    powers = builder.emit("powers", "exp", (builder.emit("half", "scale", (scores,), by=0.5),), t=6)
    output = builder.emit("output", "matmul", (powers, heads), transpose=False)
    first = builder.emit("first", "slice", (output,), axis=2, start=0, stop=1)
    graph = builder.finish(None, [builder.emit("logits", "sum", (first,), axis=-1), "norm"])
    return graph.with_ranges(
        {item.name: dict.fromkeys(sorted(recorded(item, False)), (-1.0, 2.0)) for item in graph.operations}
    )


GRAPH = small()
FITTED = postpone_truncations(GRAPH, FixedPoint.of(64))
JSON = json.loads(json.dumps(GRAPH.to_json()))
WRONG = [None, True, False, -1, 0, 2, 3, 10**30, 10**400, 0.5, 1e300, "", "x", "squared", "a b", [], [3], [[]], {}, "é"]
WRONG += [{"value": 1}, [-2, 3], ["x", "x"], "attention", "owner", "tokens", "\x00", "x" * 300, "output/x", "/step"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in JSON."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def put(values: Any, path: tuple[Any, ...], new: Any) -> Any:
    """JSON with another value in one place."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def taken(values: Any) -> Graph | None:
    """The graph in JSON, if it is one; MPC-404 is the only error."""
    try:
        return Graph.from_json(values)
    except MpcifyError as error:
        refused = error
    assert refused.code == 404
    assert refused.remedy == AGAIN
    return None


def same(a: Any, b: Any) -> bool:
    """Whether JSON is equal, types of numbers included but for a float that was written as a whole number."""
    one, other = (json.dumps(value, sort_keys=True) for value in (a, b))
    return one == other or (
        type(a) is not bool
        and type(b) is not bool
        and json.loads(one, parse_int=float) == json.loads(other, parse_int=float)
    )


@pytest.mark.parametrize("graph", [GRAPH, FITTED], ids=["lowered", "fitted"])
def test_a_graph_survives_its_json(graph: Graph) -> None:
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    assert "square-linear" in FITTED.count()


def test_a_range_may_end_at_a_whole_number_that_no_float_is() -> None:
    changed = put(JSON, ("ranges", "powers", "value", 1), 10**30)
    assert taken(changed).ranges["powers"]["value"] == (-1.0, 1e30)


@given(st.data())
def test_one_wrong_field_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(places(JSON))))
    new = data.draw(st.sampled_from(WRONG) | st.recursive(st.none() | st.integers() | st.floats(), st.lists))
    changed = put(JSON, path, new)
    graph = taken(changed)
    if graph is not None:
        assert same(json.loads(json.dumps(graph.to_json())), changed), "what is read is what was written"


@given(st.data())
def test_so_are_several(data: st.DataObject) -> None:
    changed = JSON
    for _ in range(data.draw(st.integers(2, 4))):
        paths = list(places(changed))
        if paths:
            changed = put(changed, data.draw(st.sampled_from(paths)), data.draw(st.sampled_from(WRONG)))
    taken(changed)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists) | st.just(JSON))
def test_any_json_is_a_graph_or_is_refused(values: Any) -> None:
    taken(values)
    for name in JSON:
        taken({**JSON, name: values})


def test_a_field_that_is_missing_or_unknown_is_refused() -> None:
    holders = [(), *(path for path in places(JSON) if isinstance(get(JSON, path), dict))]
    for path in holders:
        if path[:1] in (("about",), ("ranges",)):
            continue
        here = get(JSON, path)
        assert taken(put_or_whole(path, {**here, "more": 1})) is None, path
        for name in here:
            assert taken(put_or_whole(path, {key: item for key, item in here.items() if key != name})) is None, path


def get(values: Any, path: tuple[Any, ...]) -> Any:
    """What stands in a place of JSON."""
    for key in path:
        values = values[key]
    return values


def put_or_whole(path: tuple[Any, ...], new: Any) -> Any:
    """`put`, or the whole."""
    return put(JSON, path, new) if path else new


def test_every_size_counts() -> None:
    """No size, axis or length can be another number."""
    for path in places(JSON):
        sizes = "shape" in path or "axes" in path or path in (("batch",), ("length",))
        if sizes and isinstance(get(JSON, path), int):
            for wrong in (get(JSON, path) + 1, -get(JSON, path) - 1, 0.5, "3", None, True):
                changed = put(JSON, path, wrong)
                if path != ("batch",) or wrong in (True, 0.5) or not isinstance(wrong, int) or wrong < 1:
                    assert taken(changed) is None or get(JSON, path) == wrong, (path, wrong)


def mend(**changes: Any) -> Graph:
    """GRAPH with one operation changed, by its name: `up={"layer": -1}`."""
    return replace(GRAPH, operations=tuple(replace(item, **changes.get(item.name, {})) for item in GRAPH.operations))


BROKEN = {
    "a batch of none": replace(GRAPH, batch=0),
    "a length that is a truth": replace(GRAPH, length=True),
    "a layer below the first": mend(up={"layer": -1}),
    "a layer that is a truth": mend(up={"layer": True}),
    "an unknown part": mend(up={"part": "tail"}),
    "unknown rows": mend(up={"rows": "columns"}),
    "rows without tokens": mend(squared={"rows": "heads"}),
    "a shape that is not the kind's": mend(up={"shape": (2, 3, 5)}),
    "an output twice": replace(GRAPH, outputs=("logits", "logits")),
    "an output that is an input": replace(GRAPH, outputs=("x",)),
    "a range of nothing": replace(GRAPH, ranges={"nothing": {"value": (0.0, 1.0)}}),
    "a range of no quantity": replace(GRAPH, ranges={"up": {"size": (0.0, 1.0)}}),
    "a range of another kind's quantity": replace(GRAPH, ranges={"up": {"variance": (0.0, 1.0)}}),
    "a composite in a fitted graph": replace(
        FITTED,
        operations=(
            *FITTED.operations,
            replace(
                GRAPH.operations[0],
                name="more",
                kind="activation",
                inputs=("x",),
                attributes={"activation": "quad"},
                shape=(2, 3, 8),
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_rule_is_refused(case: str) -> None:
    with pytest.raises(MpcifyError, match="MPC-404"):
        BROKEN[case].check()


@pytest.mark.parametrize(
    "change",
    [
        {"holder": "client"},
        {"encoding": Encoding("up/quad", 2)},
        {"encoding": Encoding("up/quad", 0)},
        {"encoding": Encoding("a b", 4)},
        {"encoding": Encoding("up/quad", True)},
    ],
)
def test_integers_are_the_owners_and_of_the_room_that_their_product_takes(change: dict[str, Any]) -> None:
    inputs = tuple(replace(item, **change) if item.encoding else item for item in FITTED.inputs)
    with pytest.raises(MpcifyError, match="MPC-404"):
        replace(FITTED, inputs=inputs).check()


def test_nothing_but_a_product_with_a_square_reads_integers() -> None:
    inputs = tuple(
        replace(item, encoding=Encoding("w", 4)) if item.name == "up.bias" else item for item in FITTED.inputs
    )
    with pytest.raises(MpcifyError, match="MPC-404"):
        replace(FITTED, inputs=inputs).check()


def test_each_stage_has_its_kinds() -> None:
    assert (stage_of(GRAPH), stage_of(FITTED)) == ("lowered", "fitted")
    check(GRAPH, "fitted")
    for stage in ("lowered", "traced"):
        with pytest.raises(MpcifyError, match="MPC-404"):
            check(FITTED, stage)  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [[1, 0], [0], [0, 1, 2], ["0", 1], [True, 1], [float("nan"), 1], [0, float("inf")], 1])
def test_a_declared_range_begins_and_ends(pair: Any) -> None:
    assert taken(put(JSON, ("ranges", "up", "value"), pair)) is None


# Files.


def file(tmp_path: Path, text: str) -> Path:
    """A file with this text."""
    (tmp_path / "graph.json").write_text(text, encoding="utf-8")
    return tmp_path / "graph.json"


def test_an_exported_graph_is_read(tmp_path: Path) -> None:
    assert Graph.read(file(tmp_path, json.dumps(JSON))) == GRAPH


TEXT = json.dumps(JSON)
FILES = {
    "no file": None,
    "no JSON": "{",
    "a key twice": TEXT.replace('"batch": 2', '"batch": 2, "batch": 2'),
    "NaN as a number": TEXT.replace('"by": 0.5', '"by": NaN'),
    "a number without an end": TEXT.replace('"by": 0.5', '"by": 1e999'),
    "a number of too many digits": TEXT.replace('"batch": 2', '"batch": ' + "2" * 5000),
    "lists in lists": TEXT.replace('"by": 0.5', '"by": ' + "[" * 100_000 + "]" * 100_000),
    "lists in some lists": TEXT.replace('"by": 0.5', '"by": ' + "[" * 50 + "]" * 50),
    "too long": TEXT + " " * MOST_BYTES,
    "some ranges": json.dumps({**JSON, "ranges": {"up": JSON["ranges"]["up"]}}),
    "a quantity without a range": json.dumps(put(JSON, ("ranges", "up"), {"value": [0, 1]})),
    "another batch": json.dumps({**JSON, "batch": 3}),
    "a graph of an engine": json.dumps(FITTED.to_json()),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_exported_graph_is_refused(case: str, tmp_path: Path) -> None:
    text = FILES[case]
    assert text != TEXT
    path = tmp_path / "missing" if text is None else file(tmp_path, text)
    with pytest.raises(MpcifyError, match="MPC-404"):
        Graph.read(path)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_bytes(b"\xff\xfe")
    with pytest.raises(MpcifyError, match="MPC-404"):
        Graph.read(tmp_path / "graph.json")


def test_a_graph_without_ranges_is_read(tmp_path: Path) -> None:
    bare = GRAPH.with_ranges({})
    assert Graph.read(file(tmp_path, json.dumps(bare.to_json()))) == bare
    assert Graph.read(file(tmp_path, json.dumps(FITTED.to_json())), "fitted") == FITTED
