"""A party's place among its peers, for as long as its process lives: it opens sessions, or waits for them."""

from abc import ABC, abstractmethod
from typing import Self

from mpcify.network.links import Links


class Network(ABC):
    """Where a party meets its peers. One party of a cluster dials (the client); the others accept what it opens.

    name: of this party. A party has one session at a time.
    """

    name: str

    @abstractmethod
    def dial(self, session: str, timeout: float) -> Links:
        """Opens a session of all parties under an id that was never used before, and returns its links.

        Tries again while a peer is not there. Raises MPC-703 after `timeout` seconds, and MPC-704 at once from a peer
        that refuses this party, or is another than it should be.
        """

    @abstractmethod
    def accept(self, timeout: float | None = None) -> Links:
        """Waits until the dialling party has opened a session and all others have joined it; its links.

        What began and was not joined is forgotten. Raises TimeoutError after `timeout` seconds (None: never),
        ConnectionError if the network is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the session that there is, and lets nobody in any more. Who waits in `accept` is woken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
