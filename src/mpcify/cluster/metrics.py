"""What a party counts, for Prometheus. Every label is one of a known few; none is a peer's or a caller's word."""

import math
from collections.abc import Collection

import prometheus_client as prometheus

from mpcify.engines.cost import Cost
from mpcify.errors import CODES
from mpcify.graph.index import ROLES
from mpcify.requests.text import BUCKETS

OTHER = "other"  # what is not among the known
ENDED = 0  # in place of a number: a session that ended as it should
RESULTS = {True: "right", False: "missed", None: "failed"}
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
OF_SESSIONS = [code for code in CODES if code in (402, 503, 903) or code // 100 == 7]  # what a session may meet


class Metrics:
    """The counts of one party since its start, in a registry of its own. Any thread may add.

    role: the party's. lengths: that it serves; a request of another counts as `other`.
    """

    def __init__(self, role: str, lengths: Collection[int] = BUCKETS) -> None:
        self.role, self.lengths = role, frozenset(lengths)
        own = self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=own)
        prometheus.Info("mpcify_party", "The party that this process is.", registry=own).info({"role": role})
        self.requests = prometheus.Counter("mpcify_requests", "Requests answered.", ["length"], registry=own)
        self.duration = prometheus.Histogram(
            "mpcify_request_seconds", "Wall time of an answered request.", registry=own, buckets=SECONDS
        )
        self.sent = prometheus.Counter("mpcify_sent_bytes", "Sent by this party for answered requests.", registry=own)
        self.failures = prometheus.Counter("mpcify_failures", "Failures by error number.", ["code"], registry=own)
        self.sessions = prometheus.Counter("mpcify_sessions", "Sessions opened.", registry=own)
        self.ends = prometheus.Counter(
            "mpcify_session_ends", "Sessions ended, by error number; 0 as they should.", ["code"], registry=own
        )
        self.queue = prometheus.Gauge("mpcify_queue", "Requests that wait.", registry=own)
        self.halves = prometheus.Gauge(
            "mpcify_halves", "Halves of requests that wait for the delegate's order.", registry=own
        )
        self.expired = prometheus.Counter(
            "mpcify_expired_halves", "Halves for which no order came in time.", registry=own
        )
        self.round_trips = prometheus.Gauge(
            "mpcify_round_trip_seconds", "Time of the last small message to a peer and back.", ["peer"], registry=own
        )
        self.days = prometheus.Gauge(
            "mpcify_certificate_days", "Days until this party's certificate expires.", registry=own
        )
        self.decoding = prometheus.Counter(
            "mpcify_decode_failures", "Messages of peers that could not be read.", registry=own
        )
        self.canaries = prometheus.Counter("mpcify_canary", "Known answers asked for.", ["result"], registry=own)
        self.readiness = prometheus.Gauge("mpcify_ready", "Whether the party can take a session.", registry=own)
        self.start()

    def start(self) -> None:
        """Gives every counter its labels, so that the first event of each shows as a rise; a gauge that nobody has set
        is not a number, which no alert takes for one.
        """
        for length in (*sorted(self.lengths), OTHER):
            self.requests.labels(length)
        for code in OF_SESSIONS:
            self.failures.labels(code)
            self.ends.labels(code)
        self.ends.labels(ENDED)
        for result in RESULTS.values():
            self.canaries.labels(result)
        self.days.set(math.nan)

    def request(self, seconds: float, cost: Cost, length: int) -> None:
        """A request was answered. cost: as far as this party knows it."""
        self.requests.labels(length if length in self.lengths else OTHER).inc()
        self.duration.observe(seconds)
        self.sent.inc(cost.bytes_per_party.get(self.role, 0))

    def failed(self, code: int) -> None:
        """Something failed, with a number of the table."""
        self.failures.labels(known(code)).inc()

    def session_opened(self) -> None:
        """All parties have joined a session."""
        self.sessions.inc()

    def session_ended(self, reason_code: int = ENDED) -> None:
        """A session ended, as it should (0) or by an error."""
        self.ends.labels(reason_code if reason_code == ENDED else known(reason_code)).inc()

    def waiting(self, count: int) -> None:
        """So many requests wait now."""
        self.queue.set(count)

    def halves_waiting(self, count: int) -> None:
        """So many halves wait for the delegate's order now."""
        self.halves.set(count)

    def half_expired(self) -> None:
        """For a half no order came in time."""
        self.expired.inc()

    def round_trip(self, peer: str, seconds: float) -> None:
        """A small message went to a peer and back."""
        self.round_trips.labels(peer if peer in ROLES else OTHER).set(seconds)

    def certificate(self, days: float) -> None:
        """This party's certificate expires in so many days."""
        self.days.set(days)

    def decode_failure(self) -> None:
        """A peer's message could not be read."""
        self.decoding.inc()

    def canary(self, ok: bool | None) -> None:
        """A known answer was given (True), another one (False), or none (None)."""
        self.canaries.labels(RESULTS[ok]).inc()

    def ready(self, ok: bool) -> None:
        """The party can take a session, or cannot."""
        self.readiness.set(ok)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)


def known(code: int) -> int | str:
    """The number, if it is in the table."""
    return code if code in CODES else OTHER
