"""Frames: what is written is read, and nothing else is."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mpcify.network.frames import FrameError, read_frame, write_frame

json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.text(), json_values, max_size=3),
    st.dictionaries(
        st.text(min_size=1, max_size=9), arrays(np.float32, array_shapes(min_dims=0, min_side=0)), max_size=3
    ),
)
def test_a_frame_is_read_as_it_was_written(header: dict, tensors: dict[str, np.ndarray]) -> None:
    tensors.pop("__metadata__", None)
    stream = io.BytesIO()
    write_frame(stream, header, tensors)
    write_frame(stream, {"next": 1})
    stream.seek(0)
    got_header, got_tensors = read_frame(stream)
    assert got_header == header
    assert got_tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(got_tensors[name], tensor)
        assert got_tensors[name].shape == tensor.shape
    assert read_frame(stream) == ({"next": 1}, {})
    with pytest.raises(EOFError):
        read_frame(stream)


def test_arrays_that_are_not_contiguous_arrive_as_they_look() -> None:
    stream, array = io.BytesIO(), np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_frame(stream, {}, {"x": array})
    stream.seek(0)
    np.testing.assert_array_equal(read_frame(stream)[1]["x"], array)


class SlowPipe(io.BytesIO):
    """A stream that takes three bytes at a time, as a pipe may."""

    def write(self, data: memoryview) -> int:
        return super().write(data[:3])


def test_a_stream_that_takes_part_of_a_frame_gets_the_rest() -> None:
    stream = SlowPipe()
    write_frame(stream, {"a": "b" * 50}, {"x": np.ones(20, np.float32)})
    stream.seek(0)
    header, tensors = read_frame(stream)
    assert header == {"a": "b" * 50}
    assert tensors["x"].sum() == 20


def test_a_stream_that_ends_inside_a_frame_is_refused() -> None:
    stream = io.BytesIO()
    write_frame(stream, {"a": 1}, {"x": np.ones(20, np.float32)})
    for length in (3, 14, len(stream.getvalue()) - 1):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(stream.getvalue()[:length]))


def frame(text: bytes, payload: bytes = b"") -> io.BytesIO:
    return io.BytesIO(struct.pack("<IQ", len(text), len(payload)) + text + payload)


@pytest.mark.parametrize(
    "stream",
    [
        frame(b"no JSON"),
        frame(b"\xff\xfe"),
        frame(b"[" * 100_000),
        frame(b"[1]"),
        frame(b"{}", b"no safetensors"),
        frame(b"{}", b"\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00]\x94K\x01a."),
    ],
    ids=["no JSON", "no text", "too deep", "no object", "no arrays", "a pickle"],
)
def test_bytes_that_are_no_frame_are_refused(stream: io.BytesIO) -> None:
    with pytest.raises(FrameError):
        read_frame(stream)


def test_a_length_above_the_limit_is_refused_before_it_is_read() -> None:
    for lengths in ((0xFFFFFFFF, 2**63), (0xFFFFFFFF, 0), (2, 2**63)):
        endless = io.BytesIO(struct.pack("<IQ", *lengths) + b"{}")
        with pytest.raises(FrameError, match="above the limits"):
            read_frame(endless)
        assert endless.read() == b"{}", "no more than the lengths is read"


def test_a_length_at_the_limit_is_read_and_one_above_it_is_not() -> None:
    stream = io.BytesIO()
    write_frame(stream, {"a": 1}, {"x": np.ones(2, np.float32)})
    header, arrays = struct.unpack("<IQ", stream.getvalue()[:12])
    read_frame(io.BytesIO(stream.getvalue()), header, arrays)
    for limits in ((header - 1, arrays), (header, arrays - 1)):
        with pytest.raises(FrameError, match="above the limits"):
            read_frame(io.BytesIO(stream.getvalue()), *limits)


def test_without_limits_of_its_own_a_reader_takes_a_quarter_gigabyte_of_json_and_64_of_arrays() -> None:
    for lengths, refused in (
        ((1 << 28, 1 << 36), EOFError),
        ((1 + (1 << 28), 0), FrameError),
        ((2, 1 + (1 << 36)), FrameError),
    ):
        with pytest.raises(refused):
            read_frame(io.BytesIO(struct.pack("<IQ", *lengths)))
