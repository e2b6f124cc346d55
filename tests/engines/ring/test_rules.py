"""What the rules tell of a graph is what a request sends: each operation's bytes and messages, ahead and online."""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from mpcify.conversion.convert import convert, load_model
from mpcify.conversion.folder import save
from mpcify.engines.engine import Session
from mpcify.engines.plain import measure_ranges
from mpcify.engines.ring import roles
from mpcify.engines.ring import rules as rules_of_ring
from mpcify.engines.ring.config import KNOWN_TO, RingConfig
from mpcify.engines.rules import Rules
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.ranges import declare
from mpcify.lowering.compile import compile
from mpcify.lowering.passes import lower
from mpcify.lowering.trace import trace_graph
from mpcify.measure.estimate import estimate
from mpcify.measure.profile import profile
from tests.engines.ring import models
from tests.engines.samples import LOWERED, one_of_each

SPEED = '{"format": 1, "speeds": {"ring 64": {"multiplication": 0.0, "byte": 0.0, "message": 0.0}}}'


def told_and_found(rules: Rules, session: Session, inputs: Any) -> tuple[Any, Any]:
    """By operation, and for the whole, bytes and messages: as told, and as found."""
    works = rules.work(session.graph)
    told = {name: (sum(turn.bytes for turn in work.turns), rules.rounds(work)) for name, work in works.items()}
    found = {name: (cost.bytes, cost.rounds) for name, cost in session.profile(inputs)[1].items()}
    total, whole = rules.total(works.values()), session.run(inputs)[1]
    parts = [(cost.bytes, cost.rounds, dict(cost.bytes_per_party)) for cost in (total, total.offline, total.online)]
    spent = [(cost.bytes, cost.rounds, dict(cost.bytes_per_party)) for cost in (whole, whole.offline, whole.online)]
    return (told, parts), (found, spent)


@pytest.mark.parametrize("chunk", [roles.CHUNK, 1 << 12])
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_models_of_any_shape_send_what_is_told_to_the_byte(chunk: int, data: st.DataObject) -> None:
    heads, width = data.draw(st.sampled_from([2, 3, 4])), data.draw(st.sampled_from([8, 16]))
    config = BertConfig(
        vocab_size=20,
        hidden_size=heads * width,
        num_attention_heads=heads,
        intermediate_size=data.draw(st.integers(5, 80)),
        num_hidden_layers=data.draw(st.integers(1, 2)),
    )
    torch.manual_seed(0)
    recipe = data.draw(st.sampled_from(["2quad-freediv", "softmax-freediv"]))
    student = convert(BertForSequenceClassification(config).eval(), recipe)
    batch, length = data.draw(st.integers(1, 2)), data.draw(st.integers(3, 20))
    graph, weights = lower(*trace_graph(student, batch, length, data.draw(st.sampled_from(["client", "one-hot"]))))
    inputs = {item.name: np.full(item.shape, 0.5) for item in graph.held_by("client")}
    graph = graph.with_ranges(declare(graph, measure_ranges(graph, weights, [inputs])))
    engine = RingConfig(ring=data.draw(st.sampled_from([56, 64])), inputs=data.draw(st.sampled_from(KNOWN_TO))).build()
    with patch.object(roles, "CHUNK", chunk), engine.compile(graph).load(weights) as session:
        told, found = told_and_found(engine.rules, session, inputs)
    assert told == found


@pytest.mark.parametrize("known_to", KNOWN_TO)
@pytest.mark.parametrize("kind", sorted(set(LOWERED)))
def test_each_kind_sends_what_is_told_to_the_byte(kind: str, known_to: str) -> None:
    engine = RingConfig(force=True, inputs=known_to).build()
    graph, inputs = one_of_each([kind])
    try:
        program = engine.compile(graph)
    except MpcifyError:
        with pytest.raises(MpcifyError, match="MPC-401"):
            engine.rules.work(graph)
        return
    with program.load({}) as session:
        told, found = told_and_found(engine.rules, session, inputs)
    assert told == found


def product() -> Graph:
    """A linear layer of 5 rows from 7 values to 11, and a product of two values of the client's."""
    builder = Builder(1, 1)
    x, y = builder.input("x", "client", (5, 7)), builder.input("y", "client", (3, 7))
    linear = builder.emit(
        "linear", "linear", (x, builder.weight("w", np.ones((7, 11))), builder.weight("b", np.ones(11)))
    )
    return builder.finish(None, [linear, builder.emit("matmul", "matmul", (x, y), transpose=True)])


def test_a_product_with_a_weight_is_one_of_the_owners_and_one_ahead_and_of_two_values_two_and_one() -> None:
    works = RingConfig(force=True).rules().work(product())
    counts = {name: [turn.multiplications for turn in works[name].turns] for name in ("linear", "matmul")}
    assert counts == {"linear": [385, 385], "matmul": [105, 210]}  # ahead, and online


