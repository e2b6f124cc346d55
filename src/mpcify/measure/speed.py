"""How fast this machine does an engine's local work; measured once and kept in a file."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from mpcify.engines.config import EngineConfig
from mpcify.engines.rules import Rules, Work
from mpcify.errors import MpcifyError
from mpcify.files import write_whole
from mpcify.graph.build import Builder
from mpcify.graph.graph import Graph
from mpcify.jsontext import read_json
from mpcify.measure.transport import measure_transport

REPEATS = 3
STEPS = 40  # small squares, one after the other
FORMAT = 1


@dataclass(frozen=True)
class Speed:
    """Seconds of local work, all parties on one machine: a multiplication of a product, a byte, a message.

    ahead: a multiplication ahead of a request, where it takes another time than in one. sent_message, sent_byte: what
    gRPC and mutual TLS take beside that, of messages that wait for one another and of the bytes that follow one another
    on the lines (`measure_transport`).
    """

    multiplication: float
    byte: float
    message: float
    sent_message: float = 0.0
    sent_byte: float = 0.0
    ahead: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Speeds from a file. Raises TypeError and ValueError for others than finite numbers from 0 on."""
        given = [value for name, value in values.items() if (name, value) != ("ahead", None)]
        if not all(type(value) in (int, float) and 0 <= value < math.inf for value in given):
            raise ValueError
        return cls(**values)

    def seconds(self, work: Work, rounds: float, ahead: bool = False) -> float:
        """The local work of an operation, in a request or ahead of it."""
        multiplication = self.multiplication if not ahead or self.ahead is None else self.ahead
        return multiplication * work.multiplications + self.byte * work.bytes + self.message * rounds

    def transport(self, line: float, waits: float) -> float:
        """What passes between parties, without the lines themselves."""
        return self.sent_byte * line + self.sent_message * waits


@dataclass(frozen=True)
class Machine:
    """A party's machine: its speeds, as measured here, and the rules of the engine that runs."""

    speed: Speed
    rules: Rules

    def seconds(self, work: Work, ahead: bool = False) -> float:
        """What a party computes of a work; ahead: all of it is ahead of the request.

        `speed` was measured with all parties on one machine, where those that work at once share the cores.
        """
        if work.ahead is not None:
            first, rest = work.turns
            return self.seconds(first, ahead=True) + self.seconds(rest)
        at_once = len(work.parties) or len(self.rules.parties) or 1
        return min(os.cpu_count() or 1, at_once) / at_once * self.speed.seconds(work, self.rules.rounds(work), ahead)


def formulas_of(config: EngineConfig) -> Rules:
    """The rules of an engine whose costs are known before it runs. Raises MPC-501 for one without cost formulas."""
    rules = config.rules()
    if rules is None:
        what = "there are no cost formulas for it"
        raise MpcifyError(501, f"engine {config.name}", what, "measure with mpcify profile")
    rules.work(Graph((), (), (), 1, 1))
    return rules


def calibrated(
    config: EngineConfig, path: str | Path | None, notice: Callable[[str], None] = lambda line: None
) -> Speed:
    """The speeds in a file; measured, and written there if there are none. Raises MPC-110 for another file."""
    key = speeds_of(config)
    known: dict[str, Any] = {"format": FORMAT, "speeds": {}}
    if path is not None and Path(path).exists():
        try:
            known = read_json(path)
            if known["format"] != FORMAT or not isinstance(known["speeds"], dict):
                raise ValueError
            if key in known["speeds"]:
                return Speed.of(known["speeds"][key])
        except (OSError, ValueError, KeyError, TypeError):
            remedy = "name a new file, and it will be made"
            raise MpcifyError(110, str(path), "it holds no calibration of this version", remedy) from None
    kept = "--calibration FILE would keep them" if path is None else f"{path} keeps them"
    notice(f"running {config.name.upper()} for some seconds to measure this machine's speeds for {key}; {kept}")
    speed = measure_speed(config)
    if path is not None:
        known["speeds"][key] = asdict(speed)
        write_whole(path, json.dumps(known, indent=1) + "\n")
    return speed


def speeds_of(config: EngineConfig) -> str:
    """What decides an engine's speeds on a machine, as a calibration names them: protocol, ring, another device."""
    chosen = config.to_json()
    device = None if config.device == "cpu" else config.device
    return " ".join(str(part) for part in (chosen.get("protocol", config.name), chosen.get("ring"), device) if part)


def probes() -> dict[str, tuple[Graph, dict[str, np.ndarray]]]:
    """A chain of small squares, a large square and a large product, each with its weights."""
    found = {}
    for name, shape in (("steps", (8,)), ("squared", (1 << 17,)), ("product", (64, 768))):
        builder = Builder(1, 1)
        x = builder.input("x", "client", shape)
        if name == "product":
            weight, bias = builder.weight("weight", np.full((768, 1536), 0.01)), builder.weight("bias", np.zeros(1536))
            x = builder.emit("product", "linear", (x, weight, bias))
        for step in range({"steps": STEPS, "squared": 1, "product": 0}[name]):
            x = builder.emit(f"step.{step}", "square", (x,))
        found[name] = builder.finish(None, [x]), builder.weights
    return found


def measure_speed(config: EngineConfig) -> Speed:
    """Times `probes` on an engine, for some seconds. A speed of which an engine's work has none is 0.

    If the products ahead of a request or in it are too fast to be told from what is around them, they have the speed of
    both together.
    """
    engine, rules = config.for_made_up_numbers().build(), formulas_of(config.for_made_up_numbers())
    seconds: dict[str, list[float]] = {}
    works: dict[str, Sequence[Work]] = {}
    for name, (graph, weights) in probes().items():
        inputs = {item.name: np.full(item.shape, 0.5) for item in graph.held_by("client")}
        with engine.compile(graph).load(weights) as session:
            costs = [session.run(inputs)[1] for _ in range(REPEATS + 1)][1:]
            works[name] = sum(rules.work(session.graph).values(), Work()).turns
        parts = [
            [cost.seconds] if cost.offline is None else [cost.offline.seconds, cost.online.seconds] for cost in costs
        ]
        seconds[name] = [min(part) for part in zip(*parts, strict=True)]
    whole = {name: sum(parts) for name, parts in seconds.items()}
    rounds = {name: sum(map(rules.rounds, turns)) for name, turns in works.items()}
    sent = {name: sum(turn.bytes for turn in turns) for name, turns in works.items()}
    message = each(whole["steps"], rounds["steps"])
    byte = each(whole["squared"] - message * rounds["squared"], sent["squared"])
    turns = works["product"]
    left = [
        spent - message * rules.rounds(turn) - byte * turn.bytes
        for spent, turn in zip(seconds["product"], turns, strict=True)
    ]
    average = each(sum(left), sum(turn.multiplications for turn in turns))
    *early, product = (each(one, turn.multiplications) or average for one, turn in zip(left, turns, strict=True))
    return Speed(product, byte, message, *measure_transport(), *early)


def each(seconds: float, count: float) -> float:
    """Seconds of one of several; 0 if there are none, or if other work took them all."""
    return max(seconds, 0.0) / count if count else 0.0
