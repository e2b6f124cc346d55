"""Frames on the wire: messages come out as they went in, and a reader takes nothing else than a peer may send."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.network import wire
from mpcify.network.links import Limits
from mpcify.network.wire import Goodbye, Reader, WireError, frames, goodbye, largest_frame, one_line
from tests.network.hostile import head

LIMITS = Limits(message=100, waiting=100, key=8, keys=5)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of a few bytes are already cut."""
    monkeypatch.setattr(wire, "PART", 7)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=100), max_size=5))
def test_messages_come_out_as_they_went_in(messages: dict[str, bytes]) -> None:
    reader = Reader(LIMITS)
    for key, message in messages.items():
        *before, last = frames(key, message)
        assert all(len(frame) <= largest_frame(LIMITS) for frame in (*before, last))
        assert [reader.read(frame) for frame in before] == [None] * len(before)
        assert reader.read(last) == (key, message)


known = st.sampled_from(
    [
        head(b"k1", 10) + b"0123456",
        wire.MORE + b"789",
        head(b"k2", 0),
        head(b"k3", 30) + b"0123456",
        wire.MORE + b"0123456",
        wire.MORE + b"01",
        goodbye("gone"),
    ]
)
cut = st.builds(lambda frame, length: frame[:length], known, st.integers(0, 30))
lengths = st.integers(0, 40) | st.integers(0, 2**32 - 1)
claims = st.builds(
    lambda key, size, length, rest: head(key, size, key_length=length) + rest,
    st.binary(max_size=40),
    lengths | st.integers(0, 2**64 - 1),
    lengths,
    st.binary(max_size=9),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(known | cut | claims | st.binary(max_size=40), max_size=12))
def test_whatever_comes_a_reader_gives_what_is_within_the_limits_or_refuses_it(stream: list[bytes]) -> None:
    reader, keys = Reader(LIMITS), []
    for frame in stream:
        try:
            found = reader.read(frame)
        except WireError:
            break
        assert sum(len(part) for part in reader.parts) <= LIMITS.message
        assert len(reader.parts) <= 1 + LIMITS.message // 7
        if isinstance(found, Goodbye):
            assert found.isprintable()
        elif found is not None:
            keys.append(found[0])
            assert len(found[0]) <= LIMITS.key
            assert len(found[1]) <= LIMITS.message
    assert len(keys) == len({*keys})


@pytest.mark.parametrize(
    "stream, reason",
    [
        ([b""], "no known kind"),
        ([b"\x09"], "no known kind"),
        ([wire.STANDS], "no known kind"),
        ([head(b"k", 101)], "101 bytes is larger than allowed"),
        ([head(b"k", 2**63)], "larger than allowed"),
        ([head(b"k" * 9, 1) + b"1"], "key is longer"),
        ([head(b"k", 1, key_length=33)], "key is longer than allowed"),
        ([head(b"k", 1, key_length=2)], "or than its frame"),
        ([head(b"\xff", 1) + b"1"], "no text"),
        ([head(b"k", 1)[:9]], "ends inside its head"),
        ([head(b"k", 3) + b"12"], "another length"),
        ([head(b"k", 3) + b"1234"], "another length"),
        ([head(b"k", 9) + b"123"], "another length"),
        ([head(b"k", 9) + b"1234567", wire.MORE + b"1"], "another length"),
        ([head(b"k", 9) + b"1234567", wire.MORE + b"123"], "another length"),
        ([head(b"k", 9) + b"1234567", wire.MORE], "another length"),
        ([head(b"k", 9) + b"1234567", head(b"l", 1) + b"1"], "inside another"),
        ([wire.MORE + b"1"], "has not begun"),
        ([head(b"k", 0), head(b"k", 0)], "twice"),
        ([head(b"k1", 0), head(b"k2", 0), head(b"k1", 0)], "twice"),
        ([head(bytes([65 + number]), 0) for number in range(6)], r"more different keys than allowed \(5\)"),
        ([head(b"k%d" % (2 * number), 0) for number in range(6)], "more different keys"),
        ([b"\x04" + b"a" * 1201], "reason is too long"),
    ],
)
def test_what_no_honest_peer_sends_is_refused_and_said(stream: list[bytes], reason: str) -> None:
    reader = Reader(LIMITS)
    for frame in stream[:-1]:
        reader.read(frame)
    with pytest.raises(WireError, match=reason):
        reader.read(stream[-1])


def test_a_counter_may_count_on_however_many_keys_are_allowed() -> None:
    reader = Reader(LIMITS)
    for number in range(1000):
        assert reader.read(head(b"k%d" % number, 0)) == (f"k{number}", b"")


def test_a_reason_is_one_line_that_can_be_printed() -> None:
    assert one_line("a\r\n\tb\x1b[31m\u202ec\x00") == "a b?[31m?c?"
    assert len(one_line("x" * 10_000)) == wire.REASON
    found = Reader(LIMITS).read(wire.GOODBYE + b"\xff\n\x1b[2Jover")
    assert isinstance(found, Goodbye)
    assert found == "\ufffd ?[2Jover"


def test_a_goodbye_may_come_inside_a_message() -> None:
    reader = Reader(LIMITS)
    reader.read(head(b"k", 9) + b"1234567")
    assert reader.read(goodbye("gone")) == "gone"


def test_a_frames_head_is_thirteen_bytes() -> None:
    """Other versions of this program read them: a change is a new version of the wire."""
    assert [*frames("ab", b"xyz")] == [struct.pack("<BIQ", 2, 2, 3) + b"abxyz"]
    assert wire.VERSION == "1"
