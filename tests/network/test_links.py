"""Channels in one process: delivery by key, and exact counts."""

import threading
import time

import pytest

from mpcify.network.links import Sent
from mpcify.network.memory import connect_in_process


def test_every_party_has_a_channel_to_each_of_its_peers() -> None:
    assert [sorted(row) for row in connect_in_process(3)] == [[1, 2], [0, 2], [0, 1]]


def test_messages_of_one_key_keep_their_order_and_keys_do_not_wait_for_each_other() -> None:
    client, owner = connect_in_process(2)
    for key, message in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        client[1].send(key, message)
    assert [owner[0].receive(key) for key in ("b", "a", "a")] == [b"2", b"1", b"3"]


def test_both_ends_send_and_each_counts_its_own() -> None:
    client, owner = connect_in_process(2)
    client[1].send("x", bytes(10))
    client[1].send("y", b"")
    owner[0].send("x", bytes(7))
    assert client[1].receive("x") == bytes(7)
    assert (client[1].sent, owner[0].sent) == (Sent(2, 10), Sent(1, 7))


def test_what_is_handed_over_counts_as_sent() -> None:
    client, _ = connect_in_process(2)
    client[1].send("x", bytes(7))
    before = client[1].sent
    client[1].count(100)
    assert client[1].sent - before == Sent(1, 100)


def test_no_message_is_lost_or_counted_twice_between_threads() -> None:
    client, owner = connect_in_process(2)
    threads = [
        threading.Thread(target=lambda sender=sender: [client[1].send(f"{sender}", b"ab") for _ in range(200)])
        for sender in range(8)
    ]
    for thread in threads:
        thread.start()
    received = [owner[0].receive(f"{sender}") for sender in range(8) for _ in range(200)]
    for thread in threads:
        thread.join()
    assert (len(received), client[1].sent) == (1600, Sent(1600, 3200))


def test_receiving_waits_for_the_message() -> None:
    client, owner = connect_in_process(2)
    timer = threading.Timer(0.05, client[1].send, ("late", b"!"))
    timer.start()
    assert owner[0].receive("late") == b"!"


def test_receiving_gives_up_after_its_timeout() -> None:
    client, _ = connect_in_process(2, timeout=0.02)
    with pytest.raises(TimeoutError):
        client[1].receive("never")


def test_closing_wakes_whoever_waits_and_refuses_more() -> None:
    client, owner = connect_in_process(2)
    threading.Timer(0.05, client[1].close).start()
    start = time.monotonic()
    with pytest.raises(ConnectionError):
        owner[0].receive("never")
    assert time.monotonic() - start < 5
    with pytest.raises(ConnectionError):
        owner[0].send("x", b"")
