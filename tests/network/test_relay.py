"""Lines of a rate and a delay: when a frame arrives that has to wait for others."""

import pytest

from mpcify.network.relay import Lines


def test_a_frame_takes_its_length_and_the_delay_and_both_lines_at_the_same_time() -> None:
    lines = Lines(3, rate=100.0, delay=0.25)
    assert lines.arrival(1, 50, lines.sent(0, 50, now=10.0)) == 10.75


def test_frames_of_one_sender_wait_for_each_other() -> None:
    lines = Lines(3, rate=100.0, delay=0.25)
    arrivals = [lines.arrival(goal, 50, lines.sent(0, 50, now=10.0)) for goal in (1, 2)]
    assert arrivals == [10.75, 11.25]


def test_frames_of_two_senders_wait_at_the_receivers_line() -> None:
    lines = Lines(3, rate=100.0, delay=0.25)
    arrivals = [lines.arrival(2, 50, lines.sent(source, 50, now=10.0)) for source in (0, 1)]
    assert arrivals == [10.75, 11.25]


def test_both_ways_are_apart_and_a_line_that_was_free_is_no_sooner() -> None:
    lines = Lines(2, rate=100.0, delay=0.0)
    there, back = (lines.arrival(1 - source, 50, lines.sent(source, 50, now=10.0)) for source in (0, 1))
    assert there == back == 10.5
    assert lines.arrival(1, 50, lines.sent(0, 50, now=20.0)) == pytest.approx(20.5)
