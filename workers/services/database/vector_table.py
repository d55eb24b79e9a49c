"""The vectors of one table in memory, and which of them are nearest to another. Sizes are bytes.

It imports numpy, in the worker and at the first search alone: numpy starts threads.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

FIRST_ROWS = 256
ROW_BYTES = 300  # of a row besides its vector: its id and its place in the index


Key = tuple[str, str]  # memory and model


class VectorRow(NamedTuple):
    """A vector of a memory, as it is stored."""

    memory_id: str
    model: str
    room_id: str
    entity_id: str
    version: int
    data: bytes


class VectorTable:
    """Vectors of one dimension, normalized.

    Args:
        dimension: Numbers of each.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.version = 0  # the latest that is here
        self._matrix = np.empty((0, dimension), np.float32)
        self._keys: list[Key] = []  # of each row
        self._index: dict[Key, int] = {}
        self._models: set[str] = set()
        self._codes: dict[str, int] = {}  # of rooms, entities and models
        self._labels = np.empty((0, 3), np.int32)  # room, entity and model of each row, by code

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def size(self) -> int:
        """Return the bytes that it takes."""
        return size_of(len(self._matrix), self.dimension)

    def put(self, rows: Iterable[VectorRow]) -> None:
        """Add vectors, or replace them; one of zeros has no direction and is left out."""
        for row in rows:
            self.version = max(self.version, row.version)
            vector = np.frombuffer(row.data, "<f4")
            length = float(np.linalg.norm(vector.astype(np.float64)))
            key = (row.memory_id, row.model)
            if not length:
                self._remove(key)
                continue
            place = self._index.get(key)
            if place is None:
                place = self._index[key] = len(self._keys)
                self._keys.append(key)
                self._models.add(row.model)
                self._grow()
            self._matrix[place] = vector / length
            self._labels[place] = [self._code(row.room_id), self._code(row.entity_id),
                                   self._code(row.model)]  # fmt: skip

    def remove(self, keys: Iterable[Key]) -> None:
        """Remove vectors, if they are here."""
        for key in keys:
            self._remove(key)

    def remove_memories(self, memory_ids: Iterable[str]) -> None:
        """Remove all vectors of memories."""
        for memory_id in memory_ids:
            for model in self._models:
                self._remove((memory_id, model))

    def nearest(
        self,
        vector: list[float],
        most: int,
        threshold: float,
        room_id: str | None = None,
        entity_id: str | None = None,
        model: str | None = None,
    ) -> list[tuple[float, Key]]:
        """Return the nearest vectors: similarity, from 1 to -1, and key. A memory may have several.

        Args:
            vector: Of the table's dimension.
            most: At most so many.
            threshold: Lowest similarity.
            room_id: Only of this room.
            entity_id: Only of this sender.
            model: Only vectors of this model.
        """
        wanted = np.asarray(vector, np.float32)
        length = float(np.linalg.norm(wanted.astype(np.float64)))
        if not length or not self._keys or most <= 0:
            return []
        rows = self._matching((room_id, entity_id, model))
        matrix = self._matrix[: len(self._keys)]
        scores = (matrix if rows is None else matrix[rows]) @ (wanted / length)
        taken = min(len(scores), most)
        best = np.argpartition(-scores, taken - 1)[:taken] if taken else np.empty(0, np.intp)
        found: list[tuple[float, Key]] = []
        for place in best[np.argsort(-scores[best], kind="stable")]:
            similarity = min(float(scores[place]), 1.0)
            if similarity >= threshold:
                found.append((similarity, self._keys[int(place if rows is None else rows[place])]))
        return found

    def _matching(self, wanted: tuple[str | None, ...]) -> Any:
        """Return the rows that match, None for all."""
        mask = None
        for column, text in enumerate(wanted):
            if text is not None:
                here = self._labels[: len(self._keys), column] == self._codes.get(text, -1)
                mask = here if mask is None else mask & here
        return None if mask is None else np.flatnonzero(mask)

    def _remove(self, key: Key) -> None:
        """Remove a row; the last one takes its place."""
        place = self._index.pop(key, None)
        if place is None:
            return
        last = self._keys.pop()
        if last != key:
            end = len(self._keys)
            self._keys[place], self._index[last] = last, place
            self._matrix[place], self._labels[place] = self._matrix[end], self._labels[end]

    def _grow(self) -> None:
        if len(self._keys) > len(self._matrix):
            rows = max(FIRST_ROWS, len(self._matrix) + len(self._matrix) // 2)
            self._matrix = np.resize(self._matrix, (rows, self.dimension))
            self._labels = np.resize(self._labels, (rows, 3))

    def _code(self, text: str) -> int:
        return self._codes.setdefault(text, len(self._codes))


def size_of(rows: int, dimension: int) -> int:
    """Return the bytes that so many vectors take."""
    return rows * (4 * dimension + ROW_BYTES)
