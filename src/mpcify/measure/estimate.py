"""What a request will cost on an engine, from the graph alone: nothing is shared and nothing runs.

Bytes and rounds follow from shapes, by the formulas in the engine's rules. Seconds are local work and what gRPC and
mutual TLS take, at speeds that a calibration measures on this machine, and the network: half a round trip a round, and
the bytes of each party over its own line.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpcify.engines import DEFAULT
from mpcify.engines.config import config_named
from mpcify.engines.cost import Cost
from mpcify.engines.rules import Work
from mpcify.inference import TABLE_LEAKS, PrivateModel
from mpcify.measure.network import Network
from mpcify.measure.profile import OperationCost, Profile, declare_made_up, described, length_of, places_of
from mpcify.measure.sizing import sizing
from mpcify.measure.speed import Machine, calibrated, formulas_of


def estimate(
    private: PrivateModel,
    engine: str = DEFAULT,
    *,
    network: str = "lan",
    calibration: str | Path | None = None,
    accept_embedding_leak: bool = False,
    notice: Callable[[str], None] = lambda line: None,
    **settings: Any,
) -> Profile:
    """The cost of a request, operation by operation, what each party's machine needs, and, where each has one of its
    own, the rings of what is opened, without running it.

    private: a compiled model, on any engine: its graph is read. settings: of the engine (protocol, ring, fraction_bits
    …). network: see `Network.named`. calibration: a file with the speeds of this machine, made if it is not there;
    without one they are measured anew, on the engine, which takes some seconds. notice: gets a line when this is done,
    and one if clients would hold a table that is not recorded as public, unless accept_embedding_leak. Seconds are for
    parties on machines of their own, each like this one; with fewer cores here than parties, local work here is shared
    out. Ranges that an engine needs, and the model does not declare, are those of a made-up request, as in a profile.
    Raises MPC-501 for settings that the engine does not have or has no formulas for, and for an unknown network.
    """
    link, config = Network.named(network), config_named(engine, **settings)
    rules = formulas_of(config)
    if not accept_embedding_leak and private.exported.leaks_table:
        notice(TABLE_LEAKS)
    size = length_of(private)
    if not private.exported.declared and config.build().undeclared == "refuse":
        declare_made_up(private, size, private.inputs(private.requests.sample(private.graph(size)), size))
    graph, about = rules.fit(private.graph(size)), described(private, size)
    works = rules.work(graph)
    machine = Machine(calibrated(config, calibration, notice), rules)
    places, rows = places_of(graph), []
    for name, work in works.items():
        spent = told(work, machine, link)
        rounds = round(rules.rounds(work), 2)
        rows.append(OperationCost(name, *places[name], spent.seconds, spent.bytes, rounds, spent.offline))
    seconds = sum(row.seconds or 0.0 for row in rows)
    cost = replace(rules.total(works.values()), seconds=seconds)
    if cost.offline is not None:
        ahead = sum(row.offline.seconds for row in rows if row.offline is not None)
        cost = replace(cost, offline=replace(cost.offline, seconds=ahead))
    ran = {"engine": config.name} | {name: getattr(config, name, None) for name in ("protocol", "ring")}
    needed = sizing(graph, works, machine)
    return Profile({**about, **ran, "network": network}, tuple(rows), cost.to_json(), needed, rules.openings(graph))


def told(work: Work, machine: Machine, link: Network, early: bool = False) -> Cost:
    """The cost of a work: what parties compute, and the network, ahead of a request and in its time. early: all of it
    is ahead.
    """
    rules = machine.rules
    if work.ahead is not None:
        first, rest = work.turns
        ahead = told(first, machine, link, early=True)
        return replace(ahead + told(rest, machine, link), offline=ahead)
    line, waits = rules.line(work), rules.waits(work)
    seconds = machine.seconds(work, early) + machine.speed.transport(line, waits) + link.seconds({"line": line}, waits)
    return replace(rules.cost(work), seconds=seconds)
