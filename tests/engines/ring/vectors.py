"""Writes tests/vectors/ring.json, from which another implementation of the ring engine's protocols can be checked.

    python -m tests.engines.ring.vectors

For every protocol: the steps with their settings, the keys, the parts and weights that it begins with, and what follows
from them: every message to the byte, and each role's part of the last value. Words are hexadecimal, 8 bytes each in
little-endian; messages are as they are sent. F of weight i is drawn at program 0, set 0, step i.

Beside them what must be refused: messages of another length. One of the right length is never refused for what it
holds, or the owner would learn from it.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from mpcify.engines.ring.config import RingConfig
from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.prg import KEY, Place, Prg, Purpose, derive
from mpcify.engines.ring.protocols.lookup import Output, OutputInParts, Table
from mpcify.engines.ring.protocols.opening import Open
from mpcify.engines.ring.protocols.products import Linear
from mpcify.engines.ring.protocols.step import Step
from mpcify.engines.ring.sharing import SEED
from mpcify.engines.ring.values import Masked
from mpcify.graph.build import Builder
from tests.engines.ring.chains import PROTOCOLS, SHAPE
from tests.engines.ring.scene import Chain, Given, Scene, Words, drawn, keys

PATH = Path(__file__).parents[2] / "vectors" / "ring.json"
RING = 48
CHANGES = {"a byte less": lambda data: data[:-1], "a byte more": lambda data: data + b"\0", "nothing": lambda _: b""}
ROLES = ("client", "owner", "dealer")


def hexed(words: Words | None) -> str | None:
    """Words, or none."""
    return None if words is None else np.ascontiguousarray(words, "<i8").tobytes().hex()


def words(text: str | None, shape: tuple[int, ...]) -> Words | None:
    """What `hexed` made of words of a shape."""
    return None if text is None else np.frombuffer(bytes.fromhex(text), "<i8").reshape(shape).astype(np.int64)


def described(step: Step) -> dict[str, Any]:
    """A step: its kind, and its settings as they are."""
    found: dict[str, Any] = {"kind": type(step).__name__}
    for item in fields(step):
        value = getattr(step, item.name)
        if isinstance(value, Open):
            value = value.index
        elif isinstance(value, Table):
            value = {**vars(value), "coefficients": value.coefficients.tolist()}
        elif item.name == "parts":
            value = {role: hexed(part) for role, part in value.items()}
        if item.name not in ("operation", "dealt"):
            found[item.name] = value
    return found


def part_of(value: Any, last: Step) -> Any:
    """A role's side of a step's value; of a product mod 2^RING, above which its words may hold anything."""
    if isinstance(value, Masked):
        return {"delta": hexed(value.delta), "mask": hexed(value.mask)}
    return hexed(value & ((1 << RING) - 1) if isinstance(last, Linear) and value is not None else value)


def chain_of(name: str, seed: int) -> tuple[Chain, list[Words]]:
    """A protocol that begins with drawn parts, and its weights. What is asked for is mod 2^RING."""
    random, chain = np.random.default_rng(seed), Chain()
    parts = {role: drawn(random, *SHAPE) for role in ROLES}
    if name == "Output":
        chain.add(Output, chain.given(parts), shape=SHAPE, messages=1, name="y", scale=256, width=RING)
    elif name == "OutputInParts":
        chain.add(OutputInParts, chain.given(parts), shape=SHAPE, name="y", scale=256, width=RING)
    else:
        PROTOCOLS[name](chain, chain.given(parts))
    chain.ready(chain.steps[-1], RING)
    return chain, [drawn(random, *slot.derived.shape) for slot in chain.slots]


def protocol(name: str, seed: int) -> dict[str, Any]:
    """One protocol's vector."""
    chain, weights = chain_of(name, seed)
    secrets = keys()
    scene = Scene(chain.steps, secrets, chain.weigh(weights, secrets)).run()
    last = chain.steps[-1]
    said = {role: {str(index): data.hex() for index, data in scene.bytes_said(role).items()} for role in ROLES[:2]}
    value = {role: part_of(getattr(scene, role).values.get(last.index), last) for role in ROLES}
    if isinstance(last, Output):
        value = {"client": scene.client.values[last.index].tolist()}
    return {
        "name": name,
        "steps": [described(step) for step in chain.steps],
        "weights": [{"shape": slot.derived.shape, "W": hexed(w)} for slot, w in zip(chain.slots, weights, strict=True)],
        "dealt": b"".join(scene.from_dealer.sent).hex(),
        "ahead": b"".join(scene.from_client.sent).hex(),
        "said": said,
        "value": value,
    }


