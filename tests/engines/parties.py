"""Parties of a program, each in a thread of the test: what each does at once, and what it got."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mpcify.engines.engine import Arrays, Party, Program
from mpcify.errors import MpcifyError
from mpcify.network.links import Links


def together(action: Callable[[str], Any], roles: Iterable[str]) -> dict[str, Any]:
    """What each role gets from an action, each in a thread; an error of ours is what it got."""

    def guarded(role: str) -> Any:
        try:
            return action(role)
        except MpcifyError as error:
            return error

    names = [*roles]
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(guarded, names), strict=True))


def join(
    program: Program, links: Mapping[str, Links], weights: Arrays | None, beside: Mapping[str, Party] | None = None
) -> dict[str, Party]:
    """Every role's party, with the weights in place unless they are None. Raises what the first that fails raised."""

    def role(name: str) -> Party:
        party = program.join(name, links[name], beside=None if beside is None else beside[name])
        if weights is not None:
            party.hold(alone(weights, name, "owner"))
        return party

    found = together(role, links)
    for party in found.values():
        if isinstance(party, MpcifyError):
            raise party
    return found


def answer(parties: Mapping[str, Party], inputs: Arrays) -> dict[str, Any]:
    """What each party gets from a request: its outputs or None, and its cost."""
    return together(lambda name: parties[name].answer(own(parties[name], inputs)), parties)


def own(party: Party, inputs: Arrays) -> Arrays | None:
    """What a role gives of a request's inputs: the client all, the others what is public."""
    known = party.graph.held_by("public")
    return inputs if party.role == "client" else {item.name: inputs[item.name] for item in known} or None


def alone(values: Any, role: str, holder: str) -> Any:
    """The values at their holder, None elsewhere."""
    return values if role == holder else None


def measured(links: Mapping[str, Links]) -> list[int]:
    """A list that gets the size of every message that is sent over these links."""
    sizes: list[int] = []
    for end in links.values():
        post = end.post

        def count(peer: str, key: str, message: bytes, post: Callable[..., None] = post) -> None:
            sizes.append(len(message))
            post(peer, key, message)

        end.post = count  # type: ignore[method-assign]
    return sizes
