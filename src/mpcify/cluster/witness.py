"""What a party tells of its sessions and requests: to its log, its metrics and its probes, if it has any."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mpcify.cluster.health import Health
from mpcify.cluster.logs import UNEXPECTED, Log
from mpcify.cluster.metrics import Metrics
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError

WORKING = 3600.0  # seconds that an order may take before the party counts as stuck


@dataclass(frozen=True)
class Witness:
    """One party's. None: nobody listens, as in a program that asks by itself."""

    log: Log | None = None
    metrics: Metrics | None = None
    health: Health | None = None

    def waits(self) -> None:
        """The party waits, and looks around at least once a second."""
        if self.health:
            self.health.beat()

    def works(self) -> None:
        """The party begins with what may take long."""
        if self.health:
            self.health.beat(WORKING)

    def session_opened(self, session: str) -> None:
        """All parties are there and agree."""
        if self.log:
            self.log.event("session-opened", session=session)
        if self.metrics:
            self.metrics.session_opened()

    def session_ended(self, session: str | None, reason: str) -> None:
        """A session ended as it should. reason: a word or two."""
        if self.log:
            self.log.event("session-ended", session=session, reason=reason)
        if self.metrics:
            self.metrics.session_ended()

    def session_failed(self, session: str | None, error: BaseException) -> None:
        """A session ended by an error; None: before it had an id."""
        code = error.code if isinstance(error, MpcifyError) else UNEXPECTED
        if self.log:
            self.log.failure("session-failed", error, session=session)
        if self.metrics:
            self.metrics.failed(code)
            self.metrics.session_ended(code)
            if code == 707:
                self.metrics.decode_failure()

    def round_trips(self, seconds: Mapping[str, float]) -> None:
        """A small message went to each peer and back."""
        for peer, took in seconds.items():
            if self.metrics:
                self.metrics.round_trip(peer, took)

    def answered(self, session: str, number: int, length: int, cost: Cost, began: float) -> None:
        """A request was answered that began at a moment of `time.perf_counter`: what was done ahead of it took no time
        of its own, but it may have waited for that.
        """
        seconds = time.perf_counter() - began
        if self.log:
            told, sent = round(seconds, 3), cost.bytes
            self.log.event("answered", session=session, request=number, length=length, seconds=told, bytes=sent)
        if self.metrics:
            self.metrics.request(seconds, cost, length)
