"""Costs: their sums and medians, the part that is done ahead, and their JSON."""

from typing import Any

import pytest

from mpcify.engines.cost import Cost, line, median

AHEAD = Cost(2.0, 60, 3, {"owner": 40, "dealer": 20})
WHOLE = Cost(5.0, 100, 10, {"client": 30, "owner": 50, "dealer": 20}, offline=AHEAD)


def test_what_is_left_online_is_the_cost_without_its_offline_part() -> None:
    assert WHOLE.online == Cost(3.0, 40, 7, {"client": 30, "owner": 10, "dealer": 0})
    assert AHEAD.online == AHEAD, "nothing of it was done ahead"
    assert (WHOLE + WHOLE).offline == AHEAD + AHEAD
    assert (AHEAD + WHOLE).offline == AHEAD


def test_json_splits_a_cost_only_if_part_of_it_was_done_ahead() -> None:
    assert list(AHEAD.to_json()) == ["seconds", "bytes", "bytes_per_party", "rounds"]
    values = WHOLE.to_json()
    assert values["online"] == WHOLE.online.to_json()
    assert values["offline"] == AHEAD.to_json()
    placed = Cost(1.0, 5, 1, {"client": 5}, setup=AHEAD)
    assert list(placed.to_json()) == ["seconds", "bytes", "bytes_per_party", "rounds", "setup"]
    for cost in (AHEAD, WHOLE, placed, Cost()):
        assert Cost.from_json(cost.to_json()) == cost


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": 3},
        {"setup": {"minutes": 3}},
        {"offline": AHEAD.to_json(), "online": AHEAD.to_json(), "seconds": 1.0},
        {"online": AHEAD.to_json()},
        {"seconds": "1"},
        {"bytes": -1},
        {"rounds": True},
        {"bytes_per_party": [1]},
        {"bytes": [1]},
        {"bytes_per_party": {"owner": None}},
        {"bytes_per_party": 5},
    ],
    ids=str,
)
def test_fields_that_no_cost_has_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cost"):
        Cost.from_json(wrong)


@pytest.mark.parametrize("wrong", [[], None, 3, "cost"])
def test_what_is_no_object_is_no_cost(wrong: Any) -> None:
    with pytest.raises(TypeError):
        Cost.from_json(wrong)


def test_a_median_is_of_each_part() -> None:
    costs = [
        Cost(seconds, 10, rounds, {"a": sent, "b": 10 - sent})
        for seconds, rounds, sent in ((3, 1, 4), (1, 5, 6), (2, 3, 5))
    ]
    assert median(costs) == Cost(2, 10, 3, {"a": 5, "b": 5})
    assert median([WHOLE, WHOLE]) == WHOLE
    placed = Cost(1.0, setup=AHEAD)
    assert median([placed, Cost(3.0)]) == Cost(2.0, setup=AHEAD)


def test_a_line_says_what_was_sent_if_anything_was() -> None:
    assert line(Cost(1.25, 2_000_000, 7).to_json()) == "1.25 s, 2.0 MB, 7 rounds"
    assert line(Cost(1.25).to_json()) == "1.25 s"
    assert line(Cost(1.25, 1, 1).to_json()) == "1.25 s, 0.0 MB, 1 round"


def test_a_line_keeps_apart_what_was_done_ahead() -> None:
    ahead = Cost(2.0, 3_000_000, 3)
    assert line(Cost(5.5, 10_000_000, 8, offline=ahead).to_json()) == (
        "3.50 s, 7.0 MB, 5 rounds; ahead 2.00 s, 3.0 MB, 3 rounds"
    )


def test_rounding_leaves_no_time_below_zero() -> None:
    spent = [Cost(0.1 * number, offline=Cost(0.1 * number)) for number in range(1, 9)]
    assert sum(spent, Cost()).online.seconds == 0.0
    assert Cost(0.3, offline=Cost(0.1 + 0.2)).online.seconds == 0.0
