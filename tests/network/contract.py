"""What links promise, whatever carries them: a class of tests that each implementation inherits."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mpcify.network.links import Links, Sent

NAMES = ("client", "owner", "helper")
Connect = Callable[..., Mapping[str, Links]]


class LinkContract(ABC):
    """Tests of one implementation, which says in `connect` how its links are made."""

    @abstractmethod
    def connect(self, names: Sequence[str], session: str, timeout: float) -> Mapping[str, Links]:
        """Each party's end of the links between all pairs of these parties."""

    @contextmanager
    def connected(self, *names: str, session: str = "s", timeout: float = 20) -> Iterator[list[Links]]:
        """The ends of these parties, in their order; closed afterwards."""
        ends = self.connect(names, session, timeout)
        try:
            yield [ends[name] for name in names]
        finally:
            for end in ends.values():
                end.close()

    def test_every_party_knows_its_name_its_peers_and_the_session(self) -> None:
        with self.connected(*NAMES, session="7f3a") as ends:
            assert [end.name for end in ends] == [*NAMES]
            assert [set(end.peers) for end in ends] == [{*NAMES} - {name} for name in NAMES]
            assert {end.session for end in ends} == {"7f3a"}

    def test_a_message_reaches_the_peer_that_it_is_for_and_nobody_else(self) -> None:
        with self.connected(*NAMES) as (client, owner, helper):
            client.send("helper", "k", b"for the helper")
            owner.send("helper", "k", b"from the owner")
            assert helper.receive("client", "k") == b"for the helper"
            assert helper.receive("owner", "k") == b"from the owner"
            owner.timeout = 0.1
            with pytest.raises(TimeoutError):
                owner.receive("client", "k")

    def test_keys_do_not_wait_for_each_other(self) -> None:
        with self.connected("a", "b") as (a, b):
            for number in range(5):
                a.send("b", f"k{number}", bytes([number]))
            assert [b.receive("a", f"k{number}")[0] for number in (3, 0, 4, 2, 1)] == [3, 0, 4, 2, 1]

    @pytest.mark.parametrize("key", ["k", "k1", "k01", "1", "", "k-1:0->1", "ключ 7", "k" * 500])
    def test_a_key_is_used_once_towards_a_peer(self, key: str) -> None:
        with self.connected(*NAMES) as (client, owner, helper):
            client.send("owner", key, b"first")
            with pytest.raises(ValueError, match="before"):
                client.send("owner", key, b"second")
            client.send("helper", key, b"another peer's")
            owner.send("client", key, b"the other way")
            assert client.sent == Sent(2, len(b"firstanother peer's"))
            assert owner.receive("client", key) == b"first"
            with pytest.raises(ValueError, match="before"):
                owner.receive("client", key)
            with pytest.raises(ValueError, match="before"):
                client.send("owner", key, b"after it was taken")
            assert helper.receive("client", key) == b"another peer's"
            assert client.receive("owner", key) == b"the other way"

    def test_keys_that_look_alike_are_different(self) -> None:
        keys = ["k1", "k01", "k001", "k10", "k", "1", "01", "k1 ", "K1", "k1\n"]
        with self.connected("a", "b") as (a, b):
            for place, key in enumerate(keys):
                a.send("b", key, bytes([place]))
            assert [b.receive("a", key)[0] for key in keys] == [*range(len(keys))]

    def test_messages_of_any_size_arrive_whole(self) -> None:
        messages = [b"", b"x", bytes(range(256)) * 300, bytes(5 << 20)]
        with self.connected("a", "b") as (a, b):
            for place, message in enumerate(messages):
                a.send("b", f"size{place}", message)
            assert [b.receive("a", f"size{place}") for place in range(len(messages))] == messages

    def test_nothing_is_lost_mixed_up_or_counted_twice_between_threads(self) -> None:
        with self.connected("a", "b") as (a, b), ThreadPoolExecutor(16) as pool:

            def sends(end: Links, peer: str, sender: int) -> None:
                for number in range(100):
                    end.send(peer, f"{sender}/{number}", f"{end.name}{sender}:{number}".encode())

            def takes(end: Links, peer: str, sender: int) -> list[bytes]:
                return [end.receive(peer, f"{sender}/{number}") for number in range(100)]

            sent = [pool.submit(sends, end, peer, sender) for end, peer in ((a, "b"), (b, "a")) for sender in range(4)]
            taken = [pool.submit(takes, end, peer, sender) for end, peer in ((a, "b"), (b, "a")) for sender in range(4)]
            for future in sent:
                future.result()
            expected = [
                [f"{peer}{sender}:{n}".encode() for n in range(100)] for peer in ("b", "a") for sender in range(4)
            ]
            assert [future.result() for future in taken] == expected
            size = sum(len(f"a{sender}:{number}") for sender in range(4) for number in range(100))
            assert (a.sent, b.sent) == (Sent(400, size), Sent(400, size))

    def test_each_end_counts_the_contents_that_it_sent_exactly(self) -> None:
        with self.connected(*NAMES) as (client, owner, helper):
            client.send("owner", "a long key that does not count", bytes(10))
            before = client.sent
            client.send("helper", "x", bytes(1000))
            client.send("owner", "y", b"")
            owner.send("client", "x", bytes(7))
            owner.receive("client", "y")
            assert client.sent - before == Sent(2, 1000)
            assert (client.sent, owner.sent, helper.sent) == (Sent(3, 1010), Sent(1, 7), Sent())

    def test_receiving_waits_for_the_message(self) -> None:
        with self.connected("a", "b") as (a, b):
            threading.Timer(0.05, a.send, ("b", "late", b"!")).start()
            assert b.receive("a", "late") == b"!"

    def test_receiving_gives_up_after_its_timeout_and_may_ask_again(self) -> None:
        with self.connected("a", "b", timeout=0.05) as (a, b):
            with pytest.raises(TimeoutError, match=r"a sent b no 'late' within 0\.05 s"):
                b.receive("a", "late")
            a.send("b", "late", b"!")
            b.timeout = 20
            assert b.receive("a", "late") == b"!"

    def test_sending_does_not_wait_for_the_peer_to_take_it(self) -> None:
        with self.connected("a", "b") as (a, b):
            for end, peer in ((a, "b"), (b, "a")):
                for number in range(8):
                    end.send(peer, f"k{number}", bytes(1 << 20))
            assert len(a.receive("b", "k7")) == len(b.receive("a", "k7")) == 1 << 20

    def test_a_name_that_is_no_peers_is_refused(self) -> None:
        with self.connected("a", "b") as (a, _):
            for name in ("c", "a", ""):
                with pytest.raises(ValueError, match=f"no link to '{name}'"):
                    a.send(name, "k", b"")
                with pytest.raises(ValueError, match=f"no link to '{name}'"):
                    a.receive(name, "k")

    def test_closing_wakes_whoever_waits_at_either_end_and_refuses_more(self) -> None:
        with self.connected(*NAMES) as (client, owner, helper), ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(owner.receive, "client", "never"), pool.submit(client.receive, "helper", "never")]
            time.sleep(0.1)
            start = time.monotonic()
            client.close()
            for future in waiting:
                with pytest.raises(ConnectionError, match="closed"):
                    future.result()
            assert time.monotonic() - start < 5
            for end, peer in ((client, "owner"), (owner, "client"), (helper, "client")):
                with pytest.raises(ConnectionError, match=f"between {end.name} and {peer} is closed"):
                    end.receive(peer, "k")
            with pytest.raises(ConnectionError, match="between client and owner is closed"):
                client.send("owner", "k", b"")
            client.close()

    def test_what_arrived_before_the_link_was_closed_can_be_taken(self) -> None:
        with self.connected("a", "b") as (a, b):
            a.send("b", "last", b"words")
            a.send("b", "then", b"")
            b.receive("a", "then")  # by now both are there
            a.close()
            assert b.receive("a", "last") == b"words"

    def test_another_link_of_a_closed_partys_peers_goes_on(self) -> None:
        with self.connected(*NAMES) as (client, owner, helper):
            client.close()
            owner.send("helper", "k", b"on")
            assert helper.receive("owner", "k") == b"on"

    def test_sessions_neither_see_each_others_messages_nor_share_keys(self) -> None:
        with self.connected("a", "b", session="1") as one, self.connected("a", "b", session="2") as two:
            one[0].send("b", "k", b"of session 1")
            two[0].send("b", "k", b"of session 2")
            one[0].send("b", "only there", b"")
            assert (one[1].receive("a", "k"), two[1].receive("a", "k")) == (b"of session 1", b"of session 2")
            two[0].close()
            one[1].receive("a", "only there")
            with pytest.raises(ConnectionError):
                two[1].receive("a", "only there")