@pytest.mark.parametrize("inputs", KNOWN_TO)
def test_memory_is_that_of_the_request_and_of_every_set_that_waits(inputs: str) -> None:
    graph = product()
    one, three = (RingConfig(force=True, ahead=ahead, inputs=inputs).rules().keeps(graph) for ahead in (0, 2))
    assert three == 3 * one
    values = (5 + 3) * 7 + 5 * 11 + 5 * 3
    assert one > 2 * 8 * values, "a value, and a mask each"


def arrays_in(value: Any) -> list[np.ndarray]:
    """The arrays that hold the memory of a value of any form."""
    if isinstance(value, np.ndarray):
        return arrays_in(value.base) if isinstance(value.base, np.ndarray) else [value]
    parts = value if isinstance(value, list | tuple) else vars(value).values() if is_dataclass(value) else ()
    return [array for part in parts for array in arrays_in(part)]


@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv"])
def test_what_is_kept_ready_is_nearly_all_that_waiting_sets_hold(recipe: str) -> None:
    model = models.student("bert", recipe)
    programs = [model.compile(ahead=ahead) for ahead in (0, 1, 3)]
    scene = models.scene_of(programs[1], *model.held).prepare()
    for role in (scene.client, scene.owner):
        held = {id(array): array.nbytes for array in arrays_in([*role.values.values(), *role.kept.values()])}
        none, one, three = (program.kept_ready(role.role) for program in programs)
        assert (none, three) == (0, 3 * one)
        assert 0.95 * sum(held.values()) < one <= sum(held.values())
    assert programs[2].kept_ready("dealer") == 0


@pytest.mark.parametrize("inputs", KNOWN_TO)
def test_an_estimate_has_the_bytes_of_a_profile_ahead_and_online(
    checkpoint: Callable, tmp_path: Any, inputs: str
) -> None:
    folder = convert_folder(checkpoint, tmp_path)
    student = compile(folder, "ring", length=16, accept_embedding_leak=True, inputs=inputs)
    (tmp_path / "speed.json").write_text(SPEED)
    with student as private:
        told = estimate(private, "ring", network="40,1", calibration=tmp_path / "speed.json", inputs=inputs).to_json()
        found = profile(private).to_json()
    assert [(one["engine"], one["protocol"], one["ring"]) for one in (told, found)] == 2 * [("ring", "dealer", 64)]
    rows = [{row["name"]: (row["bytes"], row["rounds"]) for row in one["operations"]} for one in (told, found)]
    assert rows[0] == rows[1]
    ahead = [{row["name"]: row["offline"]["bytes_per_party"] for row in one["operations"]} for one in (told, found)]
    assert ahead[0] == ahead[1]
    for part in ("online", "offline"):
        for measure in ("bytes", "rounds", "bytes_per_party"):
            assert told["cost"][part][measure] == found["cost"][part][measure]
    online, offline = told["cost"]["online"], told["cost"]["offline"]
    assert told["cost"]["seconds"] == pytest.approx(online["seconds"] + offline["seconds"])
    # half a round trip for each message, those that wait for another's included, and the bytes
    assert online["seconds"] >= 0.02 * online["rounds"] + max(online["bytes_per_party"].values()) / 1.25e8
    assert offline["seconds"] == pytest.approx(0.02 * offline["rounds"] + offline["bytes"] / 1.25e8, abs=0.02)
    memory = told["sizing"]["memory_gib"]
    assert memory["owner"] > memory["dealer"]
    assert told["sizing"]["gigabits"] == pytest.approx(8e-9 * max(told["cost"]["bytes_per_party"].values()))


def convert_folder(checkpoint: Callable, place: Any) -> Any:
    """The folder of a student that declares no ranges."""
    source = checkpoint("bert")
    save(convert(load_model(source), "2quad-freediv"), place / "student", source)
    return place / "student"


def test_a_graph_is_planned_once_and_another_anew() -> None:
    rules = RingConfig().rules()
    graphs = []
    for _ in range(2):
        builder = Builder(1, 1)
        x = builder.input("x", "client", (4,))
        graph = builder.finish(None, [builder.emit("y", "add", [x, builder.weight("b", np.ones(4))])])
        graphs.append(graph.with_ranges({"y": {"value": (-1.0, 1.0)}}))
    with patch.object(rules_of_ring, "Planner", wraps=rules_of_ring.Planner) as planner:
        first = rules.plan(graphs[0])
        rules.work(graphs[0]), rules.openings(graphs[0]), rules.keeps(graphs[0])
        assert rules.plan(graphs[0]) is first
        assert planner.call_count == 1
        assert rules.plan(graphs[1]) is not first
    assert rules == RingConfig().rules()
