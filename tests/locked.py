"""Permissions that count, whoever runs the tests."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of Linux's capabilities; this thread
OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def locked(folder: Path, mode: int = 0) -> Iterator[None]:
    """While open, a folder has these permissions, and root passes by none of them in this thread."""
    libc, before = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 6)()
    assert libc.capget(HEADER, before) == 0
    old = folder.stat().st_mode & 0o7777
    folder.chmod(mode)
    less = (ctypes.c_uint32 * 6)(before[0] & ~OVERRIDES, *before[1:])  # the first word is what is in effect
    assert libc.capset(HEADER, less) == 0
    try:
        yield
    finally:
        assert libc.capset(HEADER, before) == 0
        folder.chmod(old)
