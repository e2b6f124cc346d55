"""All parties in one process: mailboxes in place of lines."""

import threading
from collections.abc import Mapping, Sequence

from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.mailbox import Mailbox
from mpcify.network.network import Network

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


class Switchboard:
    """Where networks of one process find each other. dialler: the party that opens sessions. timeout: of the links."""

    def __init__(self, names: Sequence[str], dialler: str, timeout: float = PATIENCE) -> None:
        self.names, self.dialler, self.timeout = tuple(names), dialler, timeout
        self.accepting: dict[str, MemoryNetwork] = {}
        self.session: dict[str, MemoryLinks] = {}  # the last one: each party's end
        self.used: set[str] = set()
        self.change = threading.Condition()


class MemoryNetwork(Network):
    """A party's place on a switchboard. There is one of each party at a time, but for the dialling one."""

    def __init__(self, name: str, board: Switchboard) -> None:
        self.name, self.board = name, board
        self._standing: MemoryLinks | None = None  # the session that nobody has taken yet
        self._taken: MemoryLinks | None = None
        self._closed = False
        if name != board.dialler:
            with board.change:
                if name in board.accepting:
                    raise ValueError(f"{name} is there already")
                board.accepting[name] = self
                board.change.notify_all()

    def dial(self, session: str, timeout: float) -> MemoryLinks:
        board = self.board
        if self.name != board.dialler:
            raise ValueError(f"{board.dialler} opens sessions")
        if self._taken is not None:
            self._taken.close("another session begins")
        with board.change:
            board.change.wait_for(lambda: self._closed or not self._absent(), timeout)
            if self._closed:
                raise ConnectionError("the network is closed")
            if absent := self._absent():
                raise MpcifyError(703, absent[0], f"not reached within {timeout:g} s", "start it")
            if session in board.used or (board.session and board.session[self.name].closed is None):
                raise MpcifyError(704, self.name, "the others are in a session, or were in this one", "end that one")
            board.used.add(session)
            board.session = connect(board.names, session, board.timeout)
            for name, network in board.accepting.items():
                network._standing = board.session[name]
            self._taken = board.session[self.name]
            board.change.notify_all()
        return self._taken

    def _absent(self) -> list[str]:
        return [name for name in self.board.names if name != self.name and name not in self.board.accepting]

    def accept(self, timeout: float | None = None) -> MemoryLinks:
        if self._taken is not None:
            self._taken.close(f"{self.name} waits for the next session")
        with self.board.change:
            if not self.board.change.wait_for(lambda: self._closed or self._opened() is not None, timeout):
                raise TimeoutError(f"no session within {timeout:g} s")
            links = self._opened()
            if self._closed or links is None:
                raise ConnectionError("the network is closed")
            self._taken, self._standing = links, None
            return links

    def _opened(self) -> MemoryLinks | None:
        """The session that stands. One that has ended before anybody took it is closed towards all its parties."""
        if self._standing is not None and self._standing.closed is not None:
            self._standing.close(self._standing.closed)
            self._standing = None
        return self._standing

    def close(self) -> None:
        with self.board.change:
            self._closed = True
            if self.board.accepting.get(self.name) is self:
                del self.board.accepting[self.name]
            self.board.change.notify_all()
        for links in (self._standing, self._taken):
            if links is not None:
                links.close(f"{self.name} is stopping")
