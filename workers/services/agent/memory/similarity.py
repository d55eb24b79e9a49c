"""Vectors as they are stored, and how similar two of them are. Pure."""

import heapq
import math
from array import array
from collections.abc import Iterable
from struct import Struct

Row = tuple[int, float, bytes]  # its number, the length of its vector, and the vector
Found = tuple[float, int]  # similarity, and the number of a row

ROUNDING = 1e-9  # of a similarity


def length(vector: Iterable[float]) -> float:
    """Return the length of a vector as it is stored."""
    return math.hypot(*array("f", vector))


def encode(vector: Iterable[float]) -> bytes:
    """Return a vector as 32-bit numbers."""
    return array("f", vector).tobytes()


def decode(stored: bytes) -> list[float]:
    """Return a stored vector."""
    numbers = array("f")
    numbers.frombytes(stored)
    return numbers.tolist()


class Search:
    """The rows whose vectors are most similar to a vector, by the cosine of their angle.

    Args:
        vector: The vector; the rows' have its length.
        threshold: The lowest similarity.
        most: Rows that are found.
    """

    def __init__(self, vector: list[float], threshold: float, most: int) -> None:
        self._vector, self._length = tuple(vector), math.hypot(*vector)
        self._unpack = Struct(f"{len(vector)}f").unpack
        self._threshold, self._most = threshold - ROUNDING, most
        self._found: list[Found] = []  # a heap, the least similar first

    def look_at(self, rows: Iterable[Row]) -> None:
        """Compare with rows. Vectors of zeros have no direction, and are left out; of equally
        similar ones the first are found."""
        own, unpack, vector = self._length, self._unpack, self._vector
        for number, other, stored in rows if own and self._most > 0 else ():
            if not other:
                continue
            # By the law of cosines: the distance is the fastest that the library computes.
            distance = math.dist(vector, unpack(stored))
            cosine = (own * own + other * other - distance * distance) / (2 * own * other)
            similarity = min(max(cosine, -1.0), 1.0)
            if similarity < self._threshold:
                continue
            if len(self._found) < self._most:
                heapq.heappush(self._found, (similarity, -number))
            else:
                heapq.heappushpop(self._found, (similarity, -number))

    @property
    def found(self) -> list[Found]:
        """Return the rows, the most similar first."""
        return [(similarity, -number) for similarity, number in sorted(self._found, reverse=True)]
