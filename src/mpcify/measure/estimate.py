"""What a request will cost under SPU, from the graph alone: nothing is shared and nothing runs.

Bytes and rounds follow from shapes (`engines.spu.formulas`). Seconds are local work, at speeds that a calibration
measures on this machine, and the network: half a round trip a round, and each party's bytes over its own line.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpcify.engines.engine import OUTPUT
from mpcify.engines.interpret import check_kinds
from mpcify.engines.spu.engine import SPU_KINDS, SpuEngine
from mpcify.engines.spu.fit import fit
from mpcify.engines.spu.formulas import Formulas, Work, work_of
from mpcify.engines.spu.settings import Settings
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.graph.parts import public_values
from mpcify.inference import TABLE_LEAKS, PrivateModel
from mpcify.measure.network import Network
from mpcify.measure.profile import OperationCost, Profile, described, length_of
from mpcify.numerics import FixedPoint

REPEATS = 3
FORMAT = 1


@dataclass(frozen=True)
class Speed:
    """Seconds of local work, all parties on one machine: a multiplication of a product, a byte, a message."""

    multiplication: float
    byte: float
    message: float

    def seconds(self, work: Work, rounds: float) -> float:
        """The local work of an operation."""
        return self.multiplication * work.multiplications + self.byte * work.bytes + self.message * rounds


def estimate(
    private: PrivateModel,
    *,
    protocol: str = "aby3",
    ring: int = 64,
    fraction_bits: int | None = None,
    network: str = "lan",
    calibration: str | Path | None = None,
    accept_embedding_leak: bool = False,
    notice: Callable[[str], None] = lambda line: None,
) -> Profile:
    """The cost of a request, operation by operation, without running it.

    private: a compiled model, on any engine: its graph is read. network: see `Network.named`. calibration: a file with
    the speeds of this machine, made if it is not there; without one they are measured anew, under SPU, which takes some
    seconds. notice: is given a line if this is done, and one if clients would hold a table that is not recorded as
    public, unless accept_embedding_leak.
    Seconds are for parties on machines of their own, each like this one; with fewer cores here than parties, local
    work here is shared out. Raises MPC-501 for a protocol without formulas or an unknown network.
    """
    link, settings = Network.named(network), Settings(protocol, FixedPoint.of(ring, fraction_bits))
    formulas = Formulas(settings)
    if not accept_embedding_leak and private.exported.leaks_table:
        notice(TABLE_LEAKS)
    size = length_of(private)
    graph, about = private.graph(size)[0], described(private, size)
    works = works_of(graph, settings)
    speed = calibrated(settings, calibration, notice)
    share = min(os.cpu_count() or 1, formulas.parties) / formulas.parties
    rows = []
    for name, (work, layer, kind) in works.items():
        rounds = formulas.rounds(work)
        seconds = share * speed.seconds(work, rounds) + link.seconds(work.bytes, rounds, formulas.parties)
        rows.append(OperationCost(name, layer, kind, seconds, round(work.bytes), round(rounds, 2)))
    together = sum((work for work, _, _ in works.values()), Work())
    cost = {
        "seconds": sum(row.seconds or 0.0 for row in rows),
        "bytes": round(together.bytes),
        "bytes_per_party": {name: round(together.bytes / formulas.parties) for name in settings.parties},
        "rounds": round(formulas.rounds(together)),
    }
    about = {**about, "engine": "spu", "protocol": protocol, "ring": ring, "network": network}
    return Profile(about, tuple(rows), cost)


def works_of(graph: Graph, settings: Settings) -> dict[str, tuple[Work, int | None, str]]:
    """The work, layer and kind of everything that costs: the client's inputs, the operations, the outputs."""
    check_kinds(graph, SPU_KINDS, "spu")
    settings.check_graph(graph)
    graph = fit(graph, settings.number)
    formulas, shapes = Formulas(settings), graph.shapes()
    found: dict[str, tuple[Work, int | None, str]] = {}
    for item in graph.role("client"):
        found[item.name] = formulas.share(int(np.prod(item.shape))), None, "embedding"
    works = work_of(graph, settings, public_values(graph))
    for operation in graph.operations:
        found[operation.name] = works[operation.name], operation.layer, operation.part
    for name in graph.outputs:
        found[OUTPUT + name] = formulas.rebuild(int(np.prod(shapes[name]))), None, "head"
    return found


def calibrated(settings: Settings, path: str | Path | None, notice: Callable[[str], None] = lambda line: None) -> Speed:
    """The speeds in a file; measured, and written there where there is none. Raises MPC-110 for another file."""
    key = f"{settings.protocol} {settings.number.ring}"
    known: dict[str, Any] = {"format": FORMAT, "speeds": {}}
    if path is not None and Path(path).exists():
        try:
            known = json.loads(Path(path).read_text(encoding="utf-8"))
            if known["format"] != FORMAT:
                raise ValueError
            if key in known["speeds"]:
                return Speed(**known["speeds"][key])
        except (OSError, ValueError, KeyError, TypeError):
            remedy = "name a new file, and it will be made"
            raise MpcifyError(110, str(path), "it holds no calibration of this version", remedy) from None
    kept = "--calibration FILE would keep them" if path is None else f"{path} keeps them"
    notice(f"running SPU for some seconds to measure this machine's speeds for {key}; {kept}")
    speed = measure_speed(settings)
    if path is not None:
        known["speeds"][key] = asdict(speed)
        temporary = Path(f"{path}.new")
        temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    return speed


def measure_speed(settings: Settings) -> Speed:
    """Times a large product, a large square and a chain of small squares under SPU; some seconds."""
    engine = SpuEngine(
        settings.protocol, settings.number.ring, settings.number.fraction_bits, force=True, trust_first_party=True
    )
    builder = Builder(1, 1)
    small = builder.input("small", "client", (8,))
    wide = builder.input("wide", "client", (1 << 17,))
    rows = builder.input("rows", "client", (64, 768))
    weight, bias = builder.weight("weight", np.full((768, 1536), 0.01)), builder.weight("bias", np.zeros(1536))
    outputs = [builder.emit("product", "linear", (rows, weight, bias)), builder.emit("squared", "square", (wide,))]
    for step in range(40):
        small = builder.emit(f"step.{step}", "square", (small,))
    graph = builder.finish(None, [*outputs, small])
    inputs = {item.name: np.full(item.shape, 0.5) for item in graph.role("client")}
    with engine.compile(graph).load(builder.weights) as session:
        turns = [session.profile(inputs)[1] for _ in range(REPEATS + 1)][1:]
    fastest = {name: min(turn[name].seconds for turn in turns) for name in turns[0]}
    works = work_of(graph, settings, frozenset())
    rounds = Formulas(settings).rounds(works["step.0"])
    message = sum(seconds for name, seconds in fastest.items() if name.startswith("step.")) / (40 * rounds)
    byte = max(fastest["squared"] - message * rounds, 0.0) / works["squared"].bytes
    product = works["product"]
    rest = message * rounds + byte * product.bytes
    return Speed(max(fastest["product"] - rest, 0.0) / product.multiplications, byte, message)
