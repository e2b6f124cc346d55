"""Metrics: what a party counts, under labels that nobody else can add to."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpcify.cluster.metrics import Metrics
from mpcify.engines.cost import Cost

COST = Cost(2.0, 900, 7, {"client": 200, "owner": 300, "helper": 400})


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample as Prometheus would read it; None if there is none."""
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def labels(metrics: Metrics, name: str) -> set[str]:
    """All labels of a metric."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {next(iter(s.labels.values())) for family in families for s in family.samples if s.name == name}


def test_a_request_counts_by_its_length_with_its_seconds_and_what_this_party_sent() -> None:
    metrics = Metrics("owner", [64, 128])
    metrics.request(2.0, COST, 64)
    metrics.request(3.0, COST, 64)
    assert value(metrics, "mpcify_requests_total", length="64") == 2
    assert value(metrics, "mpcify_request_seconds_sum") == 5.0
    assert value(metrics, "mpcify_request_seconds_bucket", le="2.5") == 1
    assert value(metrics, "mpcify_sent_bytes_total") == 600


def test_failures_sessions_and_the_rest_have_their_own_counts() -> None:
    metrics = Metrics("client")
    metrics.failed(706)
    metrics.session_opened()
    metrics.session_opened()
    metrics.session_ended()
    metrics.session_ended(706)
    metrics.waiting(3)
    metrics.round_trip("helper", 0.02)
    metrics.round_trip("dealer", 0.03)
    metrics.certificate(29.5)
    metrics.decode_failure()
    metrics.ready(True)
    assert value(metrics, "mpcify_failures_total", code="706") == 1
    assert value(metrics, "mpcify_sessions_total") == 2
    assert value(metrics, "mpcify_session_ends_total", code="0") == 1
    assert value(metrics, "mpcify_session_ends_total", code="706") == 1
    assert value(metrics, "mpcify_queue") == 3
    assert value(metrics, "mpcify_round_trip_seconds", peer="helper") == 0.02
    assert value(metrics, "mpcify_round_trip_seconds", peer="dealer") == 0.03
    assert value(metrics, "mpcify_certificate_days") == 29.5
    assert value(metrics, "mpcify_decode_failures_total") == 1
    assert value(metrics, "mpcify_ready") == 1
    assert value(metrics, "mpcify_party_info", role="client") == 1


@pytest.mark.parametrize("ok, result", [(True, "right"), (False, "missed"), (None, "failed")])
def test_a_canary_has_one_of_three_results(ok: bool | None, result: str) -> None:
    metrics = Metrics("client")
    metrics.canary(ok)
    counts = {name: value(metrics, "mpcify_canary_total", result=name) for name in ("right", "missed", "failed")}
    assert counts == {"right": 0, "missed": 0, "failed": 0} | {result: 1}


def test_labels_are_bounded_whatever_comes() -> None:
    metrics = Metrics("owner", [64])
    lengths, codes = labels(metrics, "mpcify_requests_total"), labels(metrics, "mpcify_failures_total")
    for number in range(1000, 1100):
        metrics.request(1.0, COST, number)
        metrics.failed(number)
        metrics.session_ended(number)
        metrics.round_trip(f"peer-{number}", 1.0)
    assert labels(metrics, "mpcify_requests_total") == lengths == {"64", "other"}
    assert labels(metrics, "mpcify_failures_total") == codes | {"other"}
    assert labels(metrics, "mpcify_round_trip_seconds") == {"other"}
    assert value(metrics, "mpcify_requests_total", length="other") == 100


def test_the_first_failure_is_a_rise_from_zero() -> None:
    """Prometheus sees no rise in a series that begins with 1."""
    metrics = Metrics("owner")
    assert value(metrics, "mpcify_failures_total", code="707") == 0
    assert value(metrics, "mpcify_session_ends_total", code="707") == 0


def test_a_certificate_that_nobody_looked_at_expires_in_no_number_of_days() -> None:
    days = value(Metrics("owner"), "mpcify_certificate_days")
    assert days is not None
    assert not days < 30


def test_two_parties_of_one_process_share_no_count() -> None:
    first, second = Metrics("owner"), Metrics("helper")
    first.session_opened()
    assert value(second, "mpcify_sessions_total") == 0
