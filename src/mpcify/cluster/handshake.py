"""What the parties of a session agree on before anything is shared.

1. Each party draws a nonce of 32 bytes and sends it to every peer, with a digest of each thing that must be equal.
2. Each computes id = SHA-256(every party's name and nonce, in the order of the names; the digests), and sends it.
A party that told two peers different nonces is found in step 2; one that holds another graph, in step 1. Nobody can
bring about an id that was used before, as every party's nonce is in it.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from mpcify.errors import MpcifyError
from mpcify.network.links import Links

NONCE = DIGEST = 32  # bytes
HELLO, SESSION = "hello", "session"
PATIENCE = 60.0  # seconds for all of it: everybody is connected, but may be busy with the end of another session
SAME = "give every party its folder of the same `mpcify party init`, and the same versions of mpcify and its engine"


def shake_hands(links: Links, facts: Mapping[str, Any]) -> str:
    """The session's id, which the links then have too.

    facts: JSON values by what they are, as errors call it; equal at every party. Raises MPC-705 if a peer has others,
    MPC-707 for a peer that does not follow the protocol, ConnectionError and TimeoutError as links do.
    """
    end = time.monotonic() + min(PATIENCE, links.timeout)

    def hear(peer: str, key: str) -> bytes:
        return links.receive(peer, key, max(0.0, end - time.monotonic()))

    nonce = secrets.token_bytes(NONCE)
    mine = {name: digest_of(value) for name, value in sorted(facts.items())}
    for peer in links.peers:
        links.send(peer, HELLO, nonce + b"".join(mine.values()))
    nonces = {links.name: nonce}
    unlike: dict[str, str] = {}
    for peer in links.peers:
        hello = hear(peer, HELLO)
        if len(hello) != NONCE + DIGEST * len(mine):
            raise against_protocol(peer, "its first message has another length")
        nonces[peer] = hello[:NONCE]
        for place, (name, digest) in enumerate(mine.items()):
            start = NONCE + DIGEST * place
            if hello[start : start + DIGEST] != digest:
                unlike.setdefault(peer, name)
    for peer, name in unlike.items():  # by now each peer has this party's hello too, and refuses for itself
        raise MpcifyError(705, f"party {peer}", f"it has other {name} than {links.name}", SAME)
    said = b"".join(digest_of([name, nonces[name].hex()]) for name in sorted(nonces))
    session = hashlib.sha256(said + b"".join(mine.values())).digest()
    for peer in links.peers:
        links.send(peer, SESSION, session)
    for peer in links.peers:
        if not secrets.compare_digest(hear(peer, SESSION), session):
            raise against_protocol(peer, "it has another session id: somebody told two parties different things")
    links.session = session.hex()
    return links.session


def digest_of(value: Any) -> bytes:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


def against_protocol(peer: str, what: str) -> MpcifyError:
    """The error for a peer that sends what no party sends that follows the protocol."""
    return MpcifyError(707, f"party {peer}", what, "see that it runs the same version, and is what it should be")
