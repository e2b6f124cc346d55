"""Shares as bytes: what SPU gets of a peer's message is its contents; whatever else differs by a bit is refused."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcify.network.frames import read_frame, write_frame

Ask = Callable[..., dict]
PLAIN = {"protocol": "aby3", "ring": 64, "shape": [3, 5], "dtype": "float32", "chunk": None}
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Asks a process that makes and takes shares; it must outlive every share that it takes."""
    taker = [sys.executable, "-P", str(Path(__file__).with_name("taker.py"))]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(taker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(do: str, **request: object) -> dict:
            write_frame(process.stdin.raw, {"do": do, **request})  # type: ignore[union-attr]
            return read_frame(process.stdout)[0]  # type: ignore[arg-type]

        yield ask
        assert process.poll() is None, "the process that takes shares has ended"
        process.kill()


@pytest.fixture(scope="module")
def made(ask: Ask) -> tuple[bytes, list[int]]:
    """A share of 15 numbers as it is sent, and where what is checked ends, and contents begin, in turns."""
    share = ask("make", **PLAIN)
    return bytes.fromhex(share["message"]), share["places"]


def take(ask: Ask, message: bytes, shape: tuple[int, ...] = (3, 5), dtype: str = "float32") -> dict:
    return ask("take", message=message.hex(), shape=[*shape], dtype=dtype)


@pytest.mark.parametrize("protocol, ring", [("aby3", 64), ("aby3", 32), ("cheetah", 64), ("semi2k", 64)])
@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (3, 5), (2, 1, 300), (40, 50)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("chunk", [None, 64, 200])
def test_the_expected_layout_is_what_spu_makes(
    ask: Ask, protocol: str, ring: int, shape: tuple[int, ...], dtype: str, chunk: int | None
) -> None:
    share = ask("make", protocol=protocol, ring=ring, shape=[*shape], dtype=dtype, chunk=chunk)
    assert share["same"]
    assert len(share["message"]) == 2 * share["counted"], "the message is the share's bytes and nothing else"


def test_a_share_arrives_as_it_was_made(ask: Ask, made: tuple[bytes, list[int]]) -> None:
    message, places = made
    assert places[-1] == len(message)
    assert bytes.fromhex(take(ask, message)["back"]) == message


@quick
@given(data=st.data())
def test_a_flipped_bit_is_refused_unless_it_lies_in_the_contents(
    ask: Ask, made: tuple[bytes, list[int]], data: st.DataObject
) -> None:
    message, (_, start, end) = made
    place = data.draw(st.integers(0, start - 1) | st.integers(start, end - 1))
    wrong = bytearray(message)
    wrong[place] ^= 1 << data.draw(st.integers(0, 7))
    taken = take(ask, bytes(wrong))
    if place < start:
        assert taken["refused"]
    else:
        assert bytes.fromhex(taken["back"]) == wrong, "any contents are a share, and nothing else has changed"


@quick
@given(cut=st.integers(0, 10_000), more=st.binary(max_size=40))
def test_a_message_of_another_length_is_refused(ask: Ask, made: tuple[bytes, list[int]], cut: int, more: bytes) -> None:
    message = made[0][: cut % (len(made[0]) + 1)] + more
    taken = take(ask, message)
    assert ("refused" in taken) == (len(message) != len(made[0]) or message[: made[1][1]] != made[0][: made[1][1]])


@quick
@given(st.binary(max_size=400))
def test_bytes_that_are_no_share_are_refused(ask: Ask, message: bytes) -> None:
    assert "refused" in take(ask, message)


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize(
    "total, offset, content",
    [
        (240, 0, 50_000_000),
        (240, 0, 241),
        (240, 0, 239),
        (0, 0, 240),
        (1 << 62, 0, 240),
        (240, 1, 240),
        (480, 240, 240),
    ],
)
def test_a_chunk_that_lies_about_its_size_or_place_is_refused(
    ask: Ask, made: tuple[bytes, list[int]], total: int, offset: int, content: int
) -> None:
    """The first of these ends a process that gives it to SPU."""
    chunk = b"\x08" + varint(total) + (b"\x10" + varint(offset) if offset else b"") + b"\x1a" + varint(content)
    assert "refused" in take(ask, made[0][: made[1][0]] + chunk + b"A" * content)


def test_a_second_chunk_and_a_missing_one_are_refused(ask: Ask, made: tuple[bytes, list[int]]) -> None:
    message, places = made
    assert "refused" in take(ask, message + message[places[0] :])
    assert "refused" in take(ask, message[: places[0]])


@pytest.mark.parametrize(
    "other",
    [
        {"shape": [5, 3]},
        {"shape": [15]},
        {"shape": [3, 5, 1]},
        {"shape": [3, 4]},
        {"shape": []},
        {"shape": [0]},
        {"dtype": "int32"},
        {"ring": 32},
        {"protocol": "semi2k"},
        {"protocol": "cheetah"},
        {"ring": 32, "shape": [6, 5]},
        {"protocol": "semi2k", "shape": [6, 5]},
        {"chunk": 64},
    ],
    ids=str,
)
def test_a_share_of_another_shape_type_field_protocol_or_chunking_is_refused(ask: Ask, other: dict) -> None:
    share = ask("make", **{**PLAIN, **other})
    assert "refused" in take(ask, bytes.fromhex(share["message"]))


@pytest.mark.parametrize("expected", [((5, 3), "float32"), ((3, 5), "int32")])
def test_a_share_is_refused_if_another_was_expected(
    ask: Ask, made: tuple[bytes, list[int]], expected: tuple[tuple[int, ...], str]
) -> None:
    assert take(ask, made[0], *expected) == {"refused": "it has another type, visibility or shape"}
