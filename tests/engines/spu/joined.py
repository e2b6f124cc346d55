"""Parties that join a program one by one, in threads of this process, for `test_party`.

Started as `python joined.py CASE`: prints what each role got, as one JSON object.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from mpcify.engines.engine import Party, Program
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.party import Compiled, Seat, SpuParty
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.network.links import Links
from mpcify.network.memory import connect
from tests.engines.spu.models import FORCED, INPUT, Model
from tests.makers import small_model

ROLES = ("client", "owner", "helper")


def together(action: Callable[[str], Any], links: Mapping[str, Links]) -> dict[str, Any]:
    """What each role gets from an action, each in a thread: JSON, or the error that it met."""

    def guarded(role: str) -> Any:
        try:
            return action(role)
        except MpcifyError as error:
            return str(error)

    with ThreadPoolExecutor(len(links)) as pool:
        return dict(zip(links, pool.map(guarded, links), strict=True))


def outputs(found: Mapping[str, np.ndarray] | None) -> dict | None:
    return None if found is None else {name: array.tolist() for name, array in found.items()}


def alone(values: Any, role: str, holder: str) -> Any:
    """The values at their holder, None elsewhere."""
    return values if role == holder else None


def requests() -> dict:
    """Weights, two requests and a profile; then all join again over the same links."""
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    program, parties = FORCED.build().compile(graph), {}

    def role(name: str) -> dict:
        party = parties[name] = program.join(name, links[name])
        held = party.hold(alone(weights, name, "owner"))
        turns = [party.answer(alone({"x": INPUT}, name, "client")) for _ in range(2)]
        profiled, costs = party.profile(alone({"x": INPUT}, name, "client"))
        return {
            "held": held.to_json(),
            "answers": [outputs(found) for found, _ in turns],
            "costs": [cost.to_json() for _, cost in turns],
            "profiled": outputs(profiled),
            "operations": {operation: cost.to_json() for operation, cost in costs.items()},
            "sent": [links[name].sent.messages, links[name].sent.bytes],
        }

    found = together(role, links)
    found["again"] = together(lambda name: program.join(name, links[name]).role, links)
    return found


def leaving() -> dict:
    """The helper leaves while the others wait for it in a request."""
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    program = FORCED.build().compile(graph)

    def role(name: str) -> Any:
        party = program.join(name, links[name])
        party.hold(alone(weights, name, "owner"))
        return party.close() if name == "helper" else outputs(party.answer(alone({"x": INPUT}, name, "client"))[0])

    return together(role, links)


def public() -> dict:
    """A public input, which every role gives."""
    builder = Builder(1, 1)
    builder.emit("y", "mul", [builder.input("x", "client", (4,)), builder.input("p", "public", (4,))])
    program = FORCED.build().compile(builder.finish(None, ["y"]))
    links = connect(ROLES, timeout=60)

    def role(name: str) -> dict | None:
        party, p = program.join(name, links[name]), np.full(4, 3.0)
        return outputs(party.answer({"x": np.arange(4.0), "p": p} if name == "client" else {"p": p})[0])

    return together(role, links)


def foreign() -> dict:
    """What is another role's, given to each role in turn; then a request that goes well."""
    graph, weights = small_model()
    links = connect(ROLES, timeout=60)
    program = FORCED.build().compile(graph)
    parties = together(lambda name: program.join(name, links[name]), links)
    found: dict[str, Any] = {}
    for name, party in parties.items():
        for what, give in (("weights", party.hold), ("inputs", party.answer), ("profile", party.profile)):
            if (name, what) not in {("owner", "weights"), ("client", "inputs"), ("client", "profile")}:
                given = weights if what == "weights" else {"x": INPUT}
                found[f"{name} {what}"] = together(lambda _, give=give, given=given: give(given), {name: links[name]})
    wrong = {"x": INPUT * np.float32(np.nan)}
    found["client wrong"] = together(lambda _: parties["client"].answer(wrong), {"client": links["client"]})
    together(lambda name: parties[name].hold(alone(weights, name, "owner")).bytes, links)
    found["after"] = together(lambda name: outputs(parties[name].answer(alone({"x": INPUT}, name, "client"))[0]), links)
    return found


