"""Recipes side by side: the same shape, engine and run, in turns (A B A B), so that what slows one slows all."""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from mpcify.bench.kept import key_of, read_kept
from mpcify.bench.shapes import NAIVE, POSITIONS, SHAPES, check_shape
from mpcify.conversion.convert import as_student, convert, load_model
from mpcify.conversion.student import recipe_name, recipe_of
from mpcify.engines import DEFAULT, engine_named
from mpcify.engines.cost import Cost, median
from mpcify.engines.engine import Arrays, Engine, Session
from mpcify.engines.plain import measure_ranges
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.graph import Graph
from mpcify.graph.inputs import MASK_SCALE
from mpcify.graph.parts import subgraph
from mpcify.graph.ranges import declare
from mpcify.lowering.export import declared_ranges
from mpcify.lowering.passes import lower
from mpcify.lowering.streams import scale_streams
from mpcify.lowering.trace import trace_graph
from mpcify.measure.network import Network
from mpcify.measure.profile import PARTS, operation_costs, total
from mpcify.progress import Progress
from mpcify.recipe import read_recipe

EXACT = ("exact", "exact-tanh", "puma")  # the least of them is what the others are compared with
SECTIONS = ("embedding", "layers", "head")
NETWORKS = ("lan", "wan")
HEADROOM = 0.8  # of the memory that is free


@dataclass(frozen=True)
class Entry:
    """What runs in turns: one recipe on one engine at one length."""

    recipe: str
    engine: Engine
    length: int
    graph: Graph
    sections: Mapping[str, tuple[Graph, Session, Arrays]]


