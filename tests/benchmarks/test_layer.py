"""One layer by hosts of their own: how an estimate is held beside what was measured, and what the page says."""

import pytest

from benchmarks.reliability.layer import beside
from benchmarks.reliability.report import layer
from mpcify.engines.cost import Cost


def spent(online: float, sent: int) -> Cost:
    """A cost with so much of it online, and as much again ahead."""
    ahead = Cost(online, sent, 2, {"client": sent})
    return Cost(2 * online, 2 * sent, 4, {"client": 2 * sent}, offline=ahead)


def test_an_estimate_is_compared_without_what_is_ahead_and_an_error_above_it_is_positive() -> None:
    found = beside(spent(0.25, 50).to_json(), spent(0.2, 100))
    assert found["told_seconds"] == 0.25
    assert found["error"] == pytest.approx(0.25)
    assert found["bytes_error"] == pytest.approx(-0.5)


def test_the_page_has_an_estimate_where_there_is_a_network() -> None:
    row = {"recipe": "2quad-freediv", "engine": "ring", "seconds": 0.2, "seconds_at_client": 0.21}
    shaped = {**row, **beside(spent(0.25, 50).to_json(), spent(0.2, 50))}
    runs = [
        {"network": None, "round_trip_ms": 0.05, "rows": [row]},
        {"network": "0.4,1", "round_trip_ms": 0.41, "rows": [shaped]},
    ]
    assert [*layer({"runs": runs})] == [
        ["2quad-freediv", "ring", "as fast as the machine", "0.200", "0.210", "", ""],
        ["2quad-freediv", "ring", "0.41 ms, 1 Gbit/s", "0.200", "0.210", "0.250", "+25 %"],
    ]
