"""Vectors as bytes: float32, little-endian. Pure."""

import math
import sys
from array import array
from collections.abc import Sequence

DIMENSION_MOST = 16_000  # as pgvector


def packed(vector: Sequence[float]) -> bytes:
    """Return a vector's bytes.

    Raises:
        ValueError: It has too many numbers, or one that is none or too large.
    """
    check_dimension(len(vector))
    numbers = array("f", vector)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("an embedding has numbers that are not finite as float32")
    return _swapped(numbers).tobytes()


def unpacked(data: bytes) -> list[float]:
    """Return the vector of bytes."""
    numbers = array("f")
    numbers.frombytes(data)
    return _swapped(numbers).tolist()


def text_of(vector: Sequence[float]) -> str:
    """Return a vector as pgvector reads it."""
    return f"[{','.join(map(repr, map(float, vector)))}]"


def check_dimension(dimension: int) -> None:
    """Check that vectors of so many numbers can be stored.

    Raises:
        ValueError: They cannot.
    """
    if not 1 <= dimension <= DIMENSION_MOST:
        raise ValueError(f"an embedding has 1 to {DIMENSION_MOST} numbers, not {dimension}")


def _swapped(numbers: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