def differing(change: str) -> dict:
    """Parties of which the owner runs something else."""
    model: Model = small_model()
    programs: dict[str, Program] = {name: FORCED.build().compile(model[0]) for name in ROLES}
    if change == "fraction":
        programs["owner"] = SpuConfig(force=True, fraction_bits=17).build().compile(model[0])
    elif change == "ring":
        programs["owner"] = SpuConfig(force=True, ring=32).build().compile(model[0])
    elif change == "length":
        programs["owner"] = FORCED.build().compile(small_model(length=5)[0])
    elif change == "constant":
        norm, *rest = model[0].operations
        other = replace(model[0], operations=(replace(norm, attributes={"eps": 1e-3}), *rest))
        programs["owner"] = FORCED.build().compile(other)
    elif change == "range":
        other = model[0].with_ranges({"up": {"value": (0.0, 1.0)}})
        programs["owner"] = FORCED.build().compile(other)
    links = connect(ROLES, timeout=60)
    return together(lambda name: programs[name].join(name, links[name]).role, links)


def misplaced() -> dict:
    """Links of another role, and links that lead elsewhere."""
    program, links = FORCED.build().compile(small_model()[0]), connect(ROLES)
    two, other = connect(ROLES[:2]), connect(("client", "owner", "dealer"))
    return {
        **together(lambda _: program.join("owner", links["client"]), {"role": links["client"]}),
        **together(lambda _: program.join("owner", two["owner"]), {"two": two["owner"]}),
        **together(lambda _: program.join("owner", other["owner"]), {"dealer": other["owner"]}),
    }


def broken() -> dict:
    """The owner holds a weight that the ring cannot hold; a peer sends a share of another layout."""
    graph, weights = small_model()
    program = FORCED.build().compile(graph)
    links = connect(ROLES, timeout=60)
    wrong = {**weights, "up.w": weights["up.w"] * np.float32(np.nan)}

    def hold(name: str) -> int:
        return program.join(name, links[name]).hold(alone(wrong, name, "owner")).bytes

    found = {"weight": together(hold, links)}
    links = connect(ROLES, timeout=60)

    def lies(name: str) -> Any:
        party: Party = program.join(name, links[name])
        if name == "owner":
            for peer in links[name].peers:
                links[name].send(peer, "share/owner#1", b"A" * 500)
            return "sent"
        return party.hold(None).bytes

    return {**found, "share": together(lies, links)}


def named() -> dict:
    """Programs of the same parties, in which a weight of one has the name of a value that another makes."""
    first, second = Builder(1, 1), Builder(1, 1)
    first.emit("y", "mul", [first.input("x", "client", (4,)), first.input("w", "owner", (4,))])
    doubled = second.emit("w", "add", [second.input("x", "client", (4,))] * 2)
    second.emit("y", "mul", [doubled, second.input("v", "owner", (4,))])
    graphs = first.finish(None, ["y"]), second.finish(None, ["y"])
    settings = FORCED
    found = {}
    for order in ((0, 1), (1, 0)):
        links = connect(ROLES, timeout=60)

        def role(name: str, order: tuple[int, int] = order, links: Mapping[str, Links] = links) -> None:
            seat = Seat(settings, links[name])
            for graph, weight in ((graphs[place], "wv"[place]) for place in order):
                given = {weight: np.ones(4, np.float32)}
                SpuParty(Compiled(graph, settings), seat).hold(alone(given, name, "owner"))

        found[str(order)] = together(role, links)
    return found


if __name__ == "__main__":
    case, *words = sys.argv[1:]
    said = os.dup(1)
    os.dup2(2, 1)  # SPU writes to stdout
    cases = {
        "requests": requests,
        "leaving": leaving,
        "public": public,
        "foreign": foreign,
        "misplaced": misplaced,
        "broken": broken,
        "named": named,
    }
    text = json.dumps(differing(*words) if case == "differing" else cases[case]())
    os.write(said, text.encode())
    os._exit(0)
