"""Links in one process keep the contract; keys that were used are remembered exactly, in little room."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tcp import TcpLinks
from mpcify.cluster.addresses import Address, free_addresses
from mpcify.network.links import Links
from mpcify.network.mailbox import Keys, Mailbox
from mpcify.network.memory import connect
from tests.network.contract import LinkContract
from tests.network.network_contract import opened
from tests.network.parties import Cluster
from tests.network.piped import Piped


class TestMemory(LinkContract):
    def connect(self, names: Sequence[str], session: str, timeout: float) -> Mapping[str, Links]:
        return connect(names, session, timeout)


class TestGrpc(LinkContract):
    @pytest.fixture(autouse=True)
    def clusters(self) -> Iterator[None]:
        """Closes what a test has connected."""
        with ExitStack() as self.stack:
            yield

    def connect(self, names: Sequence[str], session: str, timeout: float) -> Mapping[str, Links]:
        cluster = self.stack.enter_context(Cluster(*names, timeout=timeout))
        links = dict(zip(names, opened(*(cluster.network(name) for name in names)), strict=True))
        for end in links.values():
            end.session = session
        return links


class TestPipe(LinkContract):
    """The links of a child, relayed over those in memory."""

    def connect(self, names: Sequence[str], session: str, timeout: float) -> Mapping[str, Links]:
        return {name: Piped(links) for name, links in connect(names, session, timeout).items()}


class TestTcp(LinkContract):
    """What the measurements of networks run over."""

    def connect(self, names: Sequence[str], session: str, timeout: float) -> Mapping[str, Links]:
        places = map(Address.parse, free_addresses(len(names)))
        addresses = {name: (place.host, place.port) for name, place in zip(names, places, strict=True)}
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(
                zip(names, pool.map(lambda name: TcpLinks(name, addresses, session, timeout), names), strict=True)
            )


@settings(deadline=None)
@given(st.lists(st.from_regex(r"\A[ab]?0{0,2}[0-9]{0,2}\Z") | st.text("a01\n", max_size=4)))
def test_keys_are_a_set(keys: list[str]) -> None:
    known, reference = Keys(), set()
    for key in keys:
        assert (key in known) == (key in reference)
        assert known.add(key) == (key not in reference)
        reference.add(key)
    assert all(key in known for key in reference)


@settings(deadline=None)
@given(st.permutations(range(30)))
def test_a_counter_is_one_run_in_whatever_order_it_comes(order: list[int]) -> None:
    keys = Keys()
    assert all(keys.add(f"k{number}") for number in order)
    assert keys.runs == {"k": ([0], [30])}
    assert not any(keys.add(f"k{number}") for number in order)


def test_a_number_as_long_as_a_key_is_still_itself() -> None:
    keys, long = Keys(), "9" * 40
    assert keys.add(long)
    assert keys.add(long[1:])
    assert not keys.add(long)


def test_a_mailbox_refuses_what_has_arrived_before_even_if_it_was_taken() -> None:
    box = Mailbox()
    box.put("k1", b"first")
    for _ in range(2):
        with pytest.raises(ValueError, match="arrived before"):
            box.put("k1", b"again")
        if box._messages:
            assert box.take("k1", 0) == b"first"
