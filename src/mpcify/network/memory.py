"""All parties in one process: mailboxes in place of lines."""

from collections.abc import Mapping, Sequence

from mpcify.network.links import Links
from mpcify.network.mailbox import Mailbox

# Homomorphic products keep a party silent for minutes, and a party of this process cannot vanish unseen.
PATIENCE = 24 * 3600.0


class MemoryLinks(Links):
    """Links to parties in the same process: a message is handed over, not copied. `connect` makes them."""

    def __init__(self, name: str, peers: Sequence[str], session: str, timeout: float) -> None:
        super().__init__(name, peers, session, timeout)
        self.outboxes: Mapping[str, Mailbox] = {}  # the peers' inboxes for this party

    def post(self, peer: str, key: str, message: bytes) -> None:
        self.outboxes[peer].put(key, message)

    def close(self, reason: str = "") -> None:
        for box in (*self.inboxes.values(), *self.outboxes.values()):
            box.close(reason)


def connect(names: Sequence[str], session: str = "memory", timeout: float = PATIENCE) -> dict[str, MemoryLinks]:
    """Links between all pairs of parties: each party's end, by its name."""
    ends = {name: MemoryLinks(name, [peer for peer in names if peer != name], session, timeout) for name in names}
    for name, end in ends.items():
        end.outboxes = {peer: ends[peer].inboxes[name] for peer in end.peers}
    return ends
