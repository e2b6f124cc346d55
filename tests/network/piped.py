"""Links of a child whose parent is the same process."""

import socket

from mpcify.network.links import Links
from mpcify.network.pipe import PipeLinks, Relay


class Piped(PipeLinks):
    """A child's end, relayed over the links that it is given."""

    def __init__(self, links: Links) -> None:
        mine, theirs = socket.socketpair()
        self.links, self.relay = links, Relay(links, mine, f"{links.name} has ended")
        super().__init__(links.name, links.peers, links.session, links.timeout, theirs)
