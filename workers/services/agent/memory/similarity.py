"""Vectors as they are stored, and how similar two of them are. Pure."""

import heapq
import math
import operator
from array import array
from collections.abc import Iterable

Found = tuple[float, int]  # similarity, and the number of a row


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
        self._vector, self._length = vector, math.hypot(*vector)
        self._threshold, self._most = threshold, most
        self._found: list[Found] = []  # a heap, the least similar first

    def look_at(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Compare with rows: their numbers and stored vectors. Vectors of zeros have no direction,
        and are left out; of equally similar ones the first are found."""
        for number, stored in rows if self._length and self._most > 0 else ():
            other = array("f")
            other.frombytes(stored)
            lengths = self._length * math.hypot(*other)
            if not lengths:
                continue
            similarity = sum(map(operator.mul, self._vector, other)) / lengths
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