def bench(
    shape: str,
    recipes: Sequence[str],
    *,
    engines: Sequence[str] = (DEFAULT,),
    rings: Sequence[int | None] = (None,),
    lengths: Sequence[int] = (128,),
    layers: int | None = None,
    batch: int = 1,
    repeat: int = 3,
    embeddings: str = "client",
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Rows of costs, and what was refused: see the reference of formats.

    shape: a name of SHAPES (weights are random: the cost does not depend on them) or a checkpoint. recipes: names or
    files; `naive`, JAX's own softmax and GeLU, exists here alone. layers: the first of them only. repeat: turns that
    count; one before them warms up. rings: of the engines that have them; None: the usual one. progress: see `steps`.
    settings: protocol, fraction_bits, force, trust_first_party. What an engine refuses is a row of `refused`, and
    raised if no row is left. Raises MPC-501 for a shape, MPC-405 for a length, MPC-301 for a recipe.
    """
    teacher = model_of(shape, layers, max(lengths))
    for name in recipes:
        if name != NAIVE:
            read_recipe(name)
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    done = itertools.count(1)

    def advance() -> None:
        if progress:
            progress(next(done))

    for length in lengths:
        opened: list[Entry] = []
        try:
            for name, ring, recipe in product(engines, rings, recipes):
                try:
                    chosen = {**settings, "ring": ring}
                    opened.append(prepare(teacher, recipe, name, length, batch, embeddings, chosen))
                except MpcifyError as error:
                    refused.append({"recipe": recipe, "engine": name, "ring": ring, "length": length, "error": error})
                advance()
            rows += compared(take_turns(opened, repeat, advance))
        finally:
            for entry in opened:
                for _, session, _ in entry.sections.values():
                    session.close()
    if not rows:
        raise refused[0]["error"]
    return {
        "shape": Path(shape).name,
        "rows": rows,
        "refused": [{**entry, "error": str(entry["error"])} for entry in refused],
    }


def model_of(shape: str, layers: int | None, longest: int) -> PreTrainedModel:
    """A random BERT of a known shape, or the teacher or student in a folder, with its first layers only."""
    check_shape(shape, layers, longest)
    known = SHAPES.get(shape)
    if known is None:
        return load_model(shape)
    count = known["num_hidden_layers"] if layers is None else layers
    torch.manual_seed(0)
    config = BertConfig(**{**known, "num_hidden_layers": count, "max_position_embeddings": POSITIONS})
    return BertForSequenceClassification(config).eval()


def prepare(
    teacher: PreTrainedModel,
    recipe: str,
    engine: str,
    length: int,
    batch: int,
    embeddings: str,
    settings: Mapping[str, Any],
) -> Entry:
    """A recipe's programs, their weights in place. Raises what the engine refuses."""
    runner = engine_named(engine, **settings)
    student = convert(teacher, "exact") if recipe == NAIVE else as_student(teacher)
    if recipe != NAIVE and recipe_of(student) != read_recipe(recipe):
        student = convert(student, read_recipe(recipe))
    graph, weights = lower(*trace_graph(student, batch, length, embeddings), naive=recipe == NAIVE)
    inputs = sample_inputs(graph)
    ranges = declared_ranges(student, graph, weights)
    if not ranges:  # made up, as the inputs are
        ranges = declare(graph, measure_ranges(graph, weights, [inputs]))
    graph, weights = scale_streams(graph.with_ranges(ranges), weights)
    owned = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    refuse_memory(runner, owned)
    values = dict(inputs)
    sections: dict[str, tuple[Graph, Session, Arrays]] = {}
    generator = np.random.default_rng(0)
    beside: Session | None = None
    for name in SECTIONS:
        part = section(graph, name)
        program = runner.compile(part)
        beside = program.load({item.name: owned[item.name] for item in part.held_by("owner")}, beside)
        given = {
            item.name: values.get(item.name, generator.standard_normal(item.shape))
            for item in (*part.held_by("client"), *part.held_by("public"))
        }
        sections[name] = part, beside, given
    return Entry(recipe if recipe == NAIVE else recipe_name(student), runner, length, graph, sections)


def section(graph: Graph, name: str) -> Graph:
    """The embedding, the encoder layers or the head of a graph."""
    return subgraph(graph, lambda operation: (operation.part if operation.layer is None else "layers") == name)


def sample_inputs(graph: Graph) -> dict[str, np.ndarray]:
    """Client inputs that fill the length."""
    generator, count = np.random.default_rng(0), graph.length
    known = {"mask": 1.0, "share": MASK_SCALE / count, "segment": 0.0}
    inputs = {}
    for item in graph.held_by("client"):
        values = generator.standard_normal(item.shape)
        if item.name == "tokens":
            values = np.eye(item.shape[-1])[generator.integers(item.shape[-1], size=item.shape[:-1])]
        inputs[item.name] = np.full(item.shape, known[item.name]) if item.name in known else values
    return inputs


def refuse_memory(engine: Engine, weights: Arrays) -> None:
    """Raises MPC-501 if what an engine makes of the weights would not fit into memory."""
    needed = 0.0 if engine.rules is None else engine.rules.memory(weights)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration):
        return
    if needed > HEADROOM * free:
        what = f"shares of its weights take {needed:.1f} GiB, and {free:.1f} GiB are free"
        raise MpcifyError(501, "memory", what, "use --layers, or fewer recipes at once")


def steps(lengths: Sequence[Any], rivals: int, repeat: int) -> int:
    """How often `bench` reports its progress: once for each rival prepared, and once for each of its turns."""
    return len(lengths) * rivals * (repeat + 2)


def take_turns(
    entries: Sequence[Entry], repeat: int, advance: Callable[[], None] = lambda: None
) -> list[tuple[Entry, dict[str, list[Cost]]]]:
    """Every entry once to warm up, then `repeat` times in turns."""
    spent: list[dict[str, list[Cost]]] = [{name: [] for name in entry.sections} for entry in entries]
    for turn in range(repeat + 1):
        for entry, costs in zip(entries, spent, strict=True):
            for name, (_, session, inputs) in entry.sections.items():
                _, cost = session.run(inputs)
                if turn:
                    costs[name].append(cost)
            advance()
    return list(zip(entries, spent, strict=True))