def refused(found: dict[str, Any]) -> list[dict[str, str]]:
    """A protocol's messages, each with what is done to it so that it must be refused."""
    messages = [(kind, "") for kind in ("dealt", "ahead") if found[kind]]
    messages += [(role, step) for role, said in found["said"].items() for step in said]
    return [
        {"name": found["name"], "of": kind, "step": step, "change": change}
        for kind, step in messages
        for change in CHANGES
    ]


def entered() -> dict[str, Any]:
    """An input that no party knows: the client's half, which is a seed, the owner's, and the parts x₀ that it gives."""
    builder = Builder(1, 1)
    x = builder.input("x", "client", (2, 3))
    graph = builder.finish(None, [builder.emit("y", "square", (x,))])
    sharing = RingConfig(force=True, inputs="delegated").build().compile(graph).sharing
    assert sharing is not None
    seed, values = bytes(range(SEED)), np.linspace(-2, 2, 6).reshape(2, 3)
    with patch("secrets.token_bytes", lambda size: seed[:size]):
        client, owner = sharing.split({"x": values})
    (step,) = sharing.plan.inputs
    return {
        "step": step.index,
        "scale": step.scale,
        "ring": step.ring,
        "values": values.tolist(),
        "client": client.hex(),
        "owner": owner.hex(),
        "x0": hexed(sharing.drawn(client)[step.index]),
    }


def vectors() -> dict[str, Any]:
    """All of the file."""
    place = Place(1, 2, 3)
    protocols = [protocol(name, seed) for seed, name in enumerate((*PROTOCOLS, "Output", "OutputInParts"))]
    packed = drawn(np.random.default_rng(9), 5)
    return {
        "format": 1,
        "keys": {name: secret.secret.hex() for name, secret in keys().items()},
        "derived": [
            {"secret": bytes(range(KEY)).hex(), "session": session, "use": use, "key": key.hex()}
            for session, use in (("a session", "client-owner"), ("another", "client-dealer"))
            for key in [derive(bytes(range(KEY)), session, use)]
        ],
        "streams": [
            {
                "key": bytes(KEY).hex(),
                "program": 1,
                "set": 2,
                "step": 3,
                "purpose": int(purpose),
                "words": hexed(stream),
            }
            for purpose in Purpose
            for stream in [Prg(bytes(KEY)).words(place, purpose, (3,))]
        ],
        "packed": {
            "words": hexed(packed),
            **{str(bits): formulas.pack(packed, bits).hex() for bits in (1, 19, 24, 38, 48, 64)},
        },
        "program": 1,
        "set": 1,
        "ring": RING,
        "protocols": protocols,
        "refused": [change for found in protocols for change in refused(found)],
        "entered": entered(),
    }


def begun(found: dict[str, Any]) -> Chain:
    """A vector's steps and weights as a chain: the settings alone, nothing that follows from them."""
    chain, _ = chain_of(found["name"], 0)
    first = found["steps"][0]
    parts = {role: words(text, SHAPE) for role, text in first["parts"].items()}
    chain.steps[0] = Given(index=0, operation="", sources=(), shape=SHAPE, level=0, parts=parts, ring=first["ring"])
    return chain


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
