"""Frames: a JSON object and named arrays in one message of known length. No pickle.

Layout: two little-endian lengths (u32 of the JSON, u64 of the arrays), the JSON, the arrays as safetensors (nothing
if there are none). A reader refuses a length above its limit before it allocates anything.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

LENGTHS = struct.Struct("<IQ")
HEADER_LIMIT = 1 << 28
ARRAYS_LIMIT = 1 << 36

Frame = tuple[dict[str, Any], dict[str, np.ndarray]]


class FrameError(Exception):
    """Bytes that are no frame, or a frame above the limits."""


def write_frame(stream: BinaryIO, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes a frame to an unbuffered binary stream; the arrays are copied once."""
    text = json.dumps(header).encode()
    payload = save({name: np.asarray(array, order="C") for name, array in arrays.items()}) if arrays else b""
    for part in (LENGTHS.pack(len(text), len(payload)) + text, payload):
        view = memoryview(part)
        while view:
            view = view[stream.write(view) :]


def read_frame(stream: BinaryIO, header_limit: int = HEADER_LIMIT, arrays_limit: int = ARRAYS_LIMIT) -> Frame:
    """The next frame of a buffered binary stream. Raises EOFError if it ends, FrameError if that is no frame."""
    text_length, payload_length = LENGTHS.unpack(read_exactly(stream, LENGTHS.size))
    if text_length > header_limit or payload_length > arrays_limit:
        raise FrameError(f"a frame of {text_length} + {payload_length} bytes is above the limits")
    try:
        header = json.loads(read_exactly(stream, text_length))
        arrays = load(read_exactly(stream, payload_length)) if payload_length else {}
    except (ValueError, RecursionError, SafetensorError, KeyError):
        raise FrameError("the bytes are no frame") from None
    if not isinstance(header, dict):
        raise FrameError("the header is no JSON object")
    return header, arrays


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes of a stream. Raises EOFError if it ends before."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the stream ended")
    return data
