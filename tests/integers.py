"""Python's own integers, which never wrap, as a ring has them."""


def wrapped(value: int, ring: int) -> int:
    """The signed representative of an integer mod 2^ring."""
    return (value + (1 << (ring - 1))) % (1 << ring) - (1 << (ring - 1))


def nearest(value: int, bits: int) -> int:
    """value / 2^bits to the nearest integer, halves up."""
    return (value + (1 << (bits - 1))) >> bits