def compared(found: Sequence[tuple[Entry, dict[str, list[Cost]]]]) -> list[dict[str, Any]]:
    """The rows of one length: medians, what each part of the model took, and ratios to the best exact recipe.

    Measure by measure: the least seconds of any, the least bytes of any, and so on. An engine is compared with exact
    recipes of its own; one that runs none, with those of the engines beside it that send anything.
    """
    rows: list[dict[str, Any]] = []
    for entry, spent in found:
        costs = {name: median(turns) for name, turns in spent.items()}
        whole = sum(costs.values(), Cost())
        seconds = [sum(turn.seconds for turn in turns) for turns in zip(*spent.values(), strict=True)]
        rows.append(
            {
                "recipe": entry.recipe,
                "engine": entry.engine.name,
                "protocol": entry.engine.protocol,
                "ring": entry.engine.ring,
                "length": entry.graph.length,
                "batch": entry.graph.batch,
                "layers": len({operation.layer for operation in entry.graph.operations} - {None}),
                "cost": costs["layers"].to_json(),
                "embedding": costs["embedding"].to_json(),
                "head": costs["head"].to_json(),
                "total": whole.to_json(),
                "seconds": [cost.seconds for cost in spent["layers"]],
                "total_seconds": seconds,
                "kinds": by_part(entry),
                "told": estimated(entry),
            }
        )
    for engine in {row["engine"]: None for row in rows}:
        mine = [row for row in rows if row["engine"] == engine]
        exact = baselines(rows, mine)
        best = {name: min(exact, key=lambda row: measures(row)[name] or 0.0) for name in measures(exact[0])}
        for row in mine:
            to = {name: base["recipe"] for name, base in best.items()}
            row["ratios"] = {"to": to, **{name: ratios(base, row)[name] for name, base in best.items()}}
            if "online" in row["cost"]:
                row["ratios"]["online"] = best["seconds"]["cost"]["seconds"] / row["cost"]["online"]["seconds"]
    return rows


def baselines(rows: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that an engine's rows are compared with."""
    exact = [row for row in rows if row["recipe"] in EXACT]
    own = [row for row in exact if row["engine"] == mine[0]["engine"]]
    others = [row for row in exact if row["cost"]["bytes"]] if mine[0]["cost"]["bytes"] else []
    return own or others or [mine[0]]


def estimated(entry: Entry) -> dict[str, float] | None:
    """Bytes and rounds of the encoder layers by the formulas of the engine's rules; None if there are none."""
    rules, (_, session, _) = entry.engine.rules, entry.sections["layers"]
    if rules is None:
        return None
    try:
        together = rules.total(rules.work(session.graph).values())
    except MpcifyError:  # of this protocol, or of one of these operations
        return None
    return {"bytes": together.bytes, "rounds": together.rounds}


def measures(row: Mapping[str, Any]) -> dict[str, float]:
    """What a row's encoder layers cost: as measured here, and over networks (`Network`) between machines."""
    found = {measure: row["cost"][measure] for measure in ("seconds", "bytes", "rounds")}
    return found if not row["cost"]["bytes_per_party"] else found | {name: over(name, row["cost"]) for name in NETWORKS}


def ratios(base: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float | None]:
    """How many times less a row costs than another, by measure; None if nothing is sent, or nothing was."""
    before = measures(base)
    return {name: before[name] / value if value and name in before else None for name, value in measures(row).items()}


def over(name: str, cost: Mapping[str, Any]) -> float:
    """Seconds over a network: the work measured here, and the network's share, of what is ahead and of the rest."""
    if "online" in cost:
        return over(name, cost["offline"]) + over(name, cost["online"])
    return float(cost["seconds"]) + Network.named(name).seconds(cost["bytes_per_party"], cost["rounds"])


def by_part(entry: Entry) -> dict[str, dict[str, float]]:
    """What each part of the model took, operation by operation."""
    rows = [
        row
        for _, session, inputs in entry.sections.values()
        for row in operation_costs(session.graph, session.profile(inputs)[1])
        if row.name in {operation.name for operation in session.graph.operations}
    ]
    return {part: total(row for row in rows if row.part == part) for part in PARTS}


def against_earlier(result: dict[str, Any], path: str | Path) -> None:
    """Adds to each row `earlier`: how many times less it costs than the same row of an earlier result.

    Raises MPC-101 if there is no such file, MPC-110 if it is no result of this version.
    """
    known = read_kept(path)
    for row in result["rows"]:
        if key_of(row) in known:
            row["earlier"] = ratios(known[key_of(row)], row)
    if not any("earlier" in row for row in result["rows"]):
        warnings.warn(MpcifyWarning(f"{path} holds none of these rows"), stacklevel=2)
