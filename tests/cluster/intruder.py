"""Somebody who has a party's kit and keeps no rule: links whose frames may be any bytes, in any state."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mpcify.cluster.deployed import programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.handshake import shake_hands
from mpcify.cluster.keys import read_kit
from mpcify.network.links import Limits, Links
from mpcify.network.tls import Credentials
from mpcify.network.wire import LET_IN, STANDS, Goodbye, Reader, frames, goodbye
from tests.network.hostile import Hostile, HostileServer, Talk

LIMITS = Limits(message=1 << 30, waiting=1 << 30)


def credentials_of(folder: Path) -> Credentials:
    """What proves a deployed party's name."""
    deployment = read_deployment(folder)
    kit = read_kit(deployment.kit, deployment.role)
    return Credentials(kit.certificate, kit.key, kit.authority)


class Intruder(Links):
    """A party's links over raw streams. talks: the streams, by peer; `talks[peer].say` sends any frames."""

    def __init__(self, name: str, folder: Path, session: str, talks: Mapping[str, Talk]) -> None:
        super().__init__(name, talks, session, 10.0)
        self.folder, self.talks = folder, talks
        for peer in talks:
            threading.Thread(target=self.pump, args=(peer,), daemon=True).start()

    def pump(self, peer: str) -> None:
        """Reads a stream until it ends; the other side's reason is then why the links are closed."""
        reader, reason = Reader(LIMITS), "the stream ended"
        while (frame := self.talks[peer].hear(60)) is not None:
            found = reader.read(frame)
            if isinstance(found, Goodbye):
                reason = str(found)
                self.talks[peer].hang_up()
            elif found is not None:
                self.inboxes[peer].put(*found)
        self.talks[peer].hang_up()
        self.inboxes[peer].close(reason)

    def post(self, peer: str, key: str, message: bytes) -> None:
        self.talks[peer].say(*frames(key, message))

    def close(self, reason: str = "") -> None:
        for talk in self.talks.values():
            talk.say(goodbye(reason))
            talk.hang_up()

    def shake_hands(self) -> str:
        """What an honest party does first."""
        return shake_hands(self, programs_of(read_deployment(self.folder)).facts)

    def say(self, key: str, message: bytes) -> None:
        """Sends everybody the same."""
        for peer in self.peers:
            self.send(peer, key, message)

    def reasons(self, patience: float = 10.0) -> dict[str, str]:
        """Why each peer ended the session."""
        found = {}
        for peer in self.peers:
            try:
                self.receive(peer, f"never {secrets.token_hex(4)}", patience)
            except ConnectionError as error:
                found[peer] = str(error).partition("is closed: ")[2]
        return found


@contextmanager
def rogue_client(folder: Path, session: str | None = None) -> Iterator[Intruder]:
    """A client gone bad, in a session that owner and helper have joined. folder: the client's."""
    deployment, session = read_deployment(folder), session or secrets.token_hex(16)
    with ExitStack() as stack:
        talks = {}
        for peer, address in deployment.peers.items():
            hostile = stack.enter_context(Hostile(str(address), peer, credentials_of(folder)))
            talks[peer] = hostile.open(session)
        for talk in talks.values():
            assert (talk.hear(), talk.hear()) == (LET_IN, STANDS)
        yield Intruder("client", folder, session, talks)


@contextmanager
def rogue_third(folder: Path) -> Iterator["Waiting"]:
    """A helper or a dealer gone bad, who waits for the client. folder: its own."""
    deployment = read_deployment(folder)
    with (
        HostileServer(str(deployment.listen), credentials_of(folder)) as server,
        Hostile(str(deployment.peers["owner"]), "owner", credentials_of(folder)) as caller,
    ):
        yield Waiting(folder, server, caller)


class Waiting:
    """Where one gone bad is found."""

    def __init__(self, folder: Path, server: HostileServer, caller: Hostile) -> None:
        self.folder, self.server, self.caller = folder, server, caller

    def join(self) -> Intruder:
        """Joins the next session that the client opens."""
        session, to_client = self.server.answer()
        to_owner = self.caller.enter(session)
        to_client.say(LET_IN, STANDS)
        role = read_deployment(self.folder).role
        return Intruder(role, self.folder, session, {"client": to_client, "owner": to_owner})
