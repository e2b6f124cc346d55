"""What a request will cost on an engine, from the graph alone: nothing is shared and nothing runs.

Bytes and rounds follow from shapes, by the formulas in the engine's rules. Seconds are local work, at speeds that a
calibration measures on this machine, and the network: half a round trip a round, and the bytes of each party over its
own line.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpcify.engines import DEFAULT
from mpcify.engines.config import config_named
from mpcify.inference import TABLE_LEAKS, PrivateModel
from mpcify.measure.network import Network
from mpcify.measure.profile import OperationCost, Profile, described, length_of, places_of
from mpcify.measure.sizing import sizing
from mpcify.measure.speed import calibrated, formulas_of


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
    """The cost of a request, operation by operation, and what each party's machine needs, without running it.

    private: a compiled model, on any engine: its graph is read. settings: of the engine (protocol, ring, fraction_bits
    …). network: see `Network.named`. calibration: a file with the speeds of this machine, made if it is not there;
    without one they are measured anew, on the engine, which takes some seconds. notice: gets a line when this is done,
    and one if clients would hold a table that is not recorded as public, unless accept_embedding_leak. Seconds are for
    parties on machines of their own, each like this one; with fewer cores here than parties, local work here is shared
    out. Raises MPC-501 for settings that the engine does not have or has no formulas for, and for an unknown network.
    """
    link, config = Network.named(network), config_named(engine, **settings)
    rules = formulas_of(config)
    if not accept_embedding_leak and private.exported.leaks_table:
        notice(TABLE_LEAKS)
    size = length_of(private)
    graph, about = rules.fit(private.graph(size)), described(private, size)
    works = rules.work(graph)
    speed = calibrated(config, calibration, notice)
    places, count = places_of(graph), len(config.parties) or 1
    share = min(os.cpu_count() or 1, count) / count
    rows = []
    for name, work in works.items():
        rounds = rules.rounds(work)
        sent = dict.fromkeys(config.parties, work.bytes / count)
        seconds = share * speed.seconds(work, rounds) + link.seconds(sent, rounds)
        rows.append(OperationCost(name, *places[name], seconds, round(work.bytes), round(rounds, 2)))
    cost = replace(rules.total(works.values()), seconds=sum(row.seconds or 0.0 for row in rows))
    chosen = config.to_json()
    ran = {name: chosen.get(name) for name in ("engine", "protocol", "ring")}
    needed = sizing(graph, works, rules, speed, share)
    return Profile({**about, **ran, "network": network}, tuple(rows), cost.to_json(), needed)
