"""HOST:PORT: names, IPv4, and IPv6 in brackets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcify.cluster.addresses import Address

LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join).filter(lambda name: not name.split(".")[-1].isdecimal())
HOSTS = NAMES | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str).filter(lambda host: "%" not in host)
PORTS = st.integers(1, 65535)


@given(HOSTS, PORTS)
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@given(st.text(max_size=30) | st.text(":[].%0123456789abc-_/ \n", max_size=30))
def test_any_text_is_an_address_or_is_refused(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text, host, port",
    [
        ("owner.example:7000", "owner.example", 7000),
        ("Owner.Example:1", "owner.example", 1),
        ("mpcify_owner:65535", "mpcify_owner", 65535),
        ("192.0.2.1:7000", "192.0.2.1", 7000),
        ("[2001:DB8:0:0::1]:7000", "2001:db8::1", 7000),
        ("[::]:7000", "::", 7000),
    ],
)
def test_what_an_address_says(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no HOST:PORT"),
        ("owner", "no HOST:PORT"),
        (7000, "no HOST:PORT"),
        ("owner:", "port"),
        ("owner:0", "port"),
        ("owner:07000", "port"),
        ("owner:65536", "port"),
        ("owner:-1", "port"),
        ("owner:٣", "port"),
        ("owner:7000\n", "port"),
        (":7000", "host"),
        ("a b:7000", "host"),
        ("-owner:7000", "host"),
        ("owner-:7000", "host"),
        ("owner..example:7000", "host"),
        ("owner.:7000", "host"),
        ("ö.example:7000", "host"),
        ("a" * 64 + ":7000", "host"),
        (".".join(["a" * 50] * 6) + ":7000", "host"),
        ("http://owner:7000", "brackets"),
        ("1.2.3.256:7000", "no IPv4 address"),
        ("1.2.3:7000", "no IPv4 address"),
        ("::1:7000", "brackets"),
        ("[::1:7000", "brackets"),
        ("[owner]:7000", "no IPv6 address"),
        ("[fe80::1%eth0]:7000", "no IPv6 address"),
    ],
)
def test_what_is_no_address(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Address.parse(text)


@pytest.mark.parametrize("text, everywhere", [("0.0.0.0:1", True), ("[::]:1", True), ("127.0.0.1:1", False)])
def test_an_address_that_nobody_can_dial(text: str, everywhere: bool) -> None:
    assert Address.parse(text).everywhere is everywhere
