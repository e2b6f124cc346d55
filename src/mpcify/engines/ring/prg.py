"""Randomness that two parties draw from a key that they share: AES-128 in counter mode, one stream for each use.

What is uniformly random for one party is drawn and never sent. A stream's name is (program, set, step, purpose) and is
the upper 12 bytes of the counter block, so that no two uses meet whatever their lengths are, up to 2^36 bytes each.
"""

import math
import struct
from dataclasses import dataclass
from enum import IntEnum, unique

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY = 16  # bytes
_ZEROS = bytes(1 << 20)


@unique
class Purpose(IntEnum):
    """What a stream of a step is for."""

    MASK = 0  # D₀ or D₁: a party's half of an opening's mask
    FRESH = 1  # A, or a: what hides a message that opens nothing else
    HIGH = 2  # this party's share of h, the mask's upper bits
    WRAP = 3  # of m, its highest bit
    PRODUCT = 4  # of a product of the dealer's
    OTHER = 5  # of a second one
    BOTH = 6  # of a third one
    TABLE = 7  # of a rotated table
    WEIGHT = 8  # F, the mask of a weight
    INPUT = 9  # x₀, the client's part of an input that no party knows


@dataclass(frozen=True)
class Place:
    """The step of a set of randomness, of a program. Set 0 is for what all requests have in common."""

    program: int
    set: int
    step: int

    def nonce(self, purpose: Purpose) -> bytes:
        """The counter block at which a stream begins."""
        return struct.pack(">HIIHI", self.program, self.set, self.step, purpose, 0)


class Prg:
    """The streams of a key of 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self.algorithm = algorithms.AES128(key)

    def words(self, place: Place, purpose: Purpose, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform words (int64) of a shape, the first of the stream."""
        count = math.prod(shape)
        found = np.empty(8 * count + KEY, np.uint8)  # update_into asks for a block more than it writes
        encryptor = Cipher(self.algorithm, modes.CTR(place.nonce(purpose))).encryptor()
        view = memoryview(found.data)
        for start in range(0, 8 * count, len(_ZEROS)):
            size = min(len(_ZEROS), 8 * count - start)
            encryptor.update_into(_ZEROS if size == len(_ZEROS) else _ZEROS[:size], view[start:])
        return found[: 8 * count].view(np.int64).reshape(shape)


def derive(secret: bytes, session: str, use: str) -> bytes:
    """A key for one use in one session: HKDF-SHA-256 of a secret that two parties share."""
    info = f"mpcify ring 1\0{session}\0{use}".encode()
    return HKDF(SHA256(), KEY, None, info).derive(secret)
