"""What a network promises, whatever carries it: a class of tests that each implementation inherits."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpcify.errors import MpcifyError
from mpcify.network.links import Links
from mpcify.network.network import Network

NAMES = ("client", "owner", "helper")


def new_session() -> str:
    """An id that was never used before."""
    return os.urandom(16).hex()


def opened(*networks: Network, timeout: float = 15) -> list[Links]:
    """Every party's links of a new session; the first one dials."""
    with ThreadPoolExecutor(len(networks)) as pool:
        accepted = [pool.submit(network.accept, timeout) for network in networks[1:]]
        return [networks[0].dial(new_session(), timeout), *(future.result() for future in accepted)]


def talk(links: list[Links], key: str = "k") -> None:
    """Every party sends to every other and reads what those sent."""
    for end in links:
        for peer in end.peers:
            end.send(peer, key, f"{end.name} to {peer}".encode())
    for end in links:
        for peer in end.peers:
            assert end.receive(peer, key) == f"{peer} to {end.name}".encode()


class NetworkContract(ABC):
    """Tests of one implementation, which says in `network` how a party joins. The client dials."""

    @pytest.fixture(autouse=True)
    @abstractmethod
    def place(self) -> Iterator[None]:
        """A place for the networks of one test, which are closed at its end."""

    @abstractmethod
    def network(self, name: str) -> Network:
        """A party's network in that place; once it is closed, there may be another one of this name."""

    def all(self) -> list[Network]:
        """The networks of all parties, the client's first."""
        return [self.network(name) for name in NAMES]

    def test_a_session_has_links_between_all_pairs(self) -> None:
        links = opened(*self.all())
        assert [end.name for end in links] == [*NAMES]
        assert len({end.session for end in links}) == 1
        talk(links)

    def test_the_session_is_the_one_that_was_dialled(self) -> None:
        client, owner, helper = self.all()
        session = new_session()
        assert client.dial(session, 15).session == session
        assert {owner.accept(15).session, helper.accept(15).session} == {session}

    def test_when_a_session_was_closed_the_next_one_begins_at_once_and_knows_none_of_its_keys(self) -> None:
        networks = self.all()
        for _ in range(3):
            links = opened(*networks)
            talk(links)
            for end in links:
                end.close("done")

    def test_the_peers_get_what_was_sent_before_the_end_and_then_its_reason(self) -> None:
        for place, networks in enumerate([self.all()] * 3):
            links = opened(*networks)
            ending = links[place]
            for peer in ending.peers:
                ending.send(peer, "last", bytes(3 << 20))
            ending.close("it has what it wants")
            ending.close("only the first reason counts")
            for end in links:
                if end is not ending:
                    assert end.receive(ending.name, "last") == bytes(3 << 20)
                    with pytest.raises(
                        ConnectionError, match=f"{end.name} and {ending.name} is closed: it has what it wants$"
                    ):
                        end.receive(ending.name, "more")

    def test_who_accepts_or_dials_again_has_ended_the_session_before(self) -> None:
        networks = self.all()
        before = opened(*networks)
        talk(opened(*networks))
        for end in before:
            for peer in end.peers:
                with pytest.raises(ConnectionError, match="closed"):
                    end.receive(peer, "k")

    @pytest.mark.parametrize("absent", ["owner", "helper"])
    def test_a_peer_that_is_not_there_is_named_in_time_and_what_began_is_forgotten(self, absent: str) -> None:
        there = {name: self.network(name) for name in NAMES if name != absent}
        began = time.monotonic()
        with pytest.raises(MpcifyError, match=f"MPC-703 {absent}: not reached"):
            there["client"].dial(new_session(), 1.0)
        assert 0.9 < time.monotonic() - began < 6
        other = next(network for name, network in there.items() if name != "client")
        with pytest.raises(TimeoutError):
            other.accept(0.1)
        there[absent] = self.network(absent)
        talk(opened(*(there[name] for name in NAMES)))

    def test_a_peer_that_comes_late_is_waited_for(self) -> None:
        client, owner = self.network("client"), self.network("owner")
        with ThreadPoolExecutor(1) as pool:
            dialled = pool.submit(client.dial, new_session(), 15)
            time.sleep(0.6)
            helper = self.network("helper")
            links = [owner.accept(15), helper.accept(15)]
            talk([dialled.result(), *links])

    def test_when_a_party_stops_the_others_learn_why_and_go_on_when_it_is_back(self) -> None:
        client, owner, helper = self.all()
        links = opened(client, owner, helper)
        helper.close()
        for end in links[:2]:
            with pytest.raises(ConnectionError, match=r"between .* and helper is closed: helper is stopping"):
                end.receive("helper", "k")
        talk(opened(client, owner, self.network("helper")))

    def test_when_the_dialling_party_has_gone_the_next_one_of_its_name_is_let_in(self) -> None:
        client, owner, helper = self.all()
        links = opened(client, owner, helper)
        client.close()
        for end in links[1:]:
            with pytest.raises(ConnectionError, match="client is stopping"):
                end.receive("client", "k")
        talk(opened(self.network("client"), owner, helper))

    def test_while_a_party_is_connected_nobody_else_is_under_its_name(self) -> None:
        links = opened(*self.all())
        with pytest.raises(MpcifyError, match="MPC-704"):
            self.network("client").dial(new_session(), 15)
        talk(links)

    def test_a_session_that_was_there_is_not_opened_again(self) -> None:
        client, owner, helper = self.all()
        session = new_session()
        client.dial(session, 15).close()
        with pytest.raises(MpcifyError, match="MPC-704"):
            client.dial(session, 15)
        talk(opened(client, owner, helper))

    def test_a_session_that_ended_before_it_was_accepted_is_not_given_out(self) -> None:
        client, owner, helper = self.all()
        client.dial(new_session(), 15).close()
        with pytest.raises(TimeoutError, match=r"no session within 0\.1 s"):
            owner.accept(0.1)
        talk(opened(client, owner, helper))

    def test_closing_wakes_who_accepts_and_ends_the_session(self) -> None:
        owner = self.network("owner")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(owner.accept)
            time.sleep(0.1)
            owner.close()
            with pytest.raises(ConnectionError, match="closed"):
                waiting.result(timeout=5)
        with pytest.raises(ConnectionError, match="closed"):
            owner.accept()

    def test_closing_wakes_who_dials(self) -> None:
        client = self.network("client")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.dial, new_session(), 30)
            time.sleep(0.3)
            client.close()
            with pytest.raises(ConnectionError, match="closed"):
                waiting.result(timeout=5)

    def test_only_the_dialling_party_dials(self) -> None:
        with pytest.raises(ValueError, match="client opens sessions"):
            self.network("owner").dial(new_session(), 1)
